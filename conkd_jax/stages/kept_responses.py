"""Keeps decoded responses in files, so that an evaluation that was stopped decodes none again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from etils import epath

from conkd_jax import integrity
from conkd_jax.eval.decoding import DecodedResponse, EmittedItem
from conkd_jax.files import write_whole


def kept(
    directory: epath.PathLike,
    response_ids: Sequence[int],
    decode: Callable[[], list[DecodedResponse]],
) -> list[DecodedResponse]:
    """The responses that an earlier attempt decoded; if there are none, decodes and keeps them.

    Args:
      directory: the folder of the files; created if it is missing.
      response_ids: the ids of the responses, the first of which names their file.
      decode: decodes them.
    """
    path = epath.Path(directory) / f"responses-{response_ids[0]:08d}.json"
    if path.exists():
        try:
            document = integrity.unsealed(path.read_text())
            if document["ids"] == list(response_ids):
                return [_response(record) for record in document["responses"]]
        except (ValueError, KeyError, TypeError):
            pass  # damaged: decoded again
    decoded = decode()
    document = {"ids": list(response_ids), "responses": [_record(each) for each in decoded]}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, integrity.sealed({**document, integrity.FILES: {}}))
    return decoded


def _record(response: DecodedResponse) -> list[Any]:
    steps = [[int(one.step), int(one.item), one.top.tolist()] for one in response.item_steps]
    return [list(map(int, response.tokens)), steps, list(map(int, response.picks))]


def _response(record: Sequence[Any]) -> DecodedResponse:
    tokens, steps, picks = record
    items = [EmittedItem(step, item, np.asarray(top, np.int32)) for step, item, top in steps]
    return DecodedResponse(tokens, items, picks)
