"""Takes trained runs out into the world: for transformers, the hub, other distillers, and releases.

    conkd-export --workdir=runs/dialogpt_hard-mini-seed0 --out=exported/dialogpt_hard

`conkd-export --help` lists what can be exported. `load_model` opens the models that transformers
does not have, such as KGSF.
"""

from conkd_jax.export.student import ExportError, load_model

__all__ = ["ExportError", "load_model"]
