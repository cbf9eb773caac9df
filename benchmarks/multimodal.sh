#!/usr/bin/env bash
# One trunk for sounds, requests, hate speech and volumes, also with gradients
# weighted (uncertainty, gradient), beside a trunk each (own-trunk), a run each
# (alone), and a trunk that has not met the domain, of which all else is then
# trained (left-out): 600 tasks of every domain each.
# Skips what results/ holds; several copies may run side by side.
# Usage: HTMAML_DATA=... [SEEDS=...] benchmarks/multimodal.sh [KIND ...]
set -euo pipefail
cd "$(dirname "$0")/.."
# What the joint run makes of each domain, a run of its own takes as well.
declare -A files
while read -r part file; do
    [[ $file == *:* ]] && files[$part]=$file, || files[$part]=$file:
done < <(python -c '
from htmaml_jax import cli
for part in cli.read_config("configs/multimodal.py", [])[0].joint.parts:
    print(*part)')
parts="audio intent hate volumes"
same=train.steps=300,train.tasks=2,train.val_every=0.2
trunk='hyper/(block.*|norm|read_.*)/.*'
mkdir -p runs

# Whether results/ holds it: PART KIND SEED
known() {
    local mark=${2#joint}
    compgen -G "results/multimodal-$1/htmaml${mark:++$mark}-*-s$3.json" \
        > /dev/null
}

# Whether nobody else is at it: RUN
free() {
    exec 9> "$1.lock"
    flock --nonblock 9
}

# Trains a run that has not ended: RUN OPTION ...
learn() {
    compgen -G "$1/*result.json" > /dev/null ||
        compgen -G "$1/*/result.json" > /dev/null ||
        python -m htmaml_jax.train --workdir "$1" --config "${@:2}"
}

# Judges a run: RUN PART KIND SEED
judge() {
    known "${@:2}" || python -m htmaml_jax.evaluate "$1" --out results \
        --benchmark "multimodal-$2" --variant "${3#joint}"
}

for seed in ${SEEDS:-0}; do
    for kind in ${*:-joint own-trunk alone left-out uncertainty gradient}; do
        run=runs/multimodal-$kind-s$seed
        joint=configs/multimodal.py:seed=$seed,$same
        missing=
        for part in $parts; do
            known "$part" "$kind" "$seed" || missing="$missing $part"
        done
        case $kind in
            joint | own-trunk | uncertainty | gradient)
                [ -n "$missing" ] && free "$run" || continue
                case $kind in
                    joint) how= ;;
                    own-trunk) how=,joint.shared=False ;;
                    *) how=,joint.weigh=$kind ;;
                esac
                learn "$run" "$joint$how"
                for part in $missing; do
                    judge "$run/$part" "$part" "$kind" "$seed"
                done
                ;;
            alone | left-out)
                for part in $missing; do
                    free "$run-$part" || continue
                    options=("${files[$part]}seed=$seed,$same")
                    if [ "$kind" = left-out ]; then
                        others=${parts/$part/}
                        others=$(echo $others | tr ' ' +)
                        learn "$run-but-$part" "$joint,joint.only=$others"
                        options+=("--config.outer.frozen=$trunk"
                            "--config.hyper.pretrained=$run-but-$part")
                    fi
                    learn "$run-$part" "${options[@]}"
                    judge "$run-$part" "$part" "$kind" "$seed"
                done
                ;;
            *)
                echo "$kind is none of joint, own-trunk, alone, left-out," \
                    "uncertainty, gradient" >&2
                exit 2
                ;;
        esac
    done
done
