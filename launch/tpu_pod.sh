#!/usr/bin/env bash
# launch/tpu_pod.sh [--dry-run] COMMAND NAME [ARGS...]
#
# Trains on a TPU slice or pod from nothing to a result. JAX finds the hosts of a slice itself. The
# commands, in the order in which they are used:
#
#   create NAME         asks for the TPU as a queued resource, and waits until it is there
#   install NAME        copies this checkout (its last commit) to every host, and installs it
#   run NAME ARGS...    starts `python -m conkd_jax.train ARGS...` on every host, detached
#   logs NAME           follows the log of host 0; Ctrl-C ends the following only
#   status NAME         says whether the TPU is there and the program runs, or how it ended
#   keep NAME ARGS...   create, install and run, again after each preemption, until the program ends
#   stop NAME           sends TERM: the program saves a checkpoint and ends
#   delete NAME         deletes the TPU and its request, which ends the costs
#
#   export ZONE=us-west4-a ACCELERATOR=v5litepod-16 SPOT=1 CONKD_RAW_DIR=gs://my-bucket/raw
#   launch/tpu_pod.sh keep my-pod --config=configs/dialogpt_hard.py \
#     --config.artifacts_dir=gs://my-bucket/artifacts --config.runs_dir=gs://my-bucket/runs
#
# Artifacts and runs must be where every host can read them: gs://. launch/README.md has a
# walk-through with costs.
#
# Variables:
#   ZONE           the zone (required)
#   PROJECT        the project; that of `gcloud config` if not set
#   ACCELERATOR    the type of the slice; v5litepod-16 if not set
#   RUNTIME        the image of its hosts; v2-alpha-tpuv5-lite if not set
#   SPOT           1: a spot TPU, which is cheaper and can be preempted
#   CONKD_PROGRAM  the Python module that runs; conkd_jax.train if not set
#   HOST_PYTHON    a Python of version 3.11 or newer on the hosts; python3.11 if not set
#   POLL_SECONDS   seconds between two looks at the state; 30 if not set
#   DRY_RUN        1: print the commands instead of running them
# Exported CONKD_*, JAX_*, XLA_*, HF_*, MALLOC_*, NCCL_*, WANDB_* and MLFLOW_* variables, NPROC,
# LIBTPU_INIT_ARGS and TF_CPP_MIN_LOG_LEVEL are passed on to the program, but no secrets: no variable
# whose name ends with TOKEN, KEY, PASSWORD, SECRET or CREDENTIALS.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/every_script.sh

accelerator=${ACCELERATOR:-v5litepod-16}
runtime=${RUNTIME:-v2-alpha-tpuv5-lite}
poll_seconds=${POLL_SECONDS:-30}

main() {
  case "${1:-}" in
    -h | --help) usage; exit 0 ;;
    --dry-run) dry_run=1; shift ;;
  esac
  local command=${1:-} name=${2:-}
  case "$command" in
    create | install | run | logs | status | keep | stop | delete) ;;
    '') refuse "expected a command: create, install, run, logs, status, keep, stop or delete" ;;
    *) refuse "expected create, install, run, logs, status, keep, stop or delete, got '$command'" ;;
  esac
  [ -n "$name" ] || refuse "$command: expected the name of the TPU"
  [ -n "${ZONE:-}" ] || refuse "expected ZONE, for example ZONE=us-west4-a, got none"
  shift 2
  case "$command" in
    run | keep) [ $# -gt 0 ] || refuse "$command $name: expected the arguments of $program, got none" ;;
    *) [ $# -eq 0 ] || refuse "$command $name: expected no more arguments, got '$*'" ;;
  esac
  where=(--zone="$ZONE")
  [ -z "${PROJECT:-}" ] || where+=(--project="$PROJECT")
  "$command" "$name" "$@"
}

# on WORKERS NAME SCRIPT: runs a shell script on hosts of the TPU: "all", or an index.
on() { do_or_show gcloud compute tpus tpu-vm ssh "$2" "${where[@]}" --worker="$1" --command="$3"; }

# state NAME: ACTIVE, WAITING_FOR_RESOURCES, SUSPENDED, …; NONE if nothing was asked for.
state() {
  gcloud compute tpus queued-resources describe "$1" "${where[@]}" --format='value(state.state)' \
    2>/dev/null || echo NONE
}

