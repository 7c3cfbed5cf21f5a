"""Exports a trained run: for transformers, for the hub, for other distillers, or as a release.

    conkd-export --workdir=RUN --out=DIR
    conkd-export --workdir=RUN --out=DIR --push_to_hub=USER/MODEL
    conkd-export --workdir=RUN --out=DIR --teachers --top_k=64
    conkd-export --workdir=RUN --out=DIR --release=OWNER/NAME

The first writes the model that generates the responses: safetensors with config, tokenizer (items
are added tokens), generation config and model card. PyTorch's transformers opens the folder of a
DialoGPT or a Llama without this package; any other backbone is opened by
conkd_jax.export.load_model. Such a folder can also be the weights and the tokenizer of a further
training: --config.dialogue_teacher.weights=DIR --config.vocabulary.tokenizer=DIR

--teachers writes what both teachers say at every training response instead, as Parquet, for people
who distil with other programs. It holds the token ids of the dialogues, so their licence holds.

--release writes a small archive of the whole system and its SHA-256. Unpacked into the folder of
releases, Chat.open(NAME) opens it without a network (conkd_jax.runs.released). The two archives of
a release of conkd_jax are made by

    conkd-export --workdir=runs/dialogpt_hard-mini-seed0 --out=dist/dialogpt
        --release=conkd/redial-mini --dtype=int4 --small
    conkd-export --workdir=runs/kgsf_hard-mini-seed0 --out=dist/kgsf
        --release=conkd/redial-mini-kgsf --dtype=int4 --small
"""

from __future__ import annotations

from absl import flags
from etils import epath

from conkd_jax.cli import command_line
from conkd_jax.cli.command_line import UsageError
from conkd_jax.export import card, hub
from conkd_jax.export.release import check_name, write_release
from conkd_jax.export.student import TRANSFORMERS, write_student
from conkd_jax.export.teachers import write_teachers
from conkd_jax.io.array_files import DTYPES, SCALED
from conkd_jax.io.files import is_remote, write_whole
from conkd_jax.io.writable import unwritable
from conkd_jax.runs.finished import Run

OPTIONS = flags.FlagValues()
_WORKDIR = flags.DEFINE_string(
    "workdir", "", "The run: a folder written by conkd_jax.train.", flag_values=OPTIONS
)
_OUT = flags.DEFINE_string(
    "out", "", "The folder to write, which is empty or does not exist.", flag_values=OPTIONS
)
_DTYPE = flags.DEFINE_enum(
    "dtype",
    None,
    list(DTYPES),
    "What weights are rounded to; int8 and int4 for releases only. Default: float32; of a "
    "release, int8.",
    flag_values=OPTIONS,
)
_PUSH = flags.DEFINE_string(
    "push_to_hub", "", "USER/MODEL: upload the export to the hub as well.", flag_values=OPTIONS
)
_PRIVATE = flags.DEFINE_bool(
    "private", False, "Whether a model that is created on the hub is private.", flag_values=OPTIONS
)
_TEACHERS = flags.DEFINE_bool(
    "teachers", False, "Write the outputs of both teachers instead.", flag_values=OPTIONS
)
_TOP_K = flags.DEFINE_integer(
    "top_k", 64, "The tokens of a teacher that are kept; 0 for all.", 0, flag_values=OPTIONS
)
_RELEASE = flags.DEFINE_string(
    "release", "", "NAME/NAME: write a release of the whole system instead.", flag_values=OPTIONS
)
_SMALL = flags.DEFINE_bool(
    "small",
    False,
    "With --release: leave out the dialogue teacher, so that no λ is shown, and the vectors of "
    "concepts that no training dialogue mentions.",
    flag_values=OPTIONS,
)


def main(argv: list[str]) -> None:
    """Checks the options, and writes what is asked for."""
    out = checked_out()
    if _PUSH.value:
        hub.check_token(_PUSH.value)
    run = Run.open(_WORKDIR.value)
    run.expect_trained()
    out.mkdir(parents=True, exist_ok=True)
    if _RELEASE.value:
        dtype, is_small = _DTYPE.value or "int8", _SMALL.value
        archive = write_release(run, out, _RELEASE.value, dtype, is_small=is_small)
        size = archive.stat().length / 1e6
        command_line.show(f"{_RELEASE.value}: {archive} ({size:.1f} MB)")
        return
    if _TEACHERS.value:
        count = write_teachers(run, out, _TOP_K.value)
        command_line.show(f"Both teachers at {count:,} responses: {out}")
        return
    write_student(run, out, _DTYPE.value or "float32")
    name = _PUSH.value or str(out)
    is_known = run.config.backbone in TRANSFORMERS
    how = card.use_of_transformers(run, name) if is_known else card.use_of_model(name)
    license_of_weights = card.licence_of_weights(run.config)
    text = card.model_card(
        run, _PUSH.value or run.run_name, how, license_of_weights, is_for_transformers=is_known
    )
    write_whole(out / "README.md", text)
    command_line.show(f"{run.title}: {out}")
    if _PUSH.value:
        command_line.show(hub.push(out, _PUSH.value, private=_PRIVATE.value))


def checked_out() -> epath.Path:
    """The folder to write, once the options agree with each other.

    Raises:
      UsageError: an option is missing or belongs to another kind of export, or the folder can't be
        written to.
    """
    if not _WORKDIR.value or not _OUT.value:
        raise UsageError(
            "expected --workdir=RUN and --out=DIR, for example "
            "--workdir=runs/dialogpt_hard-demo-seed0 --out=exported/dialogpt_hard"
        )
    kinds = {"--teachers": _TEACHERS.value, "--release": _RELEASE.value}
    kinds["--push_to_hub"] = _PUSH.value
    if len(given := [name for name, value in kinds.items() if value]) > 1:
        raise UsageError(f"expected one of {' and '.join(given)}: they write different folders")
    if _RELEASE.value:
        check_name(_RELEASE.value)
    elif _SMALL.value:
        raise UsageError("--small: expected --release=OWNER/NAME as well")
    if _DTYPE.value in SCALED and not _RELEASE.value:
        raise UsageError(
            f"--dtype={_DTYPE.value}: expected float32, float16 or bfloat16, which transformers "
            f"reads; {_DTYPE.value} is for --release"
        )
    out = epath.Path(_OUT.value)
    if is_remote(out):
        raise UsageError(f"--out={out}: expected a folder on a disk")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out={out}: expected a folder that is empty or does not exist")
    if why := unwritable(out):
        raise UsageError(f"--out={out}: expected a folder to write to: {why}")
    return out


def run() -> None:
    """Runs the command line."""
    command_line.run(main, OPTIONS)


if __name__ == "__main__":
    run()
