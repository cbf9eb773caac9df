#!/usr/bin/env bash
# Every comparison on intents in results/README.md; skips what results/ holds.
# Several copies may run side by side, each on its own core:
#   HTMAML_DATA=... taskset -c 0 benchmarks/intents.sh
set -euo pipefail
cd "$(dirname "$0")/.."
sets="banking77 clinc150 hwu64 liu"
frozen=prototype+frozen:outer.frozen=.*,train.steps=1
rivals="proto-maml mmaml maml anil tapt"

# Trains and judges systems on all sets: FOLD SYSTEM ...
fold() {
    for set in $sets; do
        SHOTS="1 5" EPISODES=600 benchmarks/compare.sh \
            "configs/intent.py:data.name=$set,data.fold=$1" \
            "intent-$set-fold$1" "${@:2}"
    done
}

# All labels of a set at once, by a model of another: RUN VARIANT SET WAY
whole() {
    [ -f "runs/$1/result.json" ] || return 0
    local system=${1#*fold?-}
    compgen -G "results/intent-$3-all/${system%%[+-]*}+$2-*.json" \
        > /dev/null ||
        python -m htmaml_jax.evaluate "runs/$1" --variant "$2" --out results \
            --config.data.name="$3" --config.data.fold=0 \
            --config.eval.split=test --config.eval.way="$4" \
            --config.eval.shot=5 --config.eval.query=10 \
            --config.eval.episodes=20
}

export SEEDS=0
for k in 1 2; do
    # shellcheck disable=SC2086  # several words
    fold $k "$frozen" protonet htmaml $rivals
done
# BANKING77's second fold shares no name of an intent with CLINC150 but among
# its test classes.
for kind in "prototype+frozen frozen" "protonet from-banking77" \
    "htmaml from-banking77"; do
    read -r system variant <<< "$kind"
    whole "intent-banking77-fold2-$system-s0" "$variant" clinc150 150
    whole "intent-banking77-fold1-$system-s0" "$variant" hwu64 64
    whole "intent-hwu64-fold1-$system-s0" "${variant/banking77/hwu64}" \
        banking77 77
done
# The n-gram network, which needs no encoder.
words=()
for system in prototype protonet htmaml $rivals; do
    words+=("$system+ngrams:data.encoder=ngrams")
done
fold 1 "${words[@]}"
# From some languages to others.
SHOTS="1 5" benchmarks/compare.sh \
    configs/intent.py:data.name=xsid,data.encoder=ngrams intent-xsid \
    prototype protonet htmaml maml
# Folds and seeds of HT-MAML and its closest rival.
SEEDS=0
for k in 3 4 5; do
    fold $k "$frozen" protonet htmaml
done
SEEDS="1 2"
for k in 1 2 3 4 5; do
    fold $k protonet htmaml
done
