#!/usr/bin/env bash
# Every comparison on sounds in results/README.md; skips what results/ holds.
# Several copies may run side by side, each on its own core:
#   HTMAML_DATA=... taskset -c 0 benchmarks/sounds.sh
# Pre-training comes before what needs it, so start the second copy later.
set -euo pipefail
cd "$(dirname "$0")/.."
compare=benchmarks/compare.sh
sounds=configs/asc.py
export EPISODES=2000

# MetaAudio's classes, 1-shot.
of=$sounds:split=metaaudio
$compare $of esc50-metaaudio htmaml maml tapt
SEEDS=0 $compare $of esc50-metaaudio protonet

# Animals.
SHOTS="1 5" $compare $sounds esc50-animals htmaml maml
SEEDS=0 SHOTS="1 5" $compare $sounds esc50-animals protonet mmaml tapt

# What hardens training and what helps the task embedding, one at a time.
SEEDS=0 $compare $of esc50-metaaudio \
    htmaml+mix:outer.mix=0.5 \
    htmaml+shuffle-mix:outer.mix=0.5,outer.shuffle=0.5 \
    htmaml+exchange:outer.exchange.kind=class \
    htmaml+exchange-tasks:outer.exchange.kind=task \
    htmaml+auxiliary:outer.auxiliary=0.1 \
    htmaml+scratch:outer.joint_until=0.0 \
    maml+scratch:outer.joint_until=0.0
start=runs/esc50-metaaudio-pretrained
[ -d $start ] || python -m htmaml_jax.pretrain --config $of --workdir $start
SEEDS=0 $compare $of esc50-metaaudio \
    htmaml+own:embed.body=own \
    htmaml+tuned:embed.body=own,embed.pretrained=$start \
    "htmaml+frozen:embed.body=own,embed.pretrained=$start,outer.frozen=embed/body/.*"

# Two data sets at once, and the second alone.
SEEDS=0 SHOTS="1 5" $compare $sounds:data.name=commands commands htmaml maml
SEEDS=0 $compare \
    $of,data.name=esc50-pack+commands,data.domains=2 esc50-pack+commands \
    htmaml maml

# From the pack's front end to that of waveforms: ESC-10's classes. Another
# copy may still be training the network.
SEEDS=0 SHOTS="1 5" $compare $sounds:split=esc10 esc50-esc10 htmaml
[ -f runs/esc50-esc10-htmaml-s0/result.json ] || exit 0
for shot in 1 5; do
    compgen -G "results/esc10/htmaml-*w${shot}s-s0.json" > /dev/null ||
        python -m htmaml_jax.evaluate runs/esc50-esc10-htmaml-s0 \
            --out results --config.data.name=esc10 --config.eval.shot=$shot \
            --config.eval.episodes=$EPISODES
done
