#!/usr/bin/env bash
# Trains systems on hate speech in six languages and judges them in others, as
# README.md says; skips what results/ holds.
# Usage: HTMAML_DATA=... benchmarks/hate.sh SYSTEM ...
#   SYSTEM   see spec.sh
#   SEEDS, SUPPORTS   variables: training seeds, what is adapted to
set -euo pipefail
# shellcheck source=benchmarks/spec.sh
. "$(dirname "$0")/spec.sh"
benchmark=hate
mkdir -p runs
domains="hate-ar hate-hi hatecheck-nl hatecheck-it hatecheck-pl hatecheck-es"
declare -A marks=([own]="" [train]=+zero-shot [none]=+unadapted
    [pseudo]=+self-training)
for seed in ${SEEDS:-0}; do
    for spec in "$@"; do
        read_spec "$spec"
        exec 9> "$run.lock"
        flock --nonblock 9 || continue
        # French chooses; the languages of the test are met once, below.
        [ -f "$run/result.json" ] || python -m htmaml_jax.train \
            --workdir "$run" --config.eval.split=validation \
            --config.eval.domain=hate-fr \
            --config "configs/hate.py:$fields"
        for support in ${SUPPORTS:-own train pseudo}; do
            for domain in $domains; do
                # HateCheck is for tests alone: nothing of it is support.
                [[ $support:$domain == train:* || $domain == hate-* ]] ||
                    continue
                file=$name${marks[$support]}-2w*s-s$seed.json
                compgen -G "results/$domain/$file" > /dev/null ||
                    python -m htmaml_jax.evaluate "$run" --out results \
                        --variant "${variant#+}" --config.eval.split=test \
                        --config.eval.domain="$domain" \
                        --config.eval.support="$support"
            done
        done
    done
done
