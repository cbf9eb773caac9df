#!/usr/bin/env bash
# One trunk for sounds, requests, hate speech and volumes, beside a trunk each
# (own-trunk), a run each (alone), and a trunk that has not met the domain, of
# which all else is then trained (left-out): 600 tasks of every domain each.
# Skips what results/ holds; several copies may run side by side.
# Usage: HTMAML_DATA=... [SEEDS=...] benchmarks/multimodal.sh [KIND ...]
set -euo pipefail
cd "$(dirname "$0")/.."
declare -A files=([audio]=asc [intent]=intent [hate]=hate [volumes]=seg3d)
parts="audio intent hate volumes"
same=train.steps=300,train.tasks=2,train.val_every=0.2
trunk='hyper/(block.*|norm|read_.*)/.*'
mkdir -p runs

# Trains a run unless it is done or another copy is at it: RUN CONFIG ...
learn() {
    exec 9> "$1.lock"
    flock --nonblock 9 || return 1
    compgen -G "$1/*result.json" > /dev/null ||
        compgen -G "$1/*/result.json" > /dev/null ||
        python -m htmaml_jax.train --workdir "$1" --config "${@:2}"
}

# Judges a run: RUN PART KIND SEED
judge() {
    local mark=${3#joint}
    compgen -G "results/multimodal-$2/htmaml${mark:++$mark}-*-s$4.json" \
        > /dev/null ||
        python -m htmaml_jax.evaluate "$1" --out results \
            --benchmark "multimodal-$2" --variant "$mark"
}

for seed in ${SEEDS:-0}; do
    for kind in ${*:-joint own-trunk alone left-out}; do
        run=runs/multimodal-$kind-s$seed
        joint=configs/multimodal.py:seed=$seed,$same
        if [[ $kind == joint || $kind == own-trunk ]]; then
            shared=$([ "$kind" = joint ] && echo True || echo False)
            learn "$run" "$joint,joint.shared=$shared" || continue
            for part in $parts; do
                judge "$run/$part" "$part" "$kind" "$seed"
            done
            continue
        fi
        for part in $parts; do
            one=configs/${files[$part]}.py:seed=$seed,$same
            start=
            if [ "$kind" = left-out ]; then
                others=$(for x in $parts; do
                    [ "$x" = "$part" ] || echo "$x"
                done | paste -sd +)
                learn "$run-but-$part" "$joint,joint.only=$others" || continue
                start=--config.hyper.pretrained=$run-but-$part
            fi
            learn "$run-$part" "$one" ${start:+"$start"} \
                ${start:+--config.outer.frozen="$trunk"} || continue
            judge "$run-$part" "$part" "$kind" "$seed"
        done
    done
done
