"""The rules of the house that a machine can check: documents are true, files are where they belong.

These tests read the files that are, or would be, committed. They run no command of the README;
`.ci/run` does.
"""

import ast
import doctest
import functools
import importlib
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LONGEST_FILE = 400  # lines
LONGEST_FUNCTION = 60
LARGEST_FILE = 1 << 20  # bytes

# Files and functions past a limit, each with its reason.
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}
# What is about movies and not about items of any kind: files, by the reason.
ABOUT_MOVIES = {
    "reads a corpus of movies": (
        "conkd_jax/data/movielens.py",
        "conkd_jax/stages/corpora/redial.py",
        "conkd_jax/stages/transfer.py",
        "data_prep/inspired.py",
        "data_prep/redial.py",
    ),
    "reads ReDial's files and KGSF's": (
        "data_prep/graphs.py",
        "data_prep/raw_dialogues.py",
        "data_prep/sources.py",
    ),
    "makes MovieWorld, or trains on it": (
        "conkd_jax/demo.py",
        "data_prep/movieworld/build.py",
        "data_prep/movieworld/conversations.py",
        "data_prep/movieworld/reviews.py",
        "data_prep/movieworld/words.py",
        "data_prep/movieworld/world.py",
    ),
    "OpenDialKG's items are films and books": (
        "data_prep/opendialkg/__init__.py",
        "data_prep/opendialkg/annotated.py",
        "data_prep/opendialkg/names.py",
        "data_prep/opendialkg/official.py",
        "data_prep/opendialkg/processed.py",
    ),
    "ReDial's questionnaires and RevCore's reviews, and the systems that read them": (
        "conkd_jax/config/backbones/redial.py",
        "conkd_jax/config/backbones/revcore.py",
        "conkd_jax/data/questionnaires.py",
        "conkd_jax/data/rows/utterances.py",
        "conkd_jax/models/redial.py",
        "conkd_jax/models/revcore.py",
        "conkd_jax/models/sentiment.py",
        "conkd_jax/stages/autorec.py",
        "conkd_jax/stages/autorec_training.py",
        "conkd_jax/stages/backbones/redial.py",
        "conkd_jax/stages/backbones/revcore.py",
        "conkd_jax/stages/questionnaires.py",
        "conkd_jax/stages/sentiment.py",
        "data_prep/questionnaires.py",
        "data_prep/reviews.py",
    ),
    "options of MovieWorld and MovieLens": (
        "conkd_jax/config/parts.py",
        "conkd_jax/config/presets.py",
    ),
    "names files or counts of ReDial or INSPIRED": (
        "conkd_jax/data/titles.py",
        "conkd_jax/eval/predictions.py",
        "conkd_jax/evaluate.py",
        "conkd_jax/stages/backbones/kgsf.py",
    ),
    "talks to ReDial, or shows examples of the paper": (
        "conkd_jax/eval/gate/examples.py",
        "conkd_jax/eval/tables/reruns.py",
        "conkd_jax/eval/tables/sample_page.py",
        "conkd_jax/serve/screenshots.py",
    ),
}
# Commands of the README without a section in docs/expected_output.md, each with its reason.
WITHOUT_EXPECTED_OUTPUT = {
    "ZONE=us-west4-a SPOT=1 launch/tpu_pod.sh keep my-pod --config=configs/dialogpt_hard.py "
    "--config.artifacts_dir=gs://BUCKET/artifacts --config.runs_dir=gs://BUCKET/runs": (
        "needs a TPU and a bucket; docs/howto/train_on_a_pod.md says what it does"
    ),
}
# Tests that mirror no single module, each with its reason.
CROSS_CUTTING_TESTS = {
    "tests/stages/test_settings.py": "compares what every stage reads with its fingerprint",
    "tests/eval/test_metrics_page.py": "compares docs/metrics.md with the metrics",
    "tests/models/test_precision.py": "compares every model in bfloat16 with float32",
    "tests/serve/test_hostile.py": "attacks the whole server",
    "tests/test_faults.py": "disks and signals act on whole programs",
    "tests/test_house.py": "checks the repository",
    "tests/test_hostile_files.py": "reads damaged data and results with every reader",
    "tests/test_hostile_models.py": "reads damaged models, releases and judgements",
    "tests/test_howto.py": "runs the code of docs/howto/",
    "tests/test_howto_own_data.py": "follows docs/howto/own_data.md",
    "tests/test_site.py": "builds the site from all documents",
    "tests/test_kills.py": "kills whole programs",
    "tests/test_imports.py": "checks the direction of imports",
    "tests/test_installation.py": "builds the package and installs it",
    "tests/launch/test_local_processes.py": "runs launch/local_processes.sh",
    "tests/launch/test_scripts.py": "checks what all scripts of launch/ have in common",
    "tests/launch/test_slurm.py": "runs launch/slurm.sh",
    "tests/launch/test_tpu_pod.py": "runs launch/tpu_pod.sh",
    "tests/test_long_runs.py": "watches a whole program for thousands of steps",
    "tests/test_object_store.py": "talks to a store through the clients of other modules",
    "tests/test_object_store_runs.py": "runs whole programs in a bucket",
    "tests/test_sweep.py": "a sweep passes through config/rules, train and eval/tables",
}


