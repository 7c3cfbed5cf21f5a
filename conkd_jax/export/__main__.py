"""Exports a trained run: `python -m conkd_jax.export --workdir=RUN --out=DIR`."""

from conkd_jax.export.program import run

run()
