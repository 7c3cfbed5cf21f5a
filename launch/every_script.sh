# shellcheck shell=bash disable=SC2034
# What the scripts of this folder share. They source it; it does nothing alone.
#
# Variables of every script:
#   CONKD_PROGRAM  the Python module that runs; conkd_jax.train if not set
#   DRY_RUN        if 1, as with --dry-run: print the commands instead of running them

program=${CONKD_PROGRAM:-conkd_jax.train}
dry_run=${DRY_RUN:-0}

# usage: prints the header of the script, without its first line, its comment signs and its options
# of sbatch.
usage() { awk 'NR > 1 { if (!/^#/ || /^#SBATCH/) exit; sub(/^# ?/, ""); print }' "$0"; }

# complain MESSAGE...: one line on stderr that begins with the script's name.
complain() { printf '%s: %s\n' "launch/$(basename "$0")" "$*" >&2; }

# refuse MESSAGE...: complains, names --help, and ends the script with code 2, as the programs do.
refuse() {
  complain "$*. --help explains the script."
  exit 2
}

# do_or_show COMMAND...: runs a command; in a dry run prints it, quoted so that it could be pasted.
do_or_show() {
  if [ "$dry_run" = 1 ]; then
    quoted "$@"
    echo
  else
    "$@"
  fi
}

# quoted WORD...: the words, quoted for a shell, on one line.
quoted() {
  local word separator=
  for word in "$@"; do
    printf '%s%q' "$separator" "$word"
    separator=' '
  done
}

# forwarded_names: the variables that a program on another machine needs, one on each line: those
# that are exported here and that a page of the documentation names. The scripts set the address of
# the processes themselves. Secrets are not forwarded: command lines and JobSets can be read by others.
# PYTHONPATH and CUDA_VISIBLE_DEVICES name folders and GPUs of this machine.
forwarded_names() {
  local name
  for name in $(compgen -e | LC_ALL=C sort); do
    case $name in
      CONKD_PROGRAM | CONKD_COORDINATOR | CONKD_NUM_PROCESSES | CONKD_PROCESS_ID | CONKD_PORT) ;;
      *TOKEN | *KEY | *PASSWORD | *SECRET | *CREDENTIALS) ;;
      CONKD_* | JAX_* | XLA_* | LIBTPU_INIT_ARGS | HF_* | MALLOC_* | NCCL_* | NPROC | \
        TF_CPP_MIN_LOG_LEVEL | WANDB_* | MLFLOW_*)
        echo "$name"
        ;;
    esac
  done
}

# forwarded: the same as NAME=value words, quoted for a shell.
forwarded() {
  local name words=()
  while read -r name; do words+=("$name=${!name}"); done < <(forwarded_names)
  quoted ${words[@]+"${words[@]}"}
}
