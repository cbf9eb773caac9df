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

# All labels of a set at once, by a model of another fold, also with the names
# of labels among the examples: SET FOLD SYSTEM VARIANT OTHER WAY
whole() {
    local run=runs/intent-$1-fold$2-$3-s0 system=${3%%+*} change= mark
    local how names shot
    [[ $3 == *:* ]] && change=,${3#*:} && run=${run%%:*}-s0
    for how in "False 5" "False 10" "True 5" "True 10"; do
        read -r names shot <<< "$how"
        mark=$4
        [ "$names" = True ] && mark=$4+names
        compgen -G "results/intent-$5-all/$system+$mark-$6w${shot}s-*.json" \
            > /dev/null && continue
        exec 7> "$run.lock"
        flock --nonblock 7 || return 0
        [ -f "$run/result.json" ] || python -m htmaml_jax.train \
            --workdir "$run" --config.eval.split=validation \
            --config.eval.episodes=40 --config \
            "configs/intent.py:data.name=$1,data.fold=$2,system=$system$change"
        python -m htmaml_jax.evaluate "$run" --variant "$mark" --out results \
            --config.data.name="$5" --config.data.fold=0 \
            --config.data.label_names="$names" --config.eval.split=test \
            --config.eval.way="$6" --config.eval.shot="$shot" \
            --config.eval.query=10 --config.eval.episodes=20
    done
}

export SEEDS=0
for k in 1 2; do
    # shellcheck disable=SC2086  # several words
    fold $k "$frozen" protonet htmaml $rivals
done
# The step sizes that HT-MAML alone has, without a generator.
for k in 1 2; do
    fold $k proto-maml+fixed:inner.rates=fixed,inner.size=0.02
done
# BANKING77's second fold shares no name of an intent with CLINC150 but among
# its test classes.
mkdir -p runs
whole banking77 2 "$frozen" frozen clinc150 150
whole banking77 2 protonet from-banking77 clinc150 150
whole banking77 2 htmaml from-banking77 clinc150 150
whole banking77 1 "$frozen" frozen hwu64 64
whole banking77 1 htmaml from-banking77 hwu64 64
whole hwu64 1 "$frozen" frozen banking77 77
whole hwu64 1 htmaml from-hwu64 banking77 77
# The encoder itself in the base network, beside its vectors with as many
# updates.
beside() {
    SHOTS=1 EPISODES=200 JUDGE="--benchmark intent-encoder" \
        benchmarks/compare.sh "$1" intent-encoder "$2"
}
beside configs/intent.py \
    htmaml+vectors:outer.rate=1e-3,train.steps=100,train.tasks=4
beside configs/sentence.py htmaml
# The n-gram network, which needs no encoder.
words=()
for system in prototype protonet htmaml $rivals; do
    words+=("$system+ngrams:data.encoder=ngrams")
done
fold 1 "${words[@]}"
# From some languages to others.
SHOTS="1 5" benchmarks/compare.sh \
    configs/intent.py:data.name=xsid,data.encoder=ngrams xsid \
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
# Trained with transforms, judged without them: seeds 1 and 2 of vectors, seed
# 0 of n-grams.
export JUDGE=--config.eval.strength=0
for k in 1 2 3 4 5; do
    fold $k htmaml
done
SEEDS=0
fold 1 htmaml+ngrams:data.encoder=ngrams
SHOTS="1 5" benchmarks/compare.sh \
    configs/intent.py:data.name=xsid,data.encoder=ngrams xsid htmaml