create() {
  local options=(--node-id="$1" --accelerator-type="$accelerator" --runtime-version="$runtime")
  [ "${SPOT:-0}" != 1 ] || options+=(--spot)
  do_or_show gcloud compute tpus queued-resources create "$1" "${where[@]}" "${options[@]}"
  [ "$dry_run" = 1 ] || await "$1"
}

# await NAME: waits until the TPU is there.
await() {
  local now before=
  while true; do
    now=$(state "$1")
    [ "$now" = "$before" ] || complain "$1: $now"
    before=$now
    case "$now" in
      ACTIVE) return 0 ;;
      FAILED | SUSPENDED | SUSPENDING | DELETING)
        complain "$1: the request ended as $now; '$0 delete $1' removes it"
        return 1
        ;;
    esac
    sleep "$poll_seconds"
  done
}

install() {
  local archive
  archive=$(mktemp -d)/conkd_jax.tar.gz
  do_or_show git archive --format=tar.gz --output="$archive" HEAD
  do_or_show gcloud compute tpus tpu-vm scp "$archive" "$1:conkd_jax.tar.gz" "${where[@]}" --worker=all
  on all "$1" "set -e; mkdir -p ~/conkd_jax; cd ~/conkd_jax; tar -xzf ~/conkd_jax.tar.gz
[ -e .venv ] || ${HOST_PYTHON:-python3.11} -m venv .venv
.venv/bin/python -m pip install --quiet --editable '.[tpu,kgsf]'"
  rm -rf "$(dirname "$archive")"
}

run() {
  local name=$1
  shift
  # The exit code is written under another name first: a file that is there is complete.
  on all "$name" "cd ~/conkd_jax
rm -f ~/conkd.exit
nohup setsid bash -c $(quoted \
    "env CONKD_COORDINATOR=auto $(forwarded) .venv/bin/python -m $(quoted "$program" "$@") & \
echo \$! >~/conkd.pid; wait \$!; echo \$? >~/conkd.exit.new; mv ~/conkd.exit.new ~/conkd.exit" \
  ) >~/conkd.log 2>&1 </dev/null &"
}

logs() { on 0 "$1" 'tail -n 100 -F ~/conkd.log'; }

# outcome NAME: the exit code of the program on host 0; "running", or "" if the host can't be asked.
outcome() { on 0 "$1" 'cat ~/conkd.exit 2>/dev/null || echo running' 2>/dev/null || true; }

status() {
  if [ "$dry_run" = 1 ]; then
    outcome "$1"
    return
  fi
  local now code
  now=$(state "$1")
  echo "TPU: $now"
  [ "$now" = ACTIVE ] || return 0
  code=$(outcome "$1")
  case "$code" in
    '') echo "program: its host can't be reached" ;;
    running) echo "program: running" ;;
    *) echo "program: ended with exit code $code" ;;
  esac
  on 0 "$1" 'tail -n 3 ~/conkd.log 2>/dev/null || true'
}

# await_end NAME: after a program was ended by TERM, waits for the preemption that sent it; fails if
# the TPU stays, because then a person has stopped the program.
await_end() {
  sleep "$poll_seconds"
  [ "$(state "$1")" != ACTIVE ]
}

keep() {
  local name=$1 now code
  shift
  if [ "$dry_run" = 1 ]; then
    create "$name"
    install "$name"
    run "$name" "$@"
    outcome "$name"
    return
  fi
  now=$(state "$name")
  [ "$now" != ACTIVE ] || code=$(outcome "$name")
  while true; do
    case "$now" in
      ACTIVE)
        case "${code:=$(outcome "$name")}" in
          running | '') ;;  # a host that can't be asked may be about to be preempted: look again
          143) await_end "$name" || exit 143 ;;
          *)
            complain "$name: the program ended with exit code $code; '$0 delete $name' ends the costs"
            exit "$code"
            ;;
        esac
        ;;
      NONE | FAILED | SUSPENDED | SUSPENDING | DELETING)
        complain "$name: $now, so it is asked for again"
        [ "$now" = NONE ] || delete "$name" || true
        if create "$name" && install "$name"; then run "$name" "$@"; fi
        ;;
      *) await "$name" && install "$name" && run "$name" "$@" || true ;;
    esac
    code=
    sleep "$poll_seconds"
    now=$(state "$name")
  done
}

# shellcheck disable=SC2016
stop() { on all "$1" 'kill -TERM $(cat ~/conkd.pid)'; }

delete() { do_or_show gcloud compute tpus queued-resources delete "$1" "${where[@]}" --force --quiet; }

main "$@"
