"""RecInDial: DialoGPT that also reads a recommender's vectors of the items mentioned so far.

Words, rows and weights are those of the backbone `dialogpt`; a row also has the mentioned items of
each of its responses. The node vectors come from the trained recommender. They are computed once,
when the model is built, and saved with it as frozen arrays.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from conkd_jax.artifacts.fingerprint import view
from conkd_jax.config import Config
from conkd_jax.data.corpus import Corpus, Dialogue
from conkd_jax.data.recommender_inputs import build_recommender_contexts
from conkd_jax.data.rows.dialogue_entities import DialogueEntityRows
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.models import recindial
from conkd_jax.stages import recommender as recommenders
from conkd_jax.stages.backbones import dialogpt, kgsf
from conkd_jax.typing import Params

READS_RECOMMENDER = True

word_settings = dialogpt.word_settings
check_sources = dialogpt.check_sources


@dataclasses.dataclass(frozen=True, kw_only=True)
class DialogueEntityRowSettings(dialogpt.DialogueRowSettings):
    """Settings of rows that hold whole dialogues and what each response's history mentions."""

    max_context_entities: int
    context_nodes: str

    def rows_of(
        self, corpus: Corpus, vocabulary: Vocabulary, dialogues: Sequence[Dialogue]
    ) -> DialogueEntityRows:
        """The rows of `dialogpt`, with the recommender's entities of every history."""
        contexts = build_recommender_contexts(
            dialogues,
            is_stop_word=corpus.concept_graph.is_stop_word,
            max_entities=self.max_context_entities,
            max_concepts=0,
            item_entities=corpus.items.entity_ids if self.context_nodes == "items" else None,
        )
        return DialogueEntityRows.of(super().rows_of(corpus, vocabulary, dialogues), contexts)


@dataclasses.dataclass(frozen=True)
class RecInDialSettings(dialogpt.GPT2Settings):
    """Settings of a RecInDial model: those of its GPT-2."""

    def initial(
        self, inputs: Mapping[str, epath.Path], vocabulary: Vocabulary, seed: int, rng_impl: str
    ) -> tuple[recindial.RecInDial, Params, Params]:
        """Builds GPT-2 as `dialogpt` does, a new pointer, and the recommender's vectors, frozen."""
        gpt2, params, _ = super().initial(inputs, vocabulary, seed, rng_impl)
        model = recindial.RecInDial(gpt2)
        corpus = Corpus.open(inputs["corpus"])
        graph = _graph(
            recommenders.load_graph_recommender(inputs["rec_teacher"], corpus), vocabulary
        )
        # GPT-2's own arrays are drawn from the key itself.
        rng = jax.random.fold_in(jax.random.key(seed, impl=rng_impl), 1)
        pointer = model.pointer_params(rng)
        return model, {**params, recindial.POINTER: pointer}, {recindial.GRAPH: graph}


def row_settings(config: Config) -> DialogueEntityRowSettings:
    """The settings of the rows of `dialogpt`, and which mentioned nodes are read."""
    return DialogueEntityRowSettings(
        **dataclasses.asdict(dialogpt.row_settings(config)),
        max_context_entities=config.rec_teacher.max_context_entities,
        context_nodes=config.rec_teacher.context_nodes,
    )


def model_settings(config: Config) -> RecInDialSettings:
    """The weights and, for random ones, their shape."""
    return view(dialogpt.model_settings(config), RecInDialSettings)


def model_of(spec: Mapping[str, Any], vocabulary: Vocabulary) -> recindial.RecInDial:
    """Rebuilds a RecInDial model from the saved spec of its GPT-2."""
    return recindial.RecInDial(dialogpt.model_of(spec, vocabulary))


def _graph(
    recommender: recommenders.TrainedRecommender, vocabulary: Vocabulary
) -> dict[str, np.ndarray]:
    """The recommender's node vectors, the row of every graph id, and the vectors of item tokens."""
    return {
        **kgsf.entity_arrays(recommender),
        "items": np.asarray(recommender.head.kernel).T[vocabulary.item_candidates],
    }
