"""Writes a release: a small archive of a whole system that answers without its data.

The archive NAME.tar.xz holds the folder OWNER/NAME: config, rounded weights of student, dialogue
teacher and turn classifier, words and titles, graphs, counts of words, and a list of all files with
their SHA-256. Beside it are SHA256SUMS, which `sha256sum -c` reads, and the model card.

Node vectors that no text can reach are left out: those of entities that are neither an item nor
have a label. The recommender is not part of a release; its vectors are, where a backbone reads
them. A small release also leaves out the dialogue teacher, whose λ is then not shown, and the
vectors of concepts that no training dialogue mentions.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from etils import epath

from conkd_jax.chat import Chat
from conkd_jax.chat.response import Response
from conkd_jax.data.corpus import Turn, responses
from conkd_jax.eval.metrics.items_in_responses import ItemResponse, f1
from conkd_jax.eval.metrics.pairs import divide_pairs
from conkd_jax.export import card
from conkd_jax.export.student import ExportError
from conkd_jax.io import integrity
from conkd_jax.io.array_files import save_arrays
from conkd_jax.io.files import sha256_of_file, whole_path, write_json, write_whole
from conkd_jax.models.encoder_decoder import GRAPH
from conkd_jax.runs.document import origin_of_run
from conkd_jax.runs.finished import CONFIG, Run
from conkd_jax.runs.released import ARTIFACTS, NAME, RELEASE, VERSION, ReleasedRun
from conkd_jax.stages.language_model import FROZEN, PARAMS, SPEC_FILE
from conkd_jax.stages.released_corpus import LinkingCounts, write_released_corpus
from conkd_jax.stages.systems.free_text import TextLinker
from conkd_jax.training.checkpoint import compact_file, load

ENDING, SUMS = ".tar.xz", "SHA256SUMS"
MODELS = ("student", "dialogue_teacher", "turn_classifier")
ROWS_AND_ENERGIES = {  # of each kind of node, the names of its other frozen arrays
    "entities": ("entity_rows", "entity_energies"),
    "concepts": ("concept_rows", "concept_energies"),
}
SCORING_ROWS = 16
ASKED = 2000  # responses that a release is compared with its run at
STRONGEST = 9  # of xz, whose window of 64 MB finds arrays that two models share


def write_release(
    run: Run, folder: epath.PathLike, name: str, dtype: str, *, is_small: bool = False
) -> epath.Path:
    """Writes the archive of a run, its hashes and its card; returns the archive's path.

    Args:
      run: a run of dialogpt, llama or of a backbone that reads node vectors.
      folder: where to write; it exists.
      name: OWNER/NAME, by which `Chat.open` finds the release.
      dtype: what weights are rounded to, one of `array_files.DTYPES`.
      is_small: leaves out what answers don't need, or hardly.

    Raises:
      ExportError: the name can't be one.
      CorpusError: the corpus has reviews, which are texts of users.
    """
    check_name(name)
    folder = epath.Path(folder)
    archive = folder / f"{name.partition('/')[2]}{ENDING}"
    with tempfile.TemporaryDirectory() as temporary:
        place = epath.Path(temporary) / name
        place.mkdir(parents=True)
        _write_folder(run, place, name, dtype, is_small)
        text = release_card(run, ReleasedRun.of_folder(place), name, dtype, archive.name)
        write_whole(place / "README.md", text)  # not in the list of files: it is for readers
        with whole_path(archive) as partial:
            _pack(epath.Path(temporary), place, partial)
    write_whole(folder / "README.md", text)
    write_whole(folder / SUMS, f"{sha256_of_file(archive)}  {archive.name}\n")
    return archive


def check_name(name: str) -> None:
    """Checks the name of a release.

    Raises:
      ExportError: it can't be one.
    """
    if not NAME.fullmatch(name):
        raise ExportError(f"--release={name}: expected OWNER/NAME, such as conkd/redial-mini")


def _write_folder(run: Run, place: epath.Path, name: str, dtype: str, is_small: bool) -> None:
    system = run.system
    linker = TextLinker(system.corpus)
    models = [each for each in MODELS if each in system.names]
    if is_small and system.has_teacher:
        models.remove("dialogue_teacher")
    names = ["corpus", "vocabulary", *models]
    for each in names:
        (place / ARTIFACTS / each).mkdir(parents=True)
    counts = LinkingCounts.of(linker.titles, linker.labels)
    write_released_corpus(system.corpus, counts, place / ARTIFACTS / "corpus")
    system.vocabulary.save(place / ARTIFACTS / "vocabulary")
    nodes = {"entities": {*system.corpus.items.entity_ids.tolist(), *linker.labels.values()}}
    if is_small:
        trained = system.corpus.dialogues("train")
        nodes["concepts"] = {node for d in trained for turn in d.turns for node in turn.concepts}
    for each in models:
        source, target = run.directory(each), place / ARTIFACTS / each
        write_whole(target / SPEC_FILE, (source / SPEC_FILE).read_text())
        save_arrays(compact_file(target / PARAMS), load(source / PARAMS), dtype)
        if (source / FROZEN).exists():
            frozen = with_nodes(load(source / FROZEN), nodes)
            save_arrays(compact_file(target / FROZEN), frozen, dtype)
    settings = run.config.replace({"artifacts_dir": "artifacts", "runs_dir": "runs"}).to_dict()
    settings["corpus"]["raw_dir"] = ""
    record = {"name": run.name, "settings": settings, "split": run.own_split}
    write_json(place / CONFIG, {**record, "overrides": dict(run.overrides)})
    about = {
        "version": VERSION,
        "name": name,
        "dtype": dtype,
        "artifacts": names,
        "eta": run.eta,
        "fingerprint": run.fingerprint,
        "made_from": origin_of_run(run.stages["evaluation"]),
        integrity.FILES: integrity.inventory(place),
    }
    write_whole(place / RELEASE, integrity.sealed(about))


def with_nodes(frozen: dict, nodes: Mapping[str, Iterable[int]]) -> dict:
    """Frozen arrays without the vectors of other nodes, which are then read as no node at all.

    Args:
      frozen: of a language model; those without a graph stay as they are.
      nodes: the ids that are kept, of "entities", "concepts" or both.
    """
    graph = dict(frozen.get(GRAPH, {}))
    for kind, kept in nodes.items():
        name, energies = ROWS_AND_ENERGIES[kind]
        if name not in graph:
            continue
        rows = np.asarray(graph[name])
        is_kept = np.zeros(len(rows), bool)
        is_kept[np.asarray(list(kept), np.int64)] = True
        is_kept &= rows >= 0
        old = np.unique(rows[is_kept])
        new = np.full(len(rows), -1, np.int32)
        new[is_kept] = np.searchsorted(old, rows[is_kept])
        graph |= {key: np.asarray(graph[key])[old] for key in (kind, energies)} | {name: new}
    return {**frozen, GRAPH: graph} if graph else frozen


def _pack(root: epath.Path, place: epath.Path, path: str) -> None:
    """Writes a folder as a tar file that depends on names and contents alone."""
    names = list(integrity.inventory(place))
    # Frozen arrays of two models are the same: side by side, the second costs nothing.
    names.sort(key=lambda name: (f"/{FROZEN}." in name, name))
    with tarfile.open(path, "w:xz", preset=STRONGEST) as archive:
        for name in names:
            content = (place / name).read_bytes()
            entry = tarfile.TarInfo((place / name).relative_to(root).as_posix())
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))


# --- the card ------------------------------------------------------------------------------------


def release_card(run: Run, release: ReleasedRun, name: str, dtype: str, archive: str) -> str:
    """The model card of a release, with what it costs to leave out and to round."""
    missing = "the ranking of the recommendation teacher"
    if run.system.has_teacher and not release.system.has_teacher:
        missing = "λ and the rankings of the two teachers"
    how = f"""\
    mkdir -p ~/.cache/conkd_jax/releases
    tar -xf {archive} -C ~/.cache/conkd_jax/releases
    conkd-chat --workdir={name}

