#!/usr/bin/env bash
# sbatch [OPTIONS OF SBATCH] launch/slurm.sh ARGS...
#
# Runs `python -m conkd_jax.train ARGS...` on every node of a Slurm job, one process per node, with
# all GPUs of the node. Set the size of the job with sbatch's options. Submit it from a checkout with
# its packages installed, on a file system that all nodes share.
#
#   sbatch --nodes=2 --gpus-per-node=8 --time=12:00:00 launch/slurm.sh --config=configs/dialogpt_hard.py
#
# Five minutes before the job's time limit Slurm sends TERM. The processes then save a checkpoint and
# end, and the job is put into the queue again; it resumes where it stopped, until it is done. The
# same happens when the job is preempted. `scancel --signal=TERM --batch JOB` stops it for good if
# REQUEUE=0. A config or data error ends the job.
#
# Variables (exported; sbatch passes all of them on):
#   CONKD_PROGRAM  the Python module that runs; conkd_jax.train if not set
#   PYTHON         the Python that runs it; .venv/bin/python if not set
#   REQUEUE        0: do not queue the job again at its time limit
#   DRY_RUN        1: print the commands instead of running them (also `bash launch/slurm.sh --dry-run ARGS...`)
#
#SBATCH --job-name=conkd
#SBATCH --ntasks-per-node=1
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:TERM@300
set -euo pipefail

# Slurm runs a copy of this file from its spool, so the folder comes from where it was submitted.
cd "${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")/..}"
source launch/every_script.sh

case "${1:-}" in
  -h | --help) usage; exit 0 ;;
  --dry-run) dry_run=1; shift ;;
  '') refuse "expected the arguments of $program, got none" ;;
esac
if [ "$dry_run" = 1 ] && [ -z "${SLURM_JOB_ID:-}" ]; then
  SLURM_JOB_ID=1 SLURM_NTASKS=${SLURM_NTASKS:-2} SLURM_JOB_NODELIST=${SLURM_JOB_NODELIST:-node1}
fi
[ -n "${SLURM_JOB_ID:-}" ] || refuse "expected a Slurm job: submit this script with sbatch"

host=$SLURM_JOB_NODELIST
if [ "$dry_run" != 1 ]; then
  host=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
  host=${host%%$'\n'*}
fi
# Jobs that share a node must not share a port.
export CONKD_COORDINATOR=$host:$((20000 + SLURM_JOB_ID % 20000))
export CONKD_NUM_PROCESSES=$SLURM_NTASKS

# SLURM_PROCID is set on each node by srun, so an inner shell has to read it.
# shellcheck disable=SC2016
command=(srun --kill-on-bad-exit=1 bash -c 'export CONKD_PROCESS_ID=$SLURM_PROCID; exec "$@"' conkd
  "${PYTHON:-.venv/bin/python}" -m "$program" "$@")
if [ "$dry_run" = 1 ]; then
  do_or_show "${command[@]}"
  exit 0
fi

stopped=0
"${command[@]}" &
step=$!
# srun would kill its processes at a TERM of its own; scancel's reaches the processes as it is.
trap 'stopped=1; scancel --signal=TERM "$SLURM_JOB_ID" || true' TERM
code=0
wait "$step" || code=$?
while [ "$stopped" = 1 ] && kill -0 "$step" 2>/dev/null; do  # the signal ended the first wait
  code=0
  wait "$step" || code=$?
done

if [ "$stopped" = 1 ] && [ "$code" -ne 0 ] && [ "${REQUEUE:-1}" = 1 ]; then
  echo "launch/slurm.sh: stopped at a checkpoint; job $SLURM_JOB_ID goes back into the queue" >&2
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
