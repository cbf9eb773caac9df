#!/usr/bin/env bash
# Makes a Cloud TPU VM, trains on all its workers, fetches the workdir and
# deletes the TPU. For TPU v6e and older; for TPU7x see gke/. Not run by us.
#
#   ZONE=us-east5-b WORKDIR=gs://BUCKET/asc-0 launch/tpu_vm.sh \
#     --config configs/asc.py [flags of htmaml_jax.train]
#
# The TPU is deleted however this ends, Ctrl-C included, unless KEEP=1 or it
# was there before. To go on, give the same command again: that needs a
# WORKDIR in a bucket, or the TPU still there.
set -u

NAME=${NAME:-htmaml}
ZONE=${ZONE:?give the zone of the TPU, for example ZONE=us-east5-b}
PROJECT=${PROJECT:-}                # empty: the one gcloud is set to
TYPE=${TYPE:-v6e-8}                 # what --accelerator-type takes
VERSION=${VERSION:-v2-alpha-tpuv6e} # of the system; it belongs to the type
SPOT=${SPOT:-0}                     # 1: cheaper, can be taken away
WORKDIR=${WORKDIR:-htmaml_run}      # gs://..., or a folder of worker 0
OUT=${OUT:-runs}                    # the workdir is copied to here
KEEP=${KEEP:-0}                     # 1: leave the TPU, which costs money

root=$(cd "$(dirname "$0")/.." && pwd) || exit 2
WORKDIR=${WORKDIR%/}
copy=$OUT/${WORKDIR##*/}
more=(--zone="$ZONE" --quiet)
[[ -z $PROJECT ]] || more+=(--project="$PROJECT")
tpu() { gcloud compute tpus tpu-vm "$@" "${more[@]}"; }
everywhere() { tpu ssh "$NAME" --worker=all --command="$1"; }

# --------------------------------------------------------------------- end
packed='' created='' training='' over=''
# shellcheck disable=SC2329 # the trap calls it
finish() {
  status=$?
  # A further Ctrl-C gives up what goes on here, but not the deletion.
  trap : INT TERM HUP
  rm -rf "$packed"
  if [[ -n $training && -z $over ]]; then
    echo "$0: asking the workers to save and stop" >&2
    everywhere "pid=\$(cat train.pid) && kill -TERM \$pid &&
      while kill -0 \$pid 2>/dev/null; do sleep 1; done"
    wait "$training"
  fi
  if [[ -n $training ]]; then
    mkdir -p "$copy"
    if [[ $WORKDIR == gs://* ]]; then
      gcloud storage rsync --recursive "$WORKDIR" "$copy"
    else
      tpu scp --recurse "$NAME:$WORKDIR" "$OUT" --worker=0
    fi || echo "$0: $WORKDIR could not be fetched" >&2
  fi
  trap '' INT TERM HUP
  if [[ -n $created && $KEEP != 1 ]] && tpu delete "$NAME"; then
    exit "$status"
  fi
  echo "$0: TPU $NAME was NOT deleted; while it is there it costs money:" >&2
  echo "  gcloud compute tpus tpu-vm delete $NAME ${more[*]}" >&2
  exit "$status"
}

# ------------------------------------------------------------------ create
listed=$(tpu list --format='value(name)') || exit 1
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
packed=$(mktemp -d) || exit 2
if grep -qE "(^|/)$NAME\$" <<<"$listed"; then
  echo "$0: TPU $NAME is there already; used, and not deleted at the end"
else
  created=yes
  spot=()
  [[ $SPOT != 1 ]] || spot=(--spot)
  tpu create "$NAME" --accelerator-type="$TYPE" --version="$VERSION" \
    ${spot[@]+"${spot[@]}"} || exit 1
fi
workers=$(tpu describe "$NAME" --format='value(networkEndpoints[].ipAddress)')
if [[ $workers == *[,\;]* && $WORKDIR != gs://* ]]; then
  echo "$0: the workers share no disk; give WORKDIR=gs://..." >&2
  exit 2
fi

# ----------------------------------------------------------------- install
# With .git, by which a run records the commit that it was trained with.
tar -czf "$packed/source.tgz" -C "$root" --exclude=./runs --exclude=./.venv \
  --exclude=./build --exclude=__pycache__ . || exit 2
tpu scp "$packed/source.tgz" "$NAME:" --worker=all || exit 1
# The system's Python may be older than 3.11; uv brings one.
everywhere 'mkdir -p source && tar -xzf source.tgz -C source &&
  PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --user --quiet uv &&
  { [ -d venv ] || python3 -m uv venv --quiet --python 3.12 venv; } &&
  python3 -m uv pip install --quiet --python venv/bin/python \
    --editable "./source[tpu]"' || exit 1

# ------------------------------------------------------------------- train
[[ $WORKDIR == gs://* ]] && where=$WORKDIR || where=../$WORKDIR
flags=$(printf ' %q' "--workdir=$where" "$@" --distributed=auto)
# In the background, so that a signal is heard at once; the pid is kept and
# the output goes to a file as well, so that a worker whose connection broke
# can still be asked to save.
everywhere "echo \$\$ >train.pid && . venv/bin/activate && cd source &&
  exec python -m htmaml_jax.train$flags > >(tee -p ../train.log) 2>&1" &
training=$!
wait "$training"
status=$?
over=yes
exit "$status"