@functools.cache
def committed() -> list[Path]:
    """Returns the files that git tracks, or would track if they were added now."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: there is no list of committed files")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@functools.cache
def text_files() -> dict[str, str]:
    suffixes = {".py", ".md", ".sh", ".toml", ".yaml", ".yml", ".json", ".txt", ".cfg", ""}
    files = [path for path in committed() if path.suffix in suffixes]
    return {label(path): path.read_text(encoding="utf-8") for path in files}


def project() -> dict:
    return tomllib.loads(read("pyproject.toml"))["project"]


# --- documents -------------------------------------------------------------------------------


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", read("Makefile"), re.M))


def test_readme_commands_exist() -> None:
    documents = read("README.md") + read("CONTRIBUTING.md") + read("launch/README.md")
    named = set(re.findall(r"^ {4}.*?\bmake ([a-z-]+)", documents, re.M))
    assert named >= {"demo", "test", "lint"}
    missing = named - make_targets()
    assert not missing, f"the documents name {missing}, which the Makefile lacks"


def test_readme_commands_have_an_expected_output() -> None:
    readme = re.sub(r" \\\n +", " ", read("README.md"))
    programs = r"(?:[A-Z_]+=\S+ )*(?:make|python|pip|conkd-\w+|launch/\S+)"
    commands = set(re.findall(rf"^ {{4}}({programs} .+)$", readme, re.M))
    assert {"make demo", "make test"} | WITHOUT_EXPECTED_OUTPUT.keys() <= commands
    commands |= set(re.findall(r"`((?:make|python) [^`]+)`", readme))  # in sentences
    described = set(re.findall(r"^## (.+)$", read("docs/expected_output.md"), re.M))
    lacking = commands - described - WITHOUT_EXPECTED_OUTPUT.keys()
    assert not lacking, f"docs/expected_output.md: expected a section on {sorted(lacking)}"
    stale = described - commands - {"… --plan"}
    assert not stale, f"docs/expected_output.md: the README has no command {sorted(stale)}"


def test_commands_name_files_that_exist() -> None:
    for name, text in text_files().items():
        if not name.endswith((".md", ".py", ".sh")) and name != "Makefile":
            continue
        for config in re.findall(r"--config=(configs/[\w/]+\.py)", text):
            assert (ROOT / config).is_file(), f"{name} names {config}, which does not exist"
        for script in re.findall(r"\b(launch/\w+\.sh)", text):
            assert (ROOT / script).is_file(), f"{name} names {script}, which does not exist"


def test_options_in_documents_exist() -> None:
    from conkd_jax import config

    options = config.base()
    for name in ("README.md", "docs/data_card.md", "launch/README.md", *DESIGN_NOTES):
        for option in re.findall(r"--config\.([\w.]+\w)", read(name)):
            node = options
            for key in option.split("."):
                assert key in node, f"{name}: --config.{option} does not exist"
                node = node[key]


def test_hosted_checks_call_the_makefile() -> None:
    workflow = read(".github/workflows/ci.yml")
    called = set(re.findall(r"\brun: .*?\bmake ([a-z-]+)", workflow))
    assert called >= {"lint", "test", "demo"}
    missing = called - make_targets()
    assert not missing, f".github/workflows/ci.yml calls {missing}, which the Makefile lacks"


def test_hosted_checks_run_on_every_supported_python() -> None:
    (matrix,) = re.findall(r"python: \[(.*)\]", read(".github/workflows/ci.yml"))
    prefix = "Programming Language :: Python :: 3."
    supported = [name for name in project()["classifiers"] if name.startswith(prefix)]
    assert re.findall(r"[\d.]+", matrix) == [name.split()[-1] for name in supported]


def test_citation_is_of_this_version_and_its_paper() -> None:
    citation, readme = read("CITATION.cff"), " ".join(read("README.md").split())
    assert f"\nversion: {project()['version']}\n" in citation
    assert f"\nlicense: {project()['license']}\n" in citation
    (author,) = project()["authors"]
    assert f"- name: {author['name']}\n" in citation
    (title,) = re.findall(r'\n  title: "(.*)"', citation)
    assert title in readme


def test_links_resolve() -> None:
    for name, text in text_files().items():
        if name.endswith(".md"):
            for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
                if "://" not in target:
                    found = ((ROOT / name).parent / target).resolve()
                    assert found.exists(), f"{name} links to {target}, which does not exist"


def anchors_of(name: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    text = re.sub(r"^```.*?^```", "", read(name), flags=re.M | re.S)
    found = set(re.findall(r'<a (?:id|name)="([^"]+)"', text))
    for heading in re.findall(r"^#+ +(.*?)\s*$", text, re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        found.add(re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-"))
    return found


def test_anchors_resolve() -> None:
    """Every #anchor of a link to a page names one of its headings; that of a symbol its page."""
    for name, text in text_files().items():
        if not name.endswith(".md"):
            continue
        for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", text):
            if "://" in target or (target and not target.endswith(".md")):
                continue
            page = label(((ROOT / name).parent / target).resolve()) if target else name
            is_symbol = f"::: {anchor.rsplit('.', 1)[0]}" in read(page)
            assert is_symbol or anchor in anchors_of(page), f"{name} links to {target}#{anchor}"


