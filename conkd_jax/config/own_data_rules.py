"""What a corpus of one's own expects of the other options, and what only it reads."""

from __future__ import annotations

from conkd_jax.config.fields import Broken
from conkd_jax.config.options import Config

NAME = "custom"


def own_data_rules(config: Config) -> Broken:
    """What is wrong with the options of a corpus of one's own."""
    corpus = config.corpus
    if corpus.name == NAME and not corpus.raw_dir:
        new = "`conkd-data new DIR` writes one to start from"
        yield "corpus.raw_dir", f"the folder of your data with corpus.name={NAME} ({new})"
    if corpus.name != NAME and corpus.min_relation_share:
        yield "corpus.min_relation_share", f"0, as only corpus.name={NAME} reads another value"
