#!/usr/bin/env bash
# launch/local_processes.sh [--dry-run] N ARGS...
#
# Runs `python -m conkd_jax.train ARGS...` in N processes on this machine. They form one run, like N
# hosts of a cluster. Each line of output is prefixed with its process, [0], [1], ... If a process
# fails, the script ends the others and returns the exit code of the failed one. A process that has
# not ended ten seconds after TERM is killed.
#
#   launch/local_processes.sh 2 --config=configs/dialogpt_hard.py:demo
#   JAX_NUM_CPU_DEVICES=4 launch/local_processes.sh 2 --config=configs/dialogpt_hard.py:demo
#   CONKD_PROGRAM=conkd_jax.evaluate launch/local_processes.sh 2 --workdir=runs/...
#
# GPUs are shared out: with 8 GPUs and N = 2, each process has 4. N must divide their number.
#
# Variables:
#   CONKD_PROGRAM         the Python module that runs; conkd_jax.train if not set
#   PYTHON                the Python that runs it; .venv/bin/python if not set
#   CONKD_PORT            the port on which the processes meet; a free one if not set
#   CUDA_VISIBLE_DEVICES  the GPUs that are shared out; all of the machine if not set, none if empty
#   JAX_NUM_CPU_DEVICES   CPU devices of each process
#   DRY_RUN               1: print the commands instead of running them
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
source launch/every_script.sh

case "${1:-}" in
  -h | --help) usage; exit 0 ;;
  --dry-run) dry_run=1; shift ;;
esac
case "${1:-}" in
  '' | *[!0-9]* | 0) refuse "expected N, the number of processes, 1 or more, got '${1:-}'" ;;
esac
num_processes=$1
shift

python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || python=$(command -v "${PYTHON:-python3}") || {
  complain "no Python found: run 'make demo' once, or set PYTHON=/path/to/python"
  exit 1
}

# The GPUs, by the names that CUDA_VISIBLE_DEVICES takes; none without NVIDIA's driver.
gpus=()
if [ -n "${CUDA_VISIBLE_DEVICES+set}" ]; then
  IFS=, read -r -a gpus <<<"$CUDA_VISIBLE_DEVICES"
elif command -v nvidia-smi >/dev/null; then
  mapfile -t gpus < <(nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null)
fi
if [ $((${#gpus[@]} % num_processes)) -ne 0 ]; then
  refuse "expected a number of processes that divides ${#gpus[@]} GPUs (${gpus[*]}), got $num_processes;" \
    "CUDA_VISIBLE_DEVICES selects fewer GPUs"
fi
share=$((${#gpus[@]} / num_processes))

free_port='import socket; s = socket.socket(); s.bind(("localhost", 0)); print(s.getsockname()[1])'
export CONKD_COORDINATOR=localhost:${CONKD_PORT:-$("$python" -c "$free_port")}
export CONKD_NUM_PROCESSES=$num_processes
export PYTHONUNBUFFERED=1

# own_variables I: the variables that only process I has, as words for `env`.
own_variables() {
  echo "CONKD_PROCESS_ID=$1"
  if [ "$share" -gt 0 ]; then
    (IFS=, && echo "CUDA_VISIBLE_DEVICES=${gpus[*]:$1 * share:share}")
  fi
}

if [ "$dry_run" = 1 ]; then
  for ((i = 0; i < num_processes; i++)); do
    mapfile -t own < <(own_variables "$i")
    quoted env "CONKD_COORDINATOR=$CONKD_COORDINATOR" "CONKD_NUM_PROCESSES=$num_processes" \
      "${own[@]}" "$python" -m "$program" "$@"
    echo
  done
  exit 0
fi

# Each process is a job with its own process group, so that its children end with it. The `sed` that
# prefixes its lines ignores TERM, so that it can still print the last of them.
set -m
groups=()
end_all() {  # TERM, wait up to ten seconds, then KILL
  local group is_left
  for group in "${groups[@]}"; do kill -TERM -- "-$group" 2>/dev/null; done
  for _ in $(seq 50); do
    is_left=0
    for group in "${groups[@]}"; do  # `jobs -r` would not see what outlives its program
      if kill -0 -- "-$group" 2>/dev/null; then is_left=1; fi
    done
    [ "$is_left" = 1 ] || return 0
    sleep 0.2
  done
  for group in "${groups[@]}"; do kill -KILL -- "-$group" 2>/dev/null; done
}
trap 'end_all; exit 129' HUP
trap 'end_all; exit 130' INT
trap 'end_all; exit 143' TERM

for ((i = 0; i < num_processes; i++)); do
  (
    set -o pipefail
    trap : TERM  # the program receives TERM too, and this job ends when the program does
    mapfile -t own < <(own_variables "$i")
    env "${own[@]}" "$python" -m "$program" "$@" 2>&1 </dev/null |
      (trap '' TERM INT; exec sed -u "s/^/[$i] /")
  ) &
  groups+=($!)
done

running=("${groups[@]}")
while [ "${#running[@]}" -gt 0 ]; do
  sleep 0.2
  still=()
  for group in "${running[@]}"; do
    if kill -0 "$group" 2>/dev/null; then
      still+=("$group")
      continue
    fi
    wait "$group"
    code=$?
    if [ "$code" -ne 0 ]; then
      complain "a process ended with exit code $code; ending the others"
      end_all
      exit "$code"
    fi
  done
  running=(${still[@]+"${still[@]}"})
done
