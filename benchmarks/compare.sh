#!/usr/bin/env bash
# Trains systems side by side and evaluates them on identical episodes; skips
# what results/ holds, so that it can be stopped and started again, and what
# another copy of it is working on: one per core may run.
# Usage: benchmarks/compare.sh CONFIG[:name=value,...] BENCHMARK SYSTEM ...
#   SYSTEM   see spec.sh
#   SEEDS, SHOTS, EPISODES, SERIES   variables; see below
#   WAY   classes of a test task, if not those that the config says
#   SETS   BENCHMARK=NAME ...: other data to judge on, by data.name
#   JUDGE   further options of evaluate
#   START   a SYSTEM from whose network all begin, seed by seed; trained when
#           a row needs it, and waited for while another copy trains it
# ESC-50: HTMAML_DATA=... SHOTS="1 5" SERIES="best latest" \
#     benchmarks/compare.sh configs/asc.py:split=metaaudio esc50-metaaudio \
#     maml htmaml
set -euo pipefail
# shellcheck source=benchmarks/spec.sh
. "$(dirname "$0")/spec.sh"
config=$1
benchmark=$2
shift 2
[[ $config == *.py ]] && config=$config:
[[ $config == *: ]] || config=$config,
tail=
[[ ${JUDGE:-} == *transductive=True* ]] && tail=-transductive
how=
# Written as evaluate names them: 0.5, not .50.
[[ ${JUDGE:-} =~ eval.strength=([0-9.]+) ]] && how=+strength${BASH_REMATCH[1]}
[[ ${JUDGE:-} =~ eval.finetune=([0-9]+) ]] && how+=+tuned${BASH_REMATCH[1]}
[[ ${JUDGE:-} =~ eval.finetune_bend=([0-9.]+) ]] && how+=+bent${BASH_REMATCH[1]}
mkdir -p runs

# A finished run has its result; training it again would only judge it again.
# Test tasks are for what comes then.
learn() {
    [ -f "$run/result.json" ] || python -m htmaml_jax.train \
        --workdir "$run" --config.eval.split=validation \
        --config.eval.episodes=40 --config "$config$fields"
}

# Trains START, if there is none yet, and says where it lies.
begin() {
    read_spec "$START"
    exec 8> "$run.lock"
    flock 8
    learn >&2 && echo "$run"
}

for seed in ${SEEDS:-0 1 2}; do
    for spec in "$@"; do
        read_spec "$spec"
        exec 9> "$run.lock"
        flock --nonblock 9 || continue
        for set in ${SETS:-$benchmark=}; do
            data=${set#*=}
            for shot in ${SHOTS:-1}; do
                for series in ${SERIES:-best}; do
                    mark=$variant$how
                    mark=${mark#+}
                    [ "$series" = latest ] && mark=${mark:+$mark+}latest
                    file=$system${mark:++$mark}-${WAY:-*}w${shot}s-s$seed
                    compgen -G "results/${set%%=*}/$file$tail.json" \
                        > /dev/null && continue
                    if [ -n "${START:-}" ] && [ ! -f "$run/result.json" ]; then
                        start=$(begin)
                        fields+=,net.pretrained=$start
                    fi
                    learn
                    # shellcheck disable=SC2086  # several words
                    python -m htmaml_jax.evaluate "$run" ${JUDGE:-} \
                        ${data:+--config.data.name="$data"} --out results \
                        --checkpoint "$series" --variant "$mark" \
                        --config.eval.split=test \
                        --config.eval.episodes="${EPISODES:-2000}" \
                        --config.eval.shot="$shot" \
                        ${WAY:+--config.eval.way="$WAY"}
                done
            done
        done
    done
done
