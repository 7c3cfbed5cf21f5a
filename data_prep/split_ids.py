"""Which dialogue belongs to which split; the answer never changes.

Validation is a list of conversation ids in this repository, and "dev" is a part of training that is
chosen by hashed id. This module handles ids only, never text.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from conkd_jax.errors import UserError
from conkd_jax.io.files import by_hash, sha256

VALID_IDS_SHA256 = "79dad163a5e9f6674183ccb834bc87dd29549bcaf38de914e028fe5b6f96564a"
_VALID_IDS = Path(__file__).parent / "splits" / "valid_ids.txt"
_DEV_IN_10_000 = 500


class SplitError(UserError, ValueError):
    """The repository's list of validation ids was changed."""


def valid_ids(path: Path = _VALID_IDS, expected_sha256: str = VALID_IDS_SHA256) -> tuple[str, ...]:
    """Returns the conversation ids of the validation split, in the order of KGSF's file.

    Args:
      path: the list, one id per line.
      expected_sha256: the SHA-256 that the file must have.

    Raises:
      SplitError: the file is not the published one.
    """
    content = path.read_bytes()
    found = sha256(content)
    if found != expected_sha256:
        raise SplitError(
            f"{path}: expected SHA-256 {expected_sha256}, found {found}. The validation ids were "
            "changed, so results would not be comparable: restore the file from the repository."
        )
    return tuple(content.decode("ascii").split())


def is_dev(conversation_id: str) -> bool:
    """Whether a training dialogue is held out for choosing models: a fixed 5 %, by its hash."""
    return by_hash(conversation_id, 10_000) < _DEV_IN_10_000


def split_train(
    ids: Collection[str], held_out: Collection[str]
) -> tuple[list[str], list[str], list[str]]:
    """Divides the ids of the training file into train, dev and those held out.

    Args:
      ids: conversation ids in file order.
      held_out: ids that belong to validation or test.

    Returns:
      The ids of train, those of dev, and those that are in `held_out`, each in file order.
    """
    kept = [i for i in ids if i not in held_out]
    return (
        [i for i in kept if not is_dev(i)],
        [i for i in kept if is_dev(i)],
        [i for i in ids if i in held_out],
    )
