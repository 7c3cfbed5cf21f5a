"""The runner of Apache Beam that a program was told to use, if any.

`running("runner=DirectRunner,direct_num_workers=8")` names one for everything in its block;
`--beam_options` of the programs is this. What runs on it is in `data_prep.linking_on_beam`. Beam is
imported only where it is asked for.
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import io
from collections.abc import Iterator
from typing import Any

from conkd_jax.errors import UserError

HELP = (
    "Link and write the dialogues of the corpus on Apache Beam, with these options of a pipeline, "
    "for example runner=DirectRunner,direct_num_workers=8. Needs the extra [beam]."
)
_OPTIONS: contextvars.ContextVar[Any] = contextvars.ContextVar("beam_options", default=None)


class BeamError(UserError, ValueError):
    """Options that Beam does not know, or Beam itself is missing."""


@contextlib.contextmanager
def running(text: str) -> Iterator[None]:
    """Names the runner of every corpus that is assembled in the block; "" names none.

    Args:
      text: options of a pipeline without their dashes, separated by commas; one is `runner`.

    Raises:
      BeamError: Beam is not installed, or it does not know an option.
    """
    token = _OPTIONS.set(parsed(text) if text else None)
    try:
        yield
    finally:
        _OPTIONS.reset(token)


def options() -> Any:
    """The `PipelineOptions` of the block; None outside one."""
    return _OPTIONS.get()


def parsed(text: str) -> Any:
    """The `PipelineOptions` of a text, as `running` takes it.

    Raises:
      BeamError: Beam is not installed, or it does not know an option.
    """
    try:
        of_pipeline = importlib.import_module("apache_beam.options.pipeline_options")
    except ImportError as error:
        raise BeamError(
            f"--beam_options={text}: expected the package apache-beam ({error}). Install it with: "
            "pip install 'conkd_jax[beam]'"
        ) from error
    given = [option.strip() for option in text.split(",") if option.strip()]
    names = {option.partition("=")[0] for option in given}
    if "runner" not in names:
        raise BeamError(
            f"--beam_options={text}: expected a runner among them, as in "
            "--beam_options=runner=DirectRunner,direct_num_workers=8"
        )
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):  # argparse prints its usage, and why last
            found = of_pipeline.PipelineOptions([f"--{option}" for option in given])
            known = found.get_all_options()
            # A pipeline that is never run: its runner checks what it needs.
            importlib.import_module("apache_beam").Pipeline(options=found)
    except (SystemExit, ValueError, ImportError) as error:
        why = said.getvalue().strip().rpartition("error: ")[2] or str(error).replace("\n", " ")
        raise BeamError(f"--beam_options={text}: {why}") from error
    if unknown := sorted(names - set(known)):
        raise BeamError(
            f"--beam_options={text}: Beam has no option {', '.join(unknown)}; expected names such "
            "as runner, direct_num_workers, project, region, temp_location"
        )
    return found
