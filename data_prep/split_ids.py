"""Which dialogue belongs to which split, fixed once and for everybody.

Validation is a committed list of conversation ids, `dev` a slice of training by hashed id. This
module knows ids only, never a text.
"""

import hashlib
from collections.abc import Collection
from pathlib import Path

from conkd_jax.errors import UserError

VALID_IDS_SHA256 = "79dad163a5e9f6674183ccb834bc87dd29549bcaf38de914e028fe5b6f96564a"
_VALID_IDS = Path(__file__).parent / "splits" / "valid_ids.txt"
_DEV_PER_MYRIAD = 500


class SplitError(UserError, ValueError):
    """The committed list of ids was altered."""


def valid_ids(path: Path = _VALID_IDS, sha256: str = VALID_IDS_SHA256) -> tuple[str, ...]:
    """Returns the conversation ids of the validation split, in the order of KGSF's file.

    Args:
      path: the list, one id a line.
      sha256: what the file must hash to.

    Raises:
      SplitError: the file is not the published one.
    """
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise SplitError(
            f"{path}: expected SHA-256 {sha256}, found {found}. The validation ids were altered, "
            "so results would not compare: restore the file from the repository."
        )
    return tuple(content.decode("ascii").split())


def is_dev(conversation_id: str) -> bool:
    """Tells whether a training dialogue is held out for choosing models: a fixed 5 %.

    The first eight bytes of SHA-256(id), modulo 10,000, below 500.
    """
    digest = hashlib.sha256(conversation_id.encode("utf-8")).digest()
    return int.from_bytes(digest[:8], "big") % 10_000 < _DEV_PER_MYRIAD


def split_train(
    ids: Collection[str], held_out: Collection[str]
) -> tuple[list[str], list[str], list[str]]:
    """Cuts the ids of the training file into train, dev and the ones held out.

    Args:
      ids: conversation ids in file order.
      held_out: ids that belong to validation or test.

    Returns:
      Ids of train, of dev, and those of `held_out` found here, each in file order.
    """
    kept = [i for i in ids if i not in held_out]
    return (
        [i for i in kept if not is_dev(i)],
        [i for i in kept if is_dev(i)],
        [i for i in ids if i in held_out],
    )
