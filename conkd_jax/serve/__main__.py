"""Serves trained runs: `python -m conkd_jax.serve --workdir=RUN`."""

from conkd_jax.serve.program import run

run()
