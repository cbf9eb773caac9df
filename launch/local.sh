#!/usr/bin/env bash
# Trains with N processes on this machine:
#
#   launch/local.sh N --config configs/asc.py [flags of htmaml_jax.train]
#
# Where there are N GPUs or more, each process sees one of its own. Process 0
# writes to the terminal, process i to launch-i.log. Ctrl-C and SIGTERM go to
# all processes, which save and end. If one fails, the others are stopped and
# its exit status is returned.
set -u

PORT=${PORT:-}     # where process 0 listens; empty: a free port
LOGS=${LOGS:-.}    # folder for launch-1.log, launch-2.log, ...
GRACE=${GRACE:-60} # seconds for the others once the first has been stopped

count=${1:-}
if ! [[ $count =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: $0 N --config FILE [flags of htmaml_jax.train]" >&2
  exit 2
fi
shift

listens() { (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
if [[ -z $PORT ]]; then
  # Below the ports that systems hand out to outgoing connections.
  while PORT=$((20000 + RANDOM % 10000)) && listens "$PORT"; do :; done
fi

# A list given in CUDA_VISIBLE_DEVICES is shared out; given empty, no GPU.
gpus=()
if [[ -n ${CUDA_VISIBLE_DEVICES-} ]]; then
  IFS=, read -ra gpus <<<"$CUDA_VISIBLE_DEVICES"
elif [[ -z ${CUDA_VISIBLE_DEVICES+given} ]]; then
  found=$(nvidia-smi --list-gpus 2>/dev/null | grep -c '^GPU ')
  for ((i = 0; i < found; i++)); do gpus+=("$i"); done
fi
if ((${#gpus[@]} && ${#gpus[@]} < count)); then
  echo "$0: $count processes, but only ${#gpus[@]} GPUs to share" >&2
fi

# ------------------------------------------------------------------- start
# The traps only take a note; the loop below passes it on.
asked=
trap 'asked=INT' INT
trap 'asked=TERM' TERM HUP

mkdir -p "$LOGS" || exit 2
pids=()
# Process groups of their own: else the terminal sends Ctrl-C to the processes
# too, and a second signal makes them stop without saving.
set -m
for ((i = 0; i < count; i++)); do
  (
    ((i == 0)) || exec >"$LOGS/launch-$i.log" 2>&1
    ((${#gpus[@]} < count)) || export CUDA_VISIBLE_DEVICES="${gpus[i]}"
    exec python -m htmaml_jax.train "$@" \
      "--distributed=127.0.0.1:$PORT,$count,$i"
  ) </dev/null &
  pids[i]=$!
done
set +m

# -------------------------------------------------------------------- wait
send() {
  for pid in ${pids[@]+"${pids[@]}"}; do kill -s "$1" -- "-$pid"; done
}

exec 3>&2 # for what is said here; notices of bash about jobs are dropped
status=0 stopping='' deadline=''
while ((${#pids[@]})); do
  if [[ -n $asked ]]; then
    send "$asked"
    asked='' stopping=yes
  fi
  for i in "${!pids[@]}"; do
    kill -0 "${pids[i]}" && continue
    wait "${pids[i]}"
    ended=$?
    unset 'pids[i]'
    ((status)) || status=$ended
    if ((ended)) && [[ -z $stopping ]]; then
      echo "$0: process $i ended with status $ended; stopping all" >&3
      ((i == 0)) || tail -n 5 "$LOGS/launch-$i.log" >&3
      send TERM
      stopping=yes
    fi
    # Whoever waits for a lost process in a collective hears no signal.
    [[ -z $stopping ]] || deadline=${deadline:-$((SECONDS + GRACE))}
  done
  if [[ -n $deadline ]] && ((${#pids[@]} && SECONDS >= deadline)); then
    echo "$0: killing what did not stop within $GRACE s" >&3
    send KILL
    deadline=''
  fi
  sleep 0.2
done 2>/dev/null
exit "$status"
