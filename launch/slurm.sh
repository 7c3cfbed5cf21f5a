#!/usr/bin/env bash
# sbatch launch/slurm.sh ARGS...
#
# Runs `python -m conkd_jax.train ARGS...` on every node of a Slurm job, one process per node, with
# all GPUs of the node. Set the size of the job with sbatch's options. Submit it from a checkout with
# its packages installed, on a file system that all nodes share.
#
#   sbatch --nodes=2 --gpus-per-node=8 --time=12:00:00 launch/slurm.sh --config=configs/dialogpt_hard.py
#
#SBATCH --job-name=conkd
#SBATCH --ntasks-per-node=1
#SBATCH --output=%x-%j.log
#SBATCH --requeue
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?submit this with sbatch}"

host=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# Jobs that share a node must not share a port.
export CONKD_COORDINATOR=$host:$((20000 + SLURM_JOB_ID % 20000))
export CONKD_NUM_PROCESSES=$SLURM_NTASKS

# SLURM_PROCID is set on each node by srun, so an inner shell has to read it.
srun --kill-on-bad-exit=1 bash -c \
  'CONKD_PROCESS_ID=$SLURM_PROCID exec .venv/bin/python -m conkd_jax.train "$@"' conkd "$@"
