"""Contents of metrics.json, made by hand, for the tests of everything that reads them."""

from conkd_jax.eval.document import EXTERNAL, metrics_document
from conkd_jax.eval.tables.beside import configured_paper_row
from conkd_jax.io.files import sha256_of_json

METRICS = {
    "rer@1": 0.01,
    "f1@50": 0.2,
    "rec_ratio": 0.5,
    "ppl": 10.0,
    "dist-2": 0.1,
    "lambda_r": 0.4,
}


def document(config="dialogpt_hard", seed=0, metrics=None, **changes) -> dict:
    """A run of a config of this checkout, which names its row of the paper."""
    backbone = changes.pop("backbone", "kgsf" if config.startswith("kgsf") else "dialogpt")
    preset = changes.pop("preset", "mini")
    row = "" if preset == EXTERNAL else configured_paper_row(config, preset, backbone)
    arguments = {
        "config_name": config,
        "preset": preset,
        "backbone": backbone,
        "split": "valid",
        "seed": seed,
        "config_sha256": sha256_of_json({"config": config, "seed": seed}),
        "counts": {"responses": 1234},
        "metrics": METRICS | (metrics or {}),
        "command": "python -m conkd_jax.train",
        "machine": {"platform": "Linux", "cpus": 2, "devices": "1 x cpu", "jax": "0.10.2"},
        "git": "abc1234",
        "paper_row": row,
    }
    return metrics_document(**(arguments | changes))


def older(document: dict) -> dict:
    """The document as a version without the field "paper_row" left it."""
    return {key: value for key, value in document.items() if key != "paper_row"}
