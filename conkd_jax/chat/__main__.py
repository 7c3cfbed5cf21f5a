"""Talks with a trained run in the terminal: `python -m conkd_jax.chat --workdir=RUN`."""

from conkd_jax.chat.program import run

run()
