#!/usr/bin/env bash
# launch/local_processes.sh N ARGS...
#
# Runs `python -m conkd_jax.train ARGS...` in N processes on this machine. They form one run, like N
# hosts of a cluster. Each line of output is prefixed with its process, [0], [1], ... If a process
# fails, the script ends the others and returns the exit code of the failed one.
#
#   launch/local_processes.sh 2 --config=configs/dialogpt_hard.py:demo
#   JAX_NUM_CPU_DEVICES=4 launch/local_processes.sh 2 --config=configs/dialogpt_hard.py:demo
#   CONKD_PROGRAM=conkd_jax.evaluate launch/local_processes.sh 2 --workdir=runs/...
set -uo pipefail

usage="usage: launch/local_processes.sh N ARGS...   (N: number of processes, 1 or more)"
case "${1:-}" in
  '' | *[!0-9]* | 0) echo "$usage" >&2; exit 2 ;;
esac
num_processes=$1
shift

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || python=$(command -v "${PYTHON:-python3}") || {
  echo "no Python found: run 'make demo' once, or set PYTHON=/path/to/python" >&2
  exit 1
}

free_port='import socket; s = socket.socket(); s.bind(("localhost", 0)); print(s.getsockname()[1])'
export CONKD_COORDINATOR=localhost:${CONKD_PORT:-$("$python" -c "$free_port")}
export CONKD_NUM_PROCESSES=$num_processes
export PYTHONUNBUFFERED=1

# Each process is a job with its own process group, so that its children end with it. The `sed` that
# prefixes its lines ignores TERM, so that it can still print the last of them.
set -m
groups=()
end_all() {  # TERM, wait up to ten seconds, then KILL
  local group
  for group in "${groups[@]}"; do kill -TERM -- "-$group" 2>/dev/null; done
  for _ in $(seq 50); do
    jobs -r | grep -q . || return 0
    sleep 0.2
  done
  for group in "${groups[@]}"; do kill -KILL -- "-$group" 2>/dev/null; done
}
trap 'end_all; exit 130' INT
trap 'end_all; exit 143' TERM

for ((i = 0; i < num_processes; i++)); do
  (
    set -o pipefail
    trap : TERM  # the program receives TERM too, and this job ends when the program does
    CONKD_PROCESS_ID=$i "$python" -m "${CONKD_PROGRAM:-conkd_jax.train}" "$@" 2>&1 </dev/null |
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
      echo "launch/local_processes.sh: a process ended with exit code $code; ending the others" >&2
      end_all
      exit "$code"
    fi
  done
  running=(${still[@]+"${still[@]}"})
done
