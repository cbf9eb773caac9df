#!/usr/bin/env bash
# Trains systems side by side and evaluates them on identical episodes; skips
# what results/ holds, so that it can be stopped and started again, and what
# another copy of it is working on: one per core may run.
# Usage: benchmarks/compare.sh CONFIG[:name=value,...] BENCHMARK SYSTEM ...
#   SYSTEM   a preset, or preset+VARIANT:name=value,... for an ablation
#   SEEDS, SHOTS, EPISODES, SERIES   variables; see below
#   WAY   classes of a test task, if not those that the config says
#   SETS   BENCHMARK=NAME ...: other data to judge on, by data.name
#   JUDGE   further options of evaluate
#   START   a run per seed (START-s0, ...) from whose network to begin; what
#           another copy is still training is waited for
# ESC-50: HTMAML_DATA=... SHOTS="1 5" SERIES="best latest" \
#     benchmarks/compare.sh configs/asc.py:split=metaaudio esc50-metaaudio \
#     maml htmaml
set -euo pipefail
config=$1
benchmark=$2
shift 2
[[ $config == *.py ]] && config=$config:
[[ $config == *: ]] || config=$config,
tail=
[[ ${JUDGE:-} == *transductive=True* ]] && tail=-transductive
tuned=
[[ ${JUDGE:-} =~ eval.finetune=([0-9]+) ]] && tuned=tuned${BASH_REMATCH[1]}
mkdir -p runs
for seed in ${SEEDS:-0 1 2}; do
    start=${START:+$START-s$seed}
    if [ -n "$start" ]; then
        exec 8> "$start.lock"
        flock 8
        flock --unlock 8
    fi
    for spec in "$@"; do
        change=${spec#*:}
        [[ $spec == *:* ]] || change=
        name=${spec%%:*}
        system=${name%%+*}
        variant=${name#"$system"}
        run=runs/$benchmark-$name-s$seed
        fields=system=$system,seed=$seed${change:+,$change}
        fields+=${start:+,net.pretrained=$start}
        exec 9> "$run.lock"
        flock --nonblock 9 || continue
        for set in ${SETS:-$benchmark=}; do
            data=${set#*=}
            for shot in ${SHOTS:-1}; do
                for series in ${SERIES:-best}; do
                    mark=${variant#+}
                    mark=$mark${tuned:+${mark:++}$tuned}
                    [ "$series" = latest ] && mark=${mark:+$mark+}latest
                    file=$system${mark:++$mark}-${WAY:-*}w${shot}s-s$seed
                    compgen -G "results/${set%%=*}/$file$tail.json" \
                        > /dev/null && continue
                    # A finished run has its result; training it again would
                    # only judge it again. Test tasks are for what comes then.
                    [ -f "$run/result.json" ] || python -m htmaml_jax.train \
                        --workdir "$run" --config.eval.split=validation \
                        --config.eval.episodes=40 --config \
                        "${config}$fields"
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
