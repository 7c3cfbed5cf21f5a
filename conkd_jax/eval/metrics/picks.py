"""What an item-first system picks, and what its picks cost (`data.rows.picks`).

Predictions hold the text of a response and nothing of its picks, so these metrics are counted while
responses are decoded and scored. All are single ratios of sums over the split.

* `picks_per_response`: picked items / responses
* `picks_named`: share of the picked items that the text names
* `ppl_picks` = exp(Σ NLL / Σ tokens) over the picks of gold responses, with their end tokens
* `ppl_given_picks`: the same over the text alone, given the gold picks. Items are nearly free in
  it, so it is no perplexity to compare with other systems'; `ppl` charges the picks to the text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float

from conkd_jax.data.rows.contract import Rows
from conkd_jax.eval.decoding import DecodedResponse


class PickCounts:
    """Counts the picks of responses as they pass."""

    def __init__(self) -> None:
        self.responses = self.picks = self.named = 0

    def counting(
        self, decoded: Iterable[tuple[int, DecodedResponse]]
    ) -> Iterator[tuple[int, DecodedResponse]]:
        """Yields decoded responses unchanged, and counts them."""
        for response, said in decoded:
            self.responses += 1
            self.picks += len(said.picks)
            self.named += len(set(said.picks) & set(said.tokens))
            yield response, said

    def metrics(self, rows: Rows, nll: Float[np.ndarray, " T"]) -> dict[str, float]:
        """The metrics of this module; without picks, those that would divide by 0 are left out.

        Args:
          rows: the gold responses.
          nll: of each of their targets.
        """
        assert rows.pick_tokens is not None, "ordinary rows have no picks"
        starts = np.repeat(rows.target_offsets[:-1], rows.response_length)
        place = np.arange(len(rows.targets)) - starts
        is_pick = place < np.repeat(rows.pick_tokens, rows.response_length)
        found = {"picks_per_response": self.picks / max(self.responses, 1)}
        if self.picks:
            found["picks_named"] = self.named / self.picks
        for name, of in (("ppl_picks", is_pick), ("ppl_given_picks", ~is_pick)):
            if of.any():
                found[name] = math.exp(nll[of].mean(dtype=np.float64))
        return found
