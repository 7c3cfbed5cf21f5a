"""A language model with its weights, used for teacher and student: save, load and score.

`stages.backbones` chooses its architecture, GPT-2 or KGSF's; `language_model_training` trains it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping

import jax.numpy as jnp
import numpy as np
from etils import epath

from conkd_jax.data.batches.language_model import LanguageModelBatches
from conkd_jax.data.batches.plan import batches_by_length, fixed_buckets
from conkd_jax.data.rows.contract import FILL, Rows
from conkd_jax.data.teacher_store.files import TeacherStore
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.distill.head import Head
from conkd_jax.eval.scoring import TokenScores, score_tokens
from conkd_jax.io.files import write_json
from conkd_jax.models.backbone import Backbone
from conkd_jax.models.compute import Compute
from conkd_jax.models.item_rows import add_item_vectors
from conkd_jax.runtime import parallel
from conkd_jax.stages import backbones
from conkd_jax.stages.backbones import ModelSettings
from conkd_jax.training import checkpoint
from conkd_jax.training.progress import Counting
from conkd_jax.typing import Float, PRNGKeyArray

SPEC_FILE, PARAMS, FROZEN = "model.json", "params", "frozen"


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """A model, its weights and its vocabulary.

    Attributes:
      model: the architecture.
      params: the trained parameters.
      vocabulary: the vocabulary of its rows.
      frozen: further arrays that the model reads and training doesn't change.
    """

    model: Backbone
    params: dict
    vocabulary: Vocabulary
    frozen: dict = dataclasses.field(default_factory=dict)

    @classmethod
    def untrained(
        cls,
        settings: ModelSettings,
        inputs: Mapping[str, epath.Path],
        vocabulary: Vocabulary,
        seed: int,
        rng_impl: str,
    ) -> LanguageModel:
        """The model before any training on dialogues; arguments as in `ModelSettings.initial`."""
        model, params, frozen = settings.initial(inputs, vocabulary, seed, rng_impl)
        return cls(model, params, vocabulary, frozen)

    def computing(self, dtype: str | None, *, remat: bool = False) -> LanguageModel:
        """This model, computing in a type (`training.compute_setting`), with or without `remat`."""
        compute = Compute(dtype or Compute.dtype, remat)
        return dataclasses.replace(self, model=self.model.computing(compute))

    @property
    def variables(self) -> dict:
        """All arrays, as the model's functions take them."""
        return {**self.params, **self.frozen}

    @property
    def num_targets(self) -> int:
        """|Y| = |V| + |I|."""
        return self.vocabulary.num_targets

    def head(self) -> Head:
        """The output layer onto Y = V ∪ I, in the type that the model computes in."""
        return self.exact_head().cast(self.model.compute.array_dtype)

    def exact_head(self) -> Head:
        """The output layer with the float32 parameters themselves, as a teacher store keeps it."""
        return self.model.head(self.variables, self.num_targets)

    def with_item_vectors(
        self,
        vectors: Float[np.ndarray, "I d"],
        rng: PRNGKeyArray,
        map_name: str = "random",
        scale: float = 3.0,
    ) -> LanguageModel:
        """This model with a recommender's vectors added to its item rows (`models.item_rows`)."""
        layer, words = self.model.EMBEDDING, self.vocabulary
        embedding = add_item_vectors(
            jnp.asarray(self.params[layer]["embedding"]),
            jnp.asarray(vectors),
            words.num_words,
            rng,
            [words.title_token_ids(item) for item in range(words.num_items)],
            map_name=map_name,
            scale=scale,
        )
        params = {**self.params, layer: {**self.params[layer], "embedding": embedding}}
        return dataclasses.replace(self, params=params)

    def batches(
        self,
        rows: Rows,
        form: str,
        batch_rows: int,
        row_range: range | None = None,
        store: TeacherStore | None = None,
    ) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Batches for scoring rows with this model; arguments as in `sequential`."""
        limit = self.model.longest_prompt(1)
        return sequential(rows, self.vocabulary, form, batch_rows, row_range, limit, store)

    def score(self, rows: Rows, form: str, batch_rows: int, name: str = "") -> TokenScores:
        """Teacher-forced scores of every response of `rows` (see `eval.scoring`).

        Args:
          rows: the rows of a split.
          form: which rows: "student", with tags, or "teacher".
          batch_rows: rows at once.
          name: what the progress is displayed as; "" displays none.
        """
        total = rows.num_responses
        with Counting(name, "responses", total, announces_compiling=False) as display:
            return score_tokens(
                self.model,
                self.variables,
                self.batches(rows, form, batch_rows),
                num_words=self.vocabulary.num_words,
                num_targets=self.num_targets,
                progress=display.add,
            )


def save(language_model: LanguageModel, directory: epath.Path) -> None:
    """Writes the weights and the spec of a model into an artifact's folder."""
    spec = dataclasses.asdict(language_model.model.spec)
    checkpoint.save(directory / PARAMS, language_model.params)
    if language_model.frozen:
        checkpoint.save(directory / FROZEN, language_model.frozen)
    if parallel.is_first_process():
        write_json(directory / SPEC_FILE, spec, indent=2)


def load(
    backbone: str, directory: epath.Path, vocabulary: Vocabulary, dtype: str | None = None
) -> LanguageModel:
    """Reopens a model that `save` wrote.

    Args:
      backbone: the name of the model's backbone.
      directory: the artifact of a dialogue teacher or a student.
      vocabulary: the model's vocabulary.
      dtype: the type that it will compute in (`training.compute_setting`); its weights are float32.
    """
    spec = json.loads((directory / SPEC_FILE).read_text())
    frozen = checkpoint.load(directory / FROZEN) if checkpoint.is_saved(directory / FROZEN) else {}
    model = backbones.named(backbone).model_of(spec, vocabulary)
    params = checkpoint.load(directory / PARAMS)
    return LanguageModel(model, params, vocabulary, frozen).computing(dtype)


def sequential(
    rows: Rows,
    vocabulary: Vocabulary,
    form: str,
    batch_rows: int,
    row_range: range | None = None,
    limit: int | None = None,
    store: TeacherStore | None = None,
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Batches with every row of a range once, in a fixed order, for scoring.

    The shapes are those of a few lengths (`fixed_buckets`) and depend on no set of rows, so that
    the splits of a corpus, and parts of them, share what is compiled.

    Args:
      rows: the rows of a split.
      vocabulary: the vocabulary of the rows.
      form: "teacher", or "student" with turn tags.
      batch_rows: number of rows in a batch.
      row_range: the rows to include; None means all.
      limit: the model's number of positions; None if it has no limit.
      store: the teacher outputs of the same split, which the batches then hold too.

    Yields:
      Response ids [G], in the order of the batch's targets, and one device's micro-batch.

    Raises:
      ValueError: there are no rows, or one exceeds the limit.
    """
    lengths = rows.lengths
    if not len(lengths):
        raise ValueError("expected at least one row to score; this split has none")
    wanted = np.arange(rows.num_rows)
    if row_range is not None:
        wanted = wanted[row_range.start : row_range.stop]
    assemble = LanguageModelBatches(rows, vocabulary, None, form, store=store)
    buckets = fixed_buckets(int(lengths.max()), limit)
    for places, bucket in batches_by_length(lengths[wanted], batch_rows, buckets):
        row_ids = wanted[places]
        filled = np.full(batch_rows, FILL, np.int64)
        filled[: len(row_ids)] = row_ids
        yield rows.responses_of(row_ids), assemble(filled, bucket, filled)
