"""The site: what the repository's pages become, and the notebook that is one of them."""

import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from conkd_jax import demo
from conkd_jax.config.help import config_fields

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "notebooks" / "demo.ipynb"


class Unknown(yaml.SafeLoader):
    """Reads mkdocs.yml without importing what its tags name."""


Unknown.add_multi_constructor("", lambda loader, suffix, node: None)


@pytest.fixture(scope="module")
def hooks():
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pages_in(nav) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [
        page for part in (nav.values() if isinstance(nav, dict) else nav) for page in pages_in(part)
    ]


# --- navigation and links ------------------------------------------------------------------------


def test_every_page_is_in_the_navigation_once(hooks):
    config = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Unknown)
    named = pages_in(hooks._expanded(config["nav"], set(pages_in(config["nav"]))))
    assert len(named) == len(set(named))
    docs = ROOT / "docs"
    pages = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    pages |= {path.relative_to(docs).as_posix() for path in docs.rglob("*.ipynb")}
    assert set(named) == pages | set(hooks.PAGES.values()) | {hooks.OPTIONS}


@pytest.mark.parametrize(
    ("page", "link", "on_site"),
    [
        ("idea.md", "metrics.md", None),  # both in docs/: as it is
        ("idea.md", "https://arxiv.org", None),
        ("idea.md", "no_such_page.md", None),  # for MkDocs to complain about
        ("idea.md", "../README.md", "index.md"),
        ("howto/serve.md", "../../launch/README.md", "launch.md"),
        ("howto/serve.md", "../../launch/slurm.sh", "files/launch/slurm.sh"),
        ("results.md", "results/comparisons", "files/docs/results/comparisons/index.md"),
        ("launch.md", "../docs/metrics.md", "metrics.md"),  # a page made from launch/README.md
        ("index.md", "docs/figures/said.png", "figures/said.png"),
    ],
)
def test_links_lead_to_the_same_file_on_the_site(hooks, page, link, on_site):
    target = hooks._target(page, link)
    assert (None if target is None else hooks._on_site(target)) == on_site


def test_the_page_of_options_has_every_field(hooks):
    page = hooks._options()
    for field in config_fields().values():
        assert f"| `{field.name.rpartition('.')[2]}` | `{field.default!r}` | " in page, field.name
    assert "## distill\n" in page and "γ" in page


# --- the whole site ------------------------------------------------------------------------------


class Loaded(HTMLParser):
    """Collects what a page makes a browser load."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "video"):
            self.addresses.append(found.get("src") or "")
        if tag == "link" and found.get("rel") not in ("canonical", "prev", "next"):
            self.addresses.append(found.get("href") or "")


@pytest.mark.slow
def test_the_site_is_built_without_warnings_and_loads_nothing_from_elsewhere(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", f"--site-dir={tmp_path}"]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-3000:]
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        if (tmp_path / "files") in page.parents and page.name != "index.html":
            continue  # a copy of a file of the repository
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"cdnjs|unpkg|jsdelivr|googleapis", text), page
        loaded = Loaded()
        loaded.feed(text)
        elsewhere = [each for each in loaded.addresses if re.match(r"(https?:)?//", each)]
        assert not elsewhere, f"{page.relative_to(tmp_path)} loads {elsewhere}"
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//", style.read_text(encoding="utf-8")), style


# --- the notebook --------------------------------------------------------------------------------


def test_the_notebook_is_committed_with_its_outputs():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    assert all(output["output_type"] != "error" for output in outputs)
    figures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(figures) == 2
    assert all(output.get("name") != "stderr" for output in outputs)


def test_the_notebook_names_what_there_is():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    named = set(re.findall(r"\bdemo\.(\w+)", code))
    imported = re.findall(r"^from (conkd_jax\.[\w.]+) import (.+)$", code, re.M)
    assert named and imported
    missing = [name for name in named if not hasattr(demo, name)]
    for module, names in imported:
        found = importlib.import_module(module)
        missing += [f"{module}.{name}" for name in names.split(", ") if not hasattr(found, name)]
    assert not missing


@pytest.mark.soak
def test_the_notebook_runs(tmp_path):
    shutil.copy(NOTEBOOK, tmp_path)
    (tmp_path / "work").mkdir()
    environment = os.environ | {"CONKD_FOLDER": str(tmp_path / "work"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "nbconvert", "--to=notebook", "--execute", NOTEBOOK.name]
    command += ["--output=done.ipynb", "--ExecutePreprocessor.timeout=1500"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    cells = json.loads((tmp_path / "done.ipynb").read_text(encoding="utf-8"))["cells"]
    text = json.dumps([cell.get("outputs") for cell in cells], ensure_ascii=False)
    assert "ConKD: that start, and both teachers" in text and "mean λ at movies" in text
    assert text.count("image/png") == 2
