#!/usr/bin/env bash
# Trains on ESC-50 with three seeds a system and evaluates 1- and 5-shot, the
# checkpoint best by validation and the latest; skips what results/ holds.
# Usage: HTMAML_DATA=... benchmarks/asc.sh SPLIT SYSTEM [SYSTEM ...]
set -euo pipefail
split=$1
shift
for seed in 0 1 2; do
    for system in "$@"; do
        run=runs/$split-$system-s$seed
        config=configs/asc.py:system=$system,seed=$seed,split=$split
        for shot in 1 5; do
            for series in best latest; do
                variant=
                [ $series = latest ] && variant=+latest
                name=$system$variant-5w${shot}s-s$seed.json
                [ -f "results/esc50-$split/$name" ] && continue
                # A finished run has its result; training it again would
                # only judge it again.
                [ -f "$run/result.json" ] || python -m htmaml_jax.train \
                    --config "$config" --workdir "$run"
                python -m htmaml_jax.evaluate "$run" --out results \
                    --checkpoint $series --variant "${variant#+}" \
                    --config.eval.episodes=2000 --config.eval.shot=$shot
            done
        done
    done
done
