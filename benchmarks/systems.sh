#!/usr/bin/env bash
# Every comparison of systems in README.md; skips what results/ holds. Several
# copies may run side by side, each on its own core:
#   HTMAML_DATA=... taskset -c 0 benchmarks/systems.sh
set -euo pipefail
cd "$(dirname "$0")/.."
compare=benchmarks/compare.sh

# Functions: 1 to 13 minutes a run, the wide one 35.
functions=configs/regression.py
export SHOTS=10 EPISODES=4000
$compare $functions regression6-0-5 maml htmaml mmaml kml
for name in regression6-5-5 modes5; do
    SEEDS=0 $compare $functions:data.name=$name $name maml mmaml htmaml
done
# Two and three modes are soon learned: a quarter of the updates.
for name in modes2 modes3; do
    SEEDS=0 $compare $functions:data.name=$name,train.steps=5000 $name \
        maml mmaml htmaml
done
SEEDS=0 $compare $functions regression6-0-5 \
    anil boil fomaml reptile meta-sgd meta-curvature mamlpp alfa l2f tapt \
    hsml cnaps hypermaml tsa finetune multi-maml \
    maml+fixed:inner.rates=fixed \
    htmaml+no-inner:inner.steps=0 \
    htmaml+shuffled:embed.control=shuffled \
    htmaml+constant:embed.control=constant \
    htmaml+no-reconstruction:embed.reconstruct=0.0 \
    htmaml+transformer:hyper.trunk=transformer,hyper.dropout=0.1 \
    htmaml+statistics:embed.statistics=True \
    'htmaml+affine:hyper.rules=(("body/.*","affine"),)' \
    'htmaml+low-rank:hyper.rules=(("body/.*kernel","lowrank(2)"),)' \
    maml+wide:net.width=362,run.chunk=1

# Characters, 20 classes and, with the same networks, 5: 6 to 10 minutes.
export SHOTS=1 EPISODES=600
for way in 20 5; do
    WAY=$way $compare configs/omniglot.py omniglot maml htmaml
    SEEDS=0 WAY=$way $compare configs/omniglot.py omniglot protonet proto-maml
done

# A norm under which queries may see each other, and what that is worth.
for judge in "" --config.eval.transductive=True; do
    SEEDS=0 WAY=20 JUDGE=$judge $compare configs/omniglot.py omniglot \
        maml+support-norm:net.norm=support htmaml+support-norm:net.norm=support
done

# The mixture: 5 to 25 minutes a run.
export SHOTS="1 5" EPISODES=2000
$compare configs/mixture.py mixture mmaml htmaml
SEEDS=0 $compare configs/mixture.py mixture \
    maml l2f kml tapt multi-maml protonet proto-maml \
    htmaml+shuffled:embed.control=shuffled \
    htmaml+constant:embed.control=constant \
    mmaml+prototype-mix:hyper.head=prototype,hyper.sharpness=30.0,outer.mix=0.5
