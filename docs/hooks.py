"""What the site needs beyond MkDocs: a navigation that lists folders, and links that leave docs/.

`mkdocs.yml` names this file. The pages are written for two readers, who open them in the repository
or on the site. A link to a file outside docs/ works in the repository as it is. On the site it
leads to a page made from that file (`PAGES`), to a copy of it or, for a folder, to a list of the
files in it.
"""

from __future__ import annotations

import itertools
import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from conkd_jax.config.help import config_fields

ROOT = Path(__file__).resolve().parents[1]
DOCS = "docs"
# Files of the repository that are pages of the site.
PAGES = {
    "README.md": "index.md",
    "launch/README.md": "launch.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
OPTIONS = "options.md"  # a page made from the comments in conkd_jax/config/
COPIES = "files"  # the folder of the site with copies of other files
LISTED = (".json", ".py", ".md", ".css", ".js", ".html", ".sh", ".csv")
MERMAID = re.compile(r'<script type="module">(?:(?!</script>).)*mermaid.*?</script>', re.S)
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Replaces `folder/*.md` in the navigation by the pages of the folder that it does not name."""
    if config.nav is not None:
        named = set(_pages_named_in(config.nav))
        config.nav = _expanded(config.nav, named)
    return config


def _pages_named_in(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    entries = nav.values() if isinstance(nav, dict) else nav
    return [name for entry in entries for name in _pages_named_in(entry)]


def _expanded(nav: list, named: set[str]) -> list:
    expanded = []
    for entry in nav:
        if isinstance(entry, str) and "*" in entry:
            found = sorted((ROOT / DOCS).glob(entry))
            names = [path.relative_to(ROOT / DOCS).as_posix() for path in found]
            expanded += [name for name in names if name not in named]
        elif isinstance(entry, dict):
            expanded.append(
                {
                    title: _expanded(part, named) if isinstance(part, list) else part
                    for title, part in entry.items()
                }
            )
        else:
            expanded.append(entry)
    return expanded


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages of `PAGES`, that of options, and the files and folders that pages link to."""
    files.append(File.generated(config, OPTIONS, content=_options()))
    for outside, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / outside)))
    texts = {file.src_uri: file.content_string for file in files.documentation_pages()}
    for page, text in texts.items():
        for _, target, _ in LINK.findall(text):
            found = _target(page, target)
            if found is not None and _on_site(found) == f"{COPIES}/{found}":
                files.append(
                    File.generated(config, f"{COPIES}/{found}", abs_src_path=str(ROOT / found))
                )
            elif found is not None and (ROOT / found).is_dir():
                name = _on_site(found)
                if files.get_file_from_path(name) is None:
                    _append_folder(files, config, found)
    return files


def _options() -> str:
    """The page of all fields of the config, with the paper's defaults."""
    lines = [
        "# Options",
        "",
        "Every field of the config. `--config.PART.FIELD=VALUE` sets it on the command line, and a "
        "[config file](configs.md) as `config.part.field = value`. The defaults are the paper's; "
        "presets and config files change some of them. `python -m conkd_jax.train --help` prints "
        "the same list.",
    ]
    fields = config_fields().values()
    for part, members in itertools.groupby(fields, key=lambda field: field.name.rpartition(".")[0]):
        lines += [
            "",
            f"## {part or 'config'}",
            "",
            "| field | default | meaning |",
            "|---|---|---|",
        ]
        for field in members:
            meaning = re.sub(r"([|*_<`\\])", r"\\\1", field.comment)
            lines.append(f"| `{field.name.rpartition('.')[2]}` | `{field.default!r}` | {meaning} |")
    return "\n".join(lines) + "\n"


def _append_folder(files: Files, config: MkDocsConfig, folder: str) -> None:
    """Adds a page that lists a folder, and the files in it that are not part of the site yet."""
    lines = [f"# {folder}/", ""]
    page = _on_site(folder)
    for path in sorted((ROOT / folder).rglob("*")):
        name = path.relative_to(ROOT).as_posix()
        if path.is_file() and path.suffix in LISTED and "__pycache__" not in name:
            goal = _on_site(name)
            if files.get_file_from_path(goal) is None:
                files.append(File.generated(config, goal, abs_src_path=str(path)))
            shown = path.relative_to(ROOT / folder).as_posix()
            lines.append(f"* [{shown}]({posixpath.relpath(goal, posixpath.dirname(page))})")
    files.append(File.generated(config, page, content="\n".join(lines) + "\n"))


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Points links that leave docs/, or lead to a folder, to their places on the site."""
    here = page.file.src_uri

    def moved(found: re.Match[str]) -> str:
        before, target, after = found.groups()
        where = _target(here, target)
        if where is None:
            return found.group()
        link = posixpath.relpath(_on_site(where), posixpath.dirname(here) or ".")
        return before + link + after

    return LINK.sub(moved, markdown)


def on_post_page(output: str, **_: Any) -> str:
    """Takes out the script of notebooks that would load mermaid from a CDN for a diagram."""
    return MERMAID.sub("", output)


def _target(page: str, link: str) -> str | None:
    """The path, from the root of the repository, of what a page links to.

    Args:
      page: the page, by its path on the site.
      link: the link, without its anchor.

    Returns:
      None where the link needs no change: an address, a file of docs/, or nothing that exists.
    """
    if "://" in link or link.startswith(("mailto:", f"{COPIES}/", f"../{COPIES}/")):
        return None
    source = next((out for out, made in PAGES.items() if made == page), f"{DOCS}/{page}")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    if path.startswith("..") or not (ROOT / path).exists():
        return None
    is_of_site = path.startswith(f"{DOCS}/") and (ROOT / path).is_file()
    return None if is_of_site and source == f"{DOCS}/{page}" else path


def _on_site(path: str) -> str:
    """Where a file or folder of the repository is on the site."""
    if path in PAGES:
        return PAGES[path]
    if (ROOT / path).is_dir():
        return f"{COPIES}/{path}/index.md"
    if path.startswith(f"{DOCS}/"):
        return os.path.relpath(path, DOCS)
    return f"{COPIES}/{path}"
