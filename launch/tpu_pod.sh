#!/usr/bin/env bash
# launch/tpu_pod.sh NAME ZONE ARGS...
#
# Runs the same command, `python -m conkd_jax.train ARGS...`, on every host of the TPU pod NAME. JAX
# detects the other hosts itself. Each host needs the checkout as ~/conkd_jax with its packages
# installed, and artifacts must be in a place that every host can read: gs://. launch/README.md
# describes every step.
#
#   launch/tpu_pod.sh my-pod us-central2-b --config=configs/dialogpt_hard.py \
#     --config.artifacts_dir=gs://my-bucket/artifacts --config.runs_dir=gs://my-bucket/runs
set -euo pipefail

if [ $# -lt 3 ]; then
  echo "usage: launch/tpu_pod.sh NAME ZONE ARGS..." >&2
  exit 2
fi
name=$1 zone=$2
shift 2

gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="\
cd ~/conkd_jax && CONKD_COORDINATOR=auto CONKD_RAW_DIR=${CONKD_RAW_DIR:-} \
.venv/bin/python -m conkd_jax.train $(printf '%q ' "$@")"