DESIGN_NOTES = sorted(label(path) for path in (ROOT / "docs" / "design").glob("*.md"))


def test_design_notes_are_numbered() -> None:
    numbers = [int(Path(name).name[:4]) for name in DESIGN_NOTES]
    assert numbers == list(range(1, len(numbers) + 1))
    for name, number in zip(DESIGN_NOTES, numbers, strict=True):
        lines = read(name).splitlines()
        assert lines[0].startswith(f"# {number:04d}. "), f"{name}: the title needs the number"
        assert len(lines) <= 60, f"{name}: expected up to 60 lines, got {len(lines)}"


def test_notes_that_are_cited_exist() -> None:
    numbers = {Path(name).name[:4] for name in DESIGN_NOTES}
    for name, text in text_files().items():
        for number in re.findall(r"docs/design/(\d{4})", text):
            assert number in numbers, f"{name} cites docs/design/{number}, which does not exist"


def test_changelog_names_this_version() -> None:
    versions = re.findall(r"^## (\d+\.\d+\.\d+)", read("CHANGELOG.md"), re.M)
    assert versions[0] == project()["version"]


def test_licence_is_apache() -> None:
    text = read("LICENSE")
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text
    assert project()["license"] == "Apache-2.0"


def test_every_pin_says_why() -> None:
    pins = re.findall(r'^  "([A-Za-z][^"]*)",(.*)$', read("pyproject.toml"), re.M)
    pins = [(pin, rest) for pin, rest in pins if re.search(r"[=<>\[]", pin)]
    assert len(pins) >= 20
    for pin, rest in pins:
        assert "#" in rest, f"pyproject.toml: {pin} has no reason beside it"
        assert re.search(r"==|<", pin) or pin.startswith("conkd_jax["), f"{pin} has no upper bound"


