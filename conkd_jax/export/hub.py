"""Uploads an export to the Hugging Face hub, or to a server with its protocol (HF_ENDPOINT)."""

from __future__ import annotations

import huggingface_hub
from etils import epath
from huggingface_hub import errors as hub_errors

from conkd_jax.errors import UserError
from conkd_jax.runs.released import NAME


class HubError(UserError):
    """The hub refused an upload, or could not be reached."""


def check_token(name: str) -> None:
    """Checks, before anything is written, that there is a token and that the name can be one.

    Raises:
      HubError: there is no token, or the name is not USER/MODEL.
    """
    if not NAME.fullmatch(name):
        raise HubError(f"--push_to_hub={name}: expected USER/MODEL, such as someone/conkd")
    if not huggingface_hub.get_token():
        raise HubError(
            f"--push_to_hub={name}: expected a token of the Hugging Face hub, found none. Log in "
            "with `hf auth login`, or set HF_TOKEN; it has to allow writing"
        )


def push(folder: epath.Path, name: str, *, private: bool) -> str:
    """Uploads all files of a folder; returns the address of the model.

    Args:
      folder: the export.
      name: USER/MODEL; it is created if there is none.
      private: whether a model that is created is private.

    Raises:
      HubError: the hub refused the upload, or could not be reached.
    """
    api = huggingface_hub.HfApi()
    try:
        url = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=str(folder), commit_message="Export")
    except (OSError, ValueError, hub_errors.HfHubHTTPError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise HubError(
            f"--push_to_hub={name}: the hub at {api.endpoint} did not take the upload ({reason}). "
            f"The export itself is complete: {folder}. Check the token and the network, and upload "
            f"it with `hf upload {name} {folder}`"
        ) from error
    return str(url)
