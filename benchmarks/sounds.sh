#!/usr/bin/env bash
# Every comparison on sounds in results/README.md; skips what results/ holds.
# Several copies may run side by side, each on its own core:
#   HTMAML_DATA=... taskset -c 0 benchmarks/sounds.sh
# All systems begin from one network a seed, the row "prototype+latest": it has
# learned to tell all training classes apart, as what a run of configs/asc.py
# does first by itself; the tasks of its second part follow here alone.
set -euo pipefail
cd "$(dirname "$0")/.."
sounds=configs/asc.py:
export EPISODES=2000

first=prototype:train.steps=400

# The row of the network from which those of a benchmark begin: CONFIG BENCHMARK
first() {
    benchmarks/compare.sh "$1" "$2" $first
}

# Rows that begin from it: CONFIG BENCHMARK SYSTEM ...
rows() {
    START=$first benchmarks/compare.sh \
        "$1train.steps=200,outer.joint_until=0.0" "${@:2}"
}

# Animals, and MetaAudio's classes.
meta=${sounds}split=metaaudio,
export SEEDS=0
SERIES="best latest" SHOTS="1 5" first $sounds esc50-animals
SHOTS="1 5" rows $sounds esc50-animals htmaml protonet maml tapt mmaml \
    htmaml+no-mix:outer.mix=0.0
for SEEDS in 1 2; do
    SHOTS="1 5" first $sounds esc50-animals
    SHOTS="1 5" rows $sounds esc50-animals htmaml protonet
done
for SEEDS in 0 1 2; do
    SERIES="best latest" first $meta esc50-metaaudio
    rows $meta esc50-metaaudio htmaml tapt
done
SEEDS=0
rows $meta esc50-metaaudio maml protonet

# What hardens training and what helps the task embedding, one at a time.
rows $meta esc50-metaaudio \
    htmaml+no-mix:outer.mix=0.0 \
    htmaml+auxiliary-no-mix:outer.mix=0.0,outer.auxiliary=0.1 \
    htmaml+shuffle:outer.shuffle=0.5 \
    htmaml+exchange:outer.exchange.kind=class \
    htmaml+exchange-tasks:outer.exchange.kind=task
# What HT-MAML alone has by default.
rows $meta esc50-metaaudio tapt+mix:outer.mix=0.5
own=runs/esc50-metaaudio-pretrained
mkdir -p runs
exec 7> $own.lock
flock 7
[ -f $own/run.json ] ||
    python -m htmaml_jax.pretrain --config ${meta%,} --workdir $own
flock --unlock 7
still=outer.frozen=embed/body/.*
rows $meta esc50-metaaudio \
    htmaml+own:embed.body=own \
    htmaml+tuned:embed.body=own,embed.pretrained=$own \
    "htmaml+frozen:embed.body=own,embed.pretrained=$own,$still"
# And all at once.
all=embed.body=own,embed.pretrained=$own,outer.auxiliary=0.1
all+=,outer.exchange.kind=both,outer.shuffle=0.5
rows $meta esc50-metaaudio "htmaml+together:$all"

# Two data sets at once, and the second alone.
second=${sounds}data.name=commands,
SHOTS="1 5" first $second commands
SHOTS="1 5" rows $second commands htmaml maml
both=${meta}data.name=esc50-pack+commands,data.domains=2,
first $both esc50-pack+commands
rows $both esc50-pack+commands htmaml maml
# With as many tasks of each as a run of its own has.
START=prototype+as-many:train.steps=800 benchmarks/compare.sh \
    "${both}train.steps=400,outer.joint_until=0.0" esc50-pack+commands \
    htmaml+as-many

# From the pack's front end to that of waveforms: ESC-10's classes. Another
# copy may still be training the network.
ten=${sounds}split=esc10,
SHOTS="1 5" first $ten esc50-esc10
SHOTS="1 5" rows $ten esc50-esc10 htmaml
[ -f runs/esc50-esc10-htmaml-s0/result.json ] || exit 0
for shot in 1 5; do
    compgen -G "results/esc10/htmaml-*w${shot}s-s0.json" > /dev/null ||
        python -m htmaml_jax.evaluate runs/esc50-esc10-htmaml-s0 \
            --out results --config.data.name=esc10 --config.eval.split=test \
            --config.eval.shot=$shot \
            --config.eval.episodes=$EPISODES
done
