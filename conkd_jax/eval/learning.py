"""What the dev scores of a training say: where they turn, and whether it ended too soon.

A language model is scored on dev after every epoch. NLL and ranking need not agree: which items go
together is learned late, at the few item steps that there are, so hit@k often still rises when the
NLL of all tokens has turned, or when training ends.

The rule: hit@50 still rises if p, that of the last evaluation, exceeds the best one of those in the
first three quarters of training by more than its standard error, sqrt(p (1 - p) / n), over the n
item steps of dev. The best of several noisy values is too high rather than too low, and both are
measured on the same steps, so the rule errs towards silence.
"""

from __future__ import annotations

import dataclasses
import fractions
import math
from collections.abc import Mapping, Sequence
from typing import Any

from conkd_jax.eval.metrics.pairs import Number

History = Sequence[Mapping[str, Number]]  # lines of history.jsonl

NLL, HIT = "nll", "tf_hit@50"  # what decides where a training turns, and whether it still rises
SCORES = (NLL, "nll_word", "nll_item", "tf_hit@1", "tf_hit@10", HIT, "lambda_r", "lambda_v")
LEARNING = "learning"  # the field of metrics.json: {stage: `Learning.to_dict()`}
EARLY = 0.75  # the part of training that the last evaluation is compared with
LARGEST_DENOMINATOR = 10**6


@dataclasses.dataclass(frozen=True)
class Learning:
    """The dev scores of one training of a language model.

    Attributes:
      epochs: the length of the training.
      kept: the epoch whose parameters were kept.
      at: the epochs that were scored.
      scores: the values at these epochs, by the names in `SCORES`.
    """

    epochs: int
    kept: float
    at: tuple[float, ...]
    scores: Mapping[str, tuple[float, ...]]

    @classmethod
    def of(cls, history: History, *, epochs: int, kept_step: int) -> Learning | None:
        """Reads the history of a finished training.

        Args:
          history: its lines; those without dev scores are passed over.
          epochs: the length of the training.
          kept_step: the step whose parameters were kept.

        Returns:
          None if the training was never scored.
        """
        by_step = {int(line["step"]): line for line in history if f"dev_{NLL}" in line}
        if not by_step:
            return None
        steps = sorted(by_step)
        steps_per_epoch = steps[-1] / epochs  # the last step is always scored
        lines = [by_step[step] for step in steps]
        return cls(
            epochs=epochs,
            kept=kept_step / steps_per_epoch,
            at=tuple(step / steps_per_epoch for step in steps),
            scores={
                name: tuple(float(line[f"dev_{name}"]) for line in lines)
                for name in SCORES
                if all(f"dev_{name}" in line for line in lines)
            },
        )

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Learning:
        """Reads the result of `to_dict`.

        Raises:
          KeyError, TypeError, ValueError: it is anything else.
        """
        scores = {name: tuple(map(float, each)) for name, each in value["scores"].items()}
        return cls(
            int(value["epochs"]), float(value["kept"]), tuple(map(float, value["at"])), scores
        )

    def to_dict(self) -> dict[str, Any]:
        """The scores and what they say, as plain JSON."""
        return {
            "epochs": self.epochs,
            "kept": self.kept,
            "at": list(self.at),
            "scores": {name: list(values) for name, values in self.scores.items()},
            "best_nll_at": self.best_nll_at,
            "best_hit_at": self.best_hit_at,
            "num_items": self.num_items,
            "standard_error": self.standard_error,
            "still_rises": self.still_rises,
            "notes": self.notes(),
        }

    # --- what the scores say ---------------------------------------------------------------------

    @property
    def best_nll_at(self) -> float:
        """The first epoch with the lowest NLL."""
        return self.at[self.scores[NLL].index(min(self.scores[NLL]))]

    @property
    def best_hit_at(self) -> float:
        """The first epoch with the highest hit@50."""
        return self.at[self.scores[HIT].index(max(self.scores[HIT]))]

    @property
    def num_items(self) -> int:
        """The number of item steps of dev, or a divisor of it; 1 without any hit.

        Every hit@k is a number of hits over the number of steps, which is hence a multiple of their
        least common denominator. With several values this is nearly always the number itself; if it
        is not, standard errors are too large rather than too small.
        """
        hits = [value for name in SCORES if "hit" in name for value in self.scores.get(name, ())]
        parts = (fractions.Fraction(value).limit_denominator(LARGEST_DENOMINATOR) for value in hits)
        return math.lcm(*(part.denominator for part in parts))

    @property
    def standard_error(self) -> float:
        """The standard error of the last hit@50, sqrt(p (1 - p) / n)."""
        return self._error(self.scores[HIT][-1])

    @property
    def still_rises(self) -> bool | None:
        """Whether hit@50 still rose at the end; None if no earlier evaluation can tell."""
        early = [
            value
            for epoch, value in zip(self.at, self.scores[HIT], strict=True)
            if epoch <= EARLY * self.at[-1]
        ]
        return self.scores[HIT][-1] > max(early) + self.standard_error if early else None

    @property
    def nll_still_falls(self) -> bool | None:
        """Whether the last NLL is the lowest; None if no earlier evaluation can tell."""
        *earlier, last = self.scores[NLL]
        return last < min(earlier) if earlier else None

    def notes(self) -> list[str]:
        """What a reader of the results has to know, in sentences; often nothing."""
        hits, last = self.scores[HIT], self.at[-1]
        found = []
        if self.still_rises:
            early = max(hit for at, hit in zip(self.at, hits, strict=True) if at <= EARLY * last)
            found.append(
                f"hit@50 on dev still rises after {_epochs(last)}: {hits[-1]:.3f}, at most "
                f"{early:.3f} in the first three quarters of training (standard error "
                f"{self.standard_error:.3f}). A longer training would rank better."
            )
        turned = self.best_nll_at
        at_turn = hits[self.at.index(turned)]
        if (
            turned < last
            and max(hits) - at_turn > self._error(max(hits))
            and (self.best_hit_at > turned)
        ):
            kept = " This step was kept." if math.isclose(self.kept, turned) else ""
            found.append(
                f"NLL on dev is lowest after {_epochs(turned)} of {last:g}, with hit@50 "
                f"{at_turn:.3f}; hit@50 rises further, to {max(hits):.3f} after "
                f"{_epochs(self.best_hit_at)}.{kept}"
            )
        return found

    def _error(self, share: float) -> float:
        return math.sqrt(share * (1 - share) / self.num_items)


def _epochs(number: float) -> str:
    """A number of epochs in words.

    >>> _epochs(1.0), _epochs(2.5)
    ('1 epoch', '2.5 epochs')
    """
    return f"{number:g} epoch{'s' if number != 1 else ''}"
