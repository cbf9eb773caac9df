#!/usr/bin/env bash
# Trains and evaluates on ESC-50, three seeds a system; skips what results/
# holds. Usage: benchmarks/asc.sh SPLIT SYSTEM [SYSTEM ...]
set -euo pipefail
split=$1
shift
for shot in 1 5; do
    for seed in 0 1 2; do
        for system in "$@"; do
            run=runs/$split-$system-s$seed
            config=configs/asc.py:system=$system,seed=$seed,split=$split
            result=results/esc50-$split/$system-5w${shot}s-s$seed.json
            [ -f "$result" ] && continue
            python -m htmaml_jax.train --config "$config" --workdir "$run"
            python -m htmaml_jax.evaluate "$run" --out results \
                --config.eval.episodes=2000 --config.eval.shot=$shot
        done
    done
done
