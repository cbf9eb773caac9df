#!/usr/bin/env bash
# Trains on ESC-50 with three seeds a system and evaluates 1- and 5-shot, the
# checkpoint best by validation and the latest; skips what results/ holds.
# Usage: HTMAML_DATA=... benchmarks/asc.sh SPLIT SYSTEM [SYSTEM ...]
set -euo pipefail
split=$1
shift
for shot in 1 5; do
    for seed in 0 1 2; do
        for system in "$@"; do
            run=runs/$split-$system-s$seed
            config=configs/asc.py:system=$system,seed=$seed,split=$split
            result=results/esc50-$split/$system+latest-5w${shot}s-s$seed.json
            [ -f "$result" ] && continue
            python -m htmaml_jax.train --config "$config" --workdir "$run"
            for options in "" "--checkpoint=latest --variant=latest"; do
                # shellcheck disable=SC2086
                python -m htmaml_jax.evaluate "$run" $options --out results \
                    --config.eval.episodes=2000 --config.eval.shot=$shot
            done
        done
    done
done
