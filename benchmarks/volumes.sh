#!/usr/bin/env bash
# Every comparison on volumes in results/README.md; skips what results/ holds.
# Several copies may run side by side, each on its own core:
#   HTMAML_DATA=... taskset -c 0 benchmarks/volumes.sh
set -euo pipefail
cd "$(dirname "$0")/.."
volumes=configs/seg3d.py
organs="seg3d-hippocampus=hippocampus seg3d-acdc-rv=acdc"
compare=benchmarks/compare.sh
# What was the default: no bodies, half of the updates or one and a half times
# as many, HT-MAML with heads from prototypes and step sizes of all tasks.
early=data.name=synthseg+acdc,train.steps=400
late=data.name=synthseg+acdc,train.steps=1200
heads=hyper.head=prototype,hyper.sharpness=10.0,hyper.dropout=0.1
heads+=,hyper.scale=0.1,inner.rates=layer
export WAY=1

# 5-shot decides; then the curve.
export EPISODES=220 SETS=$organs
for shots in 5 "1 10"; do
    SHOTS=$shots SEEDS="0 1 2" $compare $volumes seg3d htmaml maml
done
SHOTS=5 SEEDS=0 $compare $volumes seg3d tapt mmaml
SHOTS="5 1" SEEDS=0 $compare $volumes seg3d \
    proto-maml:hyper.sharpness=10.0 htmaml+shuffled:embed.control=shuffled
# A hundred steps of Adam behind what was learned on tasks, or jointly.
SHOTS=5 SEEDS=0 JUDGE=--config.eval.finetune=100 \
    $compare $volumes seg3d htmaml maml finetune

# One subject in four contrasts; two structures, of networks that learned on
# one, which adapt to each alone.
SHOTS=1 JUDGE=--config.eval.query=3 SETS=seg3d-spinalcord=spinalcord \
    $compare $volumes seg3d htmaml maml
SHOTS=5 WAY=2 SEEDS=0 SETS=seg3d-hippocampus=hippocampus \
    $compare $volumes seg3d htmaml maml

export EPISODES=200
SHOTS="5 1 10" SEEDS="0 1 2" $compare $volumes seg3d \
    htmaml+short:"$early,$heads" maml+short:$early
SHOTS=5 SEEDS=0 $compare $volumes seg3d {tapt,mmaml}+short:$early
SHOTS="5 1" SEEDS=0 $compare $volumes seg3d \
    proto-maml+short:$early,hyper.sharpness=10.0
SHOTS=5 SEEDS="0 1" $compare $volumes seg3d \
    htmaml+long:"$late,$heads" maml+long:$late
# The same steps, also behind a network that learned nothing.
SHOTS=5 SEEDS=0 JUDGE=--config.eval.finetune=100 $compare $volumes seg3d \
    htmaml+short:"$early,$heads" {maml,finetune}+short:$early \
    finetune+scratch:data.name=synthseg+acdc,train.steps=1
