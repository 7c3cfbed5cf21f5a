#!/usr/bin/env bash
# launch/gke.sh [--dry-run] NAME ARGS...
#
# Runs `python -m conkd_jax.train ARGS...` on the hosts of a TPU slice of a GKE cluster, as a JobSet
# named NAME (the cluster needs the JobSet operator). If a host is lost or preempted, the JobSet starts
# all of them again, and the run resumes from its last checkpoint. --dry-run prints the JobSet.
#
#   docker build -f launch/Dockerfile -t REGION-docker.pkg.dev/PROJECT/REPO/conkd_jax . && docker push ...
#   IMAGE=REGION-docker.pkg.dev/PROJECT/REPO/conkd_jax launch/gke.sh my-run \
#     --config=configs/dialogpt_hard.py \
#     --config.artifacts_dir=gs://my-bucket/artifacts --config.runs_dir=gs://my-bucket/runs
#   kubectl logs --follow -l jobset.sigs.k8s.io/jobset-name=my-run,batch.kubernetes.io/job-completion-index=0
#   kubectl delete jobset my-run
#
# Variables:
#   IMAGE            the container image (required); launch/Dockerfile makes it
#   ACCELERATOR      the node pool's gke-tpu-accelerator; tpu-v5-lite-podslice if not set
#   TOPOLOGY         its gke-tpu-topology; 4x4 if not set
#   HOSTS            number of hosts of the slice; 4 if not set
#   CHIPS            TPU chips of a host; 4 if not set
#   SPOT             1: only on spot nodes
#   RESTARTS         how often the JobSet may start again; 100 if not set
#   SERVICE_ACCOUNT  the Kubernetes service account that may read and write the bucket; none if not set
#   CONKD_PROGRAM    the Python module that runs; conkd_jax.train if not set
#   DRY_RUN          1: print the JobSet instead of applying it
# Exported CONKD_*, JAX_*, XLA_*, HF_*, MALLOC_*, NCCL_*, WANDB_* and MLFLOW_* variables, NPROC,
# LIBTPU_INIT_ARGS and TF_CPP_MIN_LOG_LEVEL are passed on to the program, but no secrets: no variable
# whose name ends with TOKEN, KEY, PASSWORD, SECRET or CREDENTIALS.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/every_script.sh

case "${1:-}" in
  -h | --help) usage; exit 0 ;;
  --dry-run) dry_run=1; shift ;;
esac
name=${1:-}
[[ "$name" =~ ^[a-z]([-a-z0-9]{0,40}[a-z0-9])?$ ]] ||
  refuse "expected a name of at most 42 lower-case letters, digits and hyphens, got '$name'"
shift
[ $# -gt 0 ] || refuse "expected the arguments of $program, got none"
[ -n "${IMAGE:-}" ] || refuse "expected IMAGE, the container image, got none"

# text WORD: the word as a string of JSON, which is one of YAML as well.
text() {
  local word=${1//\\/\\\\}
  word=${word//\"/\\\"}
  word=${word//$'\n'/\\n}
  word=${word//$'\t'/\\t}
  printf '"%s"' "$word"
}

jobset() {
  local word variable
  cat <<YAML
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: $name
spec:
  failurePolicy:
    maxRestarts: ${RESTARTS:-100}
    rules:  # a wrong config is as wrong the next time
    - action: FailJobSet
      onJobFailureReasons: [PodFailurePolicy]
  replicatedJobs:
  - name: slice
    replicas: 1
    template:
      spec:
        parallelism: ${HOSTS:-4}
        completions: ${HOSTS:-4}
        backoffLimit: 0
        podFailurePolicy:
          rules:
          - action: FailJob
            onExitCodes: {containerName: conkd, operator: In, values: [2]}
        template:
          spec:
            restartPolicy: Never
            terminationGracePeriodSeconds: 300
YAML
  [ -z "${SERVICE_ACCOUNT:-}" ] || echo "            serviceAccountName: $(text "$SERVICE_ACCOUNT")"
  cat <<YAML
            nodeSelector:
              cloud.google.com/gke-tpu-accelerator: $(text "${ACCELERATOR:-tpu-v5-lite-podslice}")
              cloud.google.com/gke-tpu-topology: $(text "${TOPOLOGY:-4x4}")
YAML
  [ "${SPOT:-0}" != 1 ] || echo '              cloud.google.com/gke-spot: "true"'
  cat <<YAML
            containers:
            - name: conkd
              image: $(text "$IMAGE")
              command: ["python", "-m", $(text "$program")]
              args:
YAML
  for word in "$@"; do echo "              - $(text "$word")"; done
  cat <<YAML
              env:
              - {name: CONKD_COORDINATOR, value: auto}
YAML
  while read -r variable; do
    echo "              - {name: $variable, value: $(text "${!variable}")}"
  done < <(forwarded_names)
  cat <<YAML
              resources:
                requests: {google.com/tpu: ${CHIPS:-4}}
                limits: {google.com/tpu: ${CHIPS:-4}}
YAML
}

if [ "$dry_run" = 1 ]; then
  jobset "$@"
else
  jobset "$@" | kubectl apply -f -
fi
