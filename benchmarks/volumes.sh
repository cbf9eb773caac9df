#!/usr/bin/env bash
# Every comparison on volumes in results/README.md; skips what results/ holds.
# Several copies may run side by side, each on its own core:
#   HTMAML_DATA=... taskset -c 0 benchmarks/volumes.sh
set -euo pipefail
cd "$(dirname "$0")/.."
volumes=configs/seg3d.py
organs="seg3d-hippocampus=hippocampus seg3d-acdc-rv=acdc"
compare=benchmarks/compare.sh
# HT-MAML with low-rank matrices of convolutions, as it was before.
matrices='htmaml+low-rank:hyper.rules=(("body/conv_.*/kernel","lowrank(2)"),'
matrices+='("body/norm_.*","affine"),("head/kernel","rows"))'
export EPISODES=200

# 5-shot decides; then the curve.
for shots in 5 "1 10"; do
    export SHOTS=$shots WAY=1
    SEEDS=0 SETS=$organs $compare $volumes seg3d htmaml maml tapt mmaml \
        proto-maml:hyper.sharpness=10.0
    SEEDS="1 2" SETS=$organs $compare $volumes seg3d htmaml maml
    SEEDS="0 1 2" SETS=$organs $compare $volumes seg3d "$matrices"
done

# A hundred steps of Adam behind what each has learned; the last two begin
# with the network of joint training, and with one that learned nothing.
SHOTS=5 JUDGE=--config.eval.finetune=100 SEEDS=0 SETS=$organs \
    $compare $volumes seg3d htmaml maml finetune finetune+scratch:train.steps=1

# One subject in four contrasts.
SHOTS=1 JUDGE=--config.eval.query=3 SETS=seg3d-spinalcord=spinalcord \
    $compare $volumes seg3d htmaml maml
# Two structures, of networks that learned on one, which adapt to each alone,
# or on two; and three times as much training.
SHOTS=5 WAY=2 SEEDS=0 SETS=seg3d-hippocampus=hippocampus \
    $compare $volumes seg3d {htmaml,maml}+long:train.steps=1200 \
    {htmaml,maml} {htmaml,maml}+pairs:data.way=2
SHOTS="5 1" WAY=1 SEEDS="0 1" SETS=$organs \
    $compare $volumes seg3d {htmaml,maml}+long:train.steps=1200
