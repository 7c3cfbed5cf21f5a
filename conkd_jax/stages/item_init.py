"""Item rows of a dialogue teacher or student that start from the recommender's item vectors.

The map and the sum are in `models.item_rows`; this module says which vectors, and what a
fingerprint contains. All backbones score an item by its row of the embedding, so the start reaches
inputs and outputs of both. In KGSF's logits, E s_t + (W_V c_t + b_V) ⊙ copy_mask, it changes E
alone: W_V, which also scores items, starts at random as ever, although its input c_t contains the
recommender's pooled user vectors. The graph that KGSF reads stays as it is too.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from etils import epath

from conkd_jax.config import ItemInitConfig
from conkd_jax.data.corpus import Corpus
from conkd_jax.stages import recommender as recommenders
from conkd_jax.stages.any_recommender import AnyRecommender
from conkd_jax.stages.language_model import LanguageModel
from conkd_jax.typing import Float, PRNGKeyArray


@dataclasses.dataclass(frozen=True)
class ItemInitSettings:
    """Settings of a start from the recommender; there are none for rows that start from titles.

    A field at its default is None, so that models of versions without it keep their fingerprints.
    """

    item_init: str
    item_init_vectors: str | None
    item_init_map: str | None
    item_init_scale: float | None

    @classmethod
    def of(cls, config_part: ItemInitConfig) -> ItemInitSettings | None:
        """The settings of a config; None if its item rows start from titles."""
        if config_part.item_init == "title":
            return None
        default = ItemInitConfig()

        def unless_default(name):
            value = getattr(config_part, name)
            return None if value == getattr(default, name) else value

        return cls(
            config_part.item_init,
            unless_default("item_init_vectors"),
            unless_default("item_init_map"),
            unless_default("item_init_scale"),
        )

    @property
    def options(self) -> ItemInitConfig:
        """The options of the config, with the defaults."""
        given = dataclasses.asdict(self).items()
        return ItemInitConfig(**{name: value for name, value in given if value is not None})

    def applied(
        self, model: LanguageModel, rec_teacher: epath.Path, corpus: Corpus, rng: PRNGKeyArray
    ) -> LanguageModel:
        """A model with the vectors of a recommender added to its item rows.

        Args:
          model: the untrained model.
          rec_teacher: the artifact of the recommender.
          corpus: the corpus of both.
          rng: the key of a random map.
        """
        options, recommender = self.options, recommenders.load(rec_teacher, corpus)
        vectors = item_vectors(recommender, corpus, options.item_init_vectors)
        return model.with_item_vectors(
            vectors[model.vocabulary.item_candidates],
            rng,
            map_name=options.item_init_map,
            scale=options.item_init_scale,
        )


def item_vectors(
    recommender: AnyRecommender, corpus: Corpus, which: str
) -> Float[np.ndarray, "M _"]:
    """The vectors of all candidates, in their order.

    "kernel" gives the n_i of eq. 4's logits, p_u · n_i + b_i; "kernel_and_bias" gives [n_i; b_i/ρ],
    where ρ is the root mean square of the entries of p_u over the responses of dev. The logits are
    then products with [p_u; ρ], whose entries are all of one size. Without ρ, which is .14 on
    ReDial, the bias would be one entry among many and have next to no weight.

    Args:
      recommender: a trained recommender.
      corpus: its corpus.
      which: "kernel" or "kernel_and_bias".
    """
    kernel = np.asarray(recommender.head.kernel).T
    if which == "kernel":
        return kernel
    users = recommender.user_vectors(recommender.spec.contexts(corpus.dialogues("dev"), corpus))
    size = np.sqrt(np.square(users).mean()) if users.any() else np.float32(1)
    return np.column_stack([kernel, np.asarray(recommender.head.bias) / size])
