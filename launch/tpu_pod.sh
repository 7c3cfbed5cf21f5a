#!/usr/bin/env bash
# launch/tpu_pod.sh NAME ZONE ARGS...
#
# Runs `python -m conkd_jax.train ARGS...` on every host of the TPU pod NAME: the same command
# everywhere, jax finds the other hosts by itself. The checkout must be on each host as ~/conkd_jax
# with its packages installed, and the artifacts must be where every host reads them: gs://.
# launch/README.md tells the whole way.
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