def test_tests_install_the_peers() -> None:
    extras = project()["optional-dependencies"]
    assert {"tpu", "cuda", "test", "peers"} <= set(extras)
    assert "conkd_jax[peers]" in extras["test"]
    assert "torch==2.13.0" in extras["peers"]


# --- files -----------------------------------------------------------------------------------


def test_no_data_is_committed() -> None:
    suffixes = {".pkl", ".jsonl", ".csv", ".gz", ".zip", ".npz", ".npy", ".msgpack", ".safetensors"}
    for path in committed():
        name = label(path)
        assert path.suffix not in suffixes, f"{name}: data and weights are never committed"
        assert ".array_record" not in name, f"{name}: data and weights are never committed"
        assert path.stat().st_size <= LARGEST_FILE, f"{name} is larger than {LARGEST_FILE} bytes"


def test_split_lists_hold_ids_only() -> None:
    for path in (ROOT / "data_prep" / "splits").iterdir():
        for line in path.read_text(encoding="utf-8").split():
            assert line.isdigit(), f"{label(path)}: {line[:40]!r} is not a conversation id"


def test_no_path_of_a_machine() -> None:
    pattern = re.compile(
        r"(?<![\w.$}/:-])/(?:" + "|".join(("work", "tmp", "root", "home")) + r")/\w+"
    )
    for name, text in text_files().items():
        found = pattern.search(text)
        assert found is None, (
            f"{name}: {found.group()!r} exists on one machine only" if found else ""
        )


def test_names_say_what_is_inside() -> None:
    vague = re.compile(r"(^|/)(utils?|helpers?|common|misc)(\.py|/)")
    found = [label(path) for path in committed() if vague.search(label(path))]
    assert not found, f"names that do not say what is inside: {found}"


def test_an_item_is_called_an_item() -> None:
    """A corpus may be of any domain. Keys of JSON ("movies") and slots (<movie>) stay."""
    word = re.compile(r"(?<![\"'<])\b(movie|film)s?\b(?![\"'>])", re.I)
    rooms, code = ("conkd_jax/", "data_prep/"), {".py", ".js", ".html"}
    names = [label(path) for path in committed() if path.suffix in code]
    found = {name: word.search(read(name)) for name in names if name.startswith(rooms)}
    about_movies = {name: match.group() for name, match in found.items() if match}
    allowed = {name for files in ABOUT_MOVIES.values() for name in files}
    wrong = {name: said for name, said in about_movies.items() if name not in allowed}
    assert not wrong, f"expected 'item', which fits every corpus: {wrong}"
    needless = allowed - about_movies.keys()
    assert not needless, f"take these out of ABOUT_MOVIES: {sorted(needless)}"


def test_scripts_can_be_run() -> None:
    for name in (".ci/run", *(f"launch/{path.name}" for path in (ROOT / "launch").glob("*.sh"))):
        is_sourced = not (ROOT / name).read_text(encoding="utf-8").startswith("#!")
        assert is_sourced or (ROOT / name).stat().st_mode & 0o111, f"{name} is not executable"
        subprocess.run(["bash", "-n", str(ROOT / name)], check=True)


# --- code ------------------------------------------------------------------------------------


def code_files() -> list[Path]:
    rooms = ("conkd_jax/", "data_prep/", "configs/", "benchmarks/")
    return [p for p in committed() if p.suffix == ".py" and label(p).startswith(rooms)]


