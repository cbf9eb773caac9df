#!/usr/bin/env bash
# Every comparison on volumes in results/README.md; skips what results/ holds.
# Several copies may run side by side, each on its own core:
#   HTMAML_DATA=... taskset -c 0 benchmarks/volumes.sh
set -euo pipefail
cd "$(dirname "$0")/.."
volumes=configs/seg3d.py
organs="seg3d-hippocampus=hippocampus seg3d-acdc-rv=acdc"
compare=benchmarks/compare.sh
# Half of the updates and no bodies, with heads from prototypes.
short=data.name=synthseg+acdc,train.steps=400
heads=hyper.head=prototype,hyper.sharpness=10.0,hyper.dropout=0.1
heads+=,hyper.scale=0.1,inner.rates=layer
export EPISODES=220

# 5-shot decides; then the curve.
for shots in 5 "1 10"; do
    export SHOTS=$shots WAY=1 SETS=$organs
    SEEDS="0 1 2" $compare $volumes seg3d htmaml maml
    SEEDS=0 $compare $volumes seg3d tapt mmaml proto-maml:hyper.sharpness=10.0 \
        htmaml+shuffled:embed.control=shuffled htmaml+layer:inner.rates=layer
    EPISODES=200 SEEDS="0 1 2" $compare $volumes seg3d \
        "htmaml+short:$short,$heads" "maml+short:$short"
done

# A hundred steps of Adam behind what each has learned; the last two begin
# with the network of joint training, and with one that learned nothing.
SHOTS=5 JUDGE=--config.eval.finetune=100 SEEDS=0 \
    $compare $volumes seg3d htmaml finetune finetune+scratch:train.steps=1 maml

# One subject in four contrasts; two structures, of networks that learned on
# one, which adapt to each alone.
SHOTS=1 SEEDS=0 JUDGE=--config.eval.query=3 SETS=seg3d-spinalcord=spinalcord \
    $compare $volumes seg3d htmaml maml
SHOTS=5 WAY=2 SEEDS=0 SETS=seg3d-hippocampus=hippocampus \
    $compare $volumes seg3d htmaml maml