The same from Python; nothing is downloaded:

```python
from conkd_jax.chat import Chat

chat = Chat.open("{name}")
print(chat.respond(["Hi! I liked Titanic."]).text)
```

The archive holds weights rounded to {dtype}, the words and the titles of the items, both graphs
(names of DBpedia's entities, words of ConceptNet), and counts of how training texts use the words
of titles. It holds no text of a dialogue. What it can't do: train, score a split, or show
{missing}, which it leaves out.

What that and rounding cost, on the split `{run.split}`:

{cost_table(run, release)}
The metrics below are those of the run, before rounding.
"""
    return card.model_card(run, name, how, card.licence_of_weights(run.config))


def cost_table(run: Run, release: ReleasedRun) -> str:
    """The run and its release side by side: perplexities, and answers to the same histories.

    F1 is that of the answers that are compared, and of no others. Responses without a history are
    not asked for.
    """
    dialogues = run.corpus.dialogues(run.split)
    rows = run.system.rows_of(dialogues)
    places = [(d, turn) for d in dialogues for turn in responses(d) if turn][:ASKED]
    histories = [d.turns[:turn] for d, turn in places]
    golds = [d.turns[turn] for d, turn in places]
    lines = ["| | run | release |", "|---|---|---|"]
    perplexities, answers = [], []
    for each in (run, release):
        scored = each.system.model.score(rows, run.system.form, SCORING_ROWS)
        losses = scored.nll, scored.nll[~scored.is_item]
        perplexities.append([float(np.exp(values.mean())) for values in losses])
        answers.append(Chat.open(each, batch_size=SCORING_ROWS, warm=False).respond_all(histories))
    for what, index in (("per token", 0), ("of words", 1)):
        values = [perplexities[number][index] for number in (0, 1)]
        lines.append(f"| perplexity {what} | {values[0]:.3f} | {values[1]:.3f} |")
    item_ids = run.corpus.items.item_ids.tolist()
    f1_of = [_f1_at_10(found, golds, item_ids) for found in answers]
    lines.append(f"| F1@10 of {len(places):,} answers | {f1_of[0]:.3f} | {f1_of[1]:.3f} |")
    items = [sum(len(one.items) for one in found) for found in answers]
    lines.append(f"| items in them | {items[0]:,} | {items[1]:,} |")
    first, second = answers
    same = sum(a.turn.text == b.turn.text for a, b in zip(first, second, strict=True))
    lines.append(f"| answers that are the run's, word for word | {len(places):,} | {same:,} |")
    return "\n".join([*lines, ""])


def _f1_at_10(answers: Sequence[Response], golds: Sequence[Turn], item_ids: list[int]) -> float:
    """F1@10 of answers to the histories of these gold turns."""
    pairs = []
    for answer, gold in zip(answers, golds, strict=True):
        wanted = [*(item_ids[item] for item in gold.items), *gold.unknown_items]
        tops = [[ranked.item_id for ranked in item.ranking[:10]] for item in answer.items]
        pairs.append(f1(ItemResponse.of(wanted, tops), 10))
    sums, counts = np.sum(np.asarray(pairs, float), axis=0)
    return float(divide_pairs(("f1@10",), np.array([sums]), np.array([counts]))[0])