def test_files_and_functions_stay_short() -> None:
    long = []
    for path in code_files():
        source = path.read_text(encoding="utf-8")
        if (lines := source.count("\n")) > LONGEST_FILE and label(path) not in LONG_FILES:
            long.append(f"{label(path)}: {lines} lines")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                lines -= (ast.get_docstring(node) or "\n").count("\n")  # docstrings do not count
                name = f"{label(path)}:{node.name}"
                if lines > LONGEST_FUNCTION and name not in LONG_FUNCTIONS:
                    long.append(f"{name}: {lines} lines")
    assert not long, "split these, or give a reason in this file: " + "; ".join(long)


def test_exceptions_to_the_lengths_are_needed() -> None:
    for name in (*LONG_FILES, *LONG_FUNCTIONS):
        path, _, function = name.partition(":")
        assert function in read(path), f"{name} is gone: take its exception out of this file"


def test_sections_of_docstrings_are_indented_by_two_spaces() -> None:
    section = re.compile(r"^(?:Args|Returns|Yields|Raises|Attributes|Example):\n( *)\S", re.M)
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for path in code_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = (ast.get_docstring(node) or "") if isinstance(node, kinds) else ""
            for found in section.finditer(text):
                name = f"{label(path)}:{getattr(node, 'name', 'module')}"
                assert len(found.group(1)) == 2, f"{name}: {found.group()!r}"


def test_modules_say_why_they_exist() -> None:
    for path in code_files():
        source = path.read_text(encoding="utf-8")
        if source.strip():
            assert ast.get_docstring(ast.parse(source)), f"{label(path)} has no module docstring"


def test_options_have_no_hidden_defaults() -> None:
    for path in code_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr":
                hidden = len(node.args) == 3 and "config" in ast.unparse(node.args[0])
                assert not hidden, f"{label(path)}:{node.lineno}: {ast.unparse(node)}"


def modules_with_examples() -> list[str]:
    found = [p for p in (ROOT / "conkd_jax").rglob("*.py") if "\n    >>> " in p.read_text("utf-8")]
    return sorted(".".join(p.relative_to(ROOT).with_suffix("").parts) for p in found)


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_in_docstrings_are_true(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted > 0
    assert outcome.failed == 0


# --- tests -----------------------------------------------------------------------------------


def test_no_test_module_is_imported() -> None:
    """Shared fixtures and builders live in conftest.py or in modules without the prefix test_."""
    dotted = re.compile(r"\b(?:from|import) tests[\w.]*\.test_\w+")
    listed = re.compile(r"\bfrom tests[\w.]* import [^\n]*\btest_\w+")
    for name, text in text_files().items():
        if name.startswith("tests/") and name.endswith(".py"):
            found = dotted.search(text) or listed.search(text)
            assert found is None, f"{name}: {found.group()}" if found else ""


def module_under_test(test: str) -> Path | None:
    """Returns the module or package that a test file mirrors, if there is one."""
    name = test.removeprefix("tests/").replace("/test_", "/").removeprefix("test_")
    name = name.replace("/main.py", "/__main__.py")
    names = [f"conkd_jax/{name}", f"conkd_jax/{name.removesuffix('.py')}/__init__.py", name]
    return next((ROOT / each for each in names if (ROOT / each).is_file()), None)


def test_tests_mirror_the_tree() -> None:
    tests = [label(path) for path in committed()]
    tests = [name for name in tests if re.fullmatch(r"tests/(.*/)?test_\w+\.py", name)]
    without = {name for name in tests if module_under_test(name) is None}
    lost = without - set(CROSS_CUTTING_TESTS)
    assert not lost, f"no module of that name in conkd_jax/ or data_prep/: {sorted(lost)}"
    needless = set(CROSS_CUTTING_TESTS) - without
    assert not needless, f"take these out of CROSS_CUTTING_TESTS: {sorted(needless)}"
