"""Pictures of the page, taken in a headless Chromium while it talks to a server.

    conkd-serve --workdir=RUN,RUN2
    python -m conkd_jax.serve.screenshots http://127.0.0.1:8000 --out=docs/figures

The server needs two systems, and its answers are what the systems say. The pictures in docs/figures
are of two runs of `:mini` on ReDial, configs/kgsf_hard.py and configs/kgsf.py.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

from absl import flags
from etils import epath

from conkd_jax.cli import command_line
from conkd_jax.cli.command_line import UsageError
from conkd_jax.errors import UserError
from conkd_jax.io.files import write_whole

OPTIONS = flags.FlagValues()
_OUT = flags.DEFINE_string("out", "", "The folder for the pictures.", flag_values=OPTIONS)

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",  # which needs rights that a container lacks; the pages are our own
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
)
DESK, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
MESSAGES = (
    "Hi, I love superhero movies, Black Panther was great",
    "Have you seen Bridesmaids? I want more like it",
    "And a thriller like Seven or Gone Girl?",
)
TO_BOTH = "Can you recommend me a comedy like Superbad?"
WAIT = 120_000  # milliseconds for an answer


@contextlib.contextmanager
def opened_browser() -> Iterator[Any]:
    """A headless browser: the Chromium of CONKD_BROWSER, or the first on the path.

    Raises:
      UserError: there is none, or no playwright.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise UserError(
            "playwright is missing, which drives the browser: pip install 'conkd_jax[browser]'"
        ) from error
    found = os.environ.get("CONKD_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        raise UserError(
            "expected a Chromium, found none: install one, or set CONKD_BROWSER to its path"
        )
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=found, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def pictures(browser: Any, address: str) -> Iterator[tuple[str, bytes]]:
    """Yields names and contents of the pictures."""
    page = _opened(browser, address, DESK, "light")
    for message in MESSAGES:
        _say(page, message)
    yield "serve_conversation.png", _picture(page)
    page.check("input[value=pair]")
    page.click("#new")
    _say(page, TO_BOTH)
    yield "serve_compare.png", _picture(page)
    page = _opened(browser, address, PHONE, "dark", device_scale_factor=2)
    for message in MESSAGES:
        _say(page, message)
    page.locator(".last .look").click()
    yield "serve_phone_dark.png", _picture(page)


def _opened(browser: Any, address: str, viewport: dict[str, int], scheme: str, **options: Any):
    context = browser.new_context(
        viewport=viewport, color_scheme=scheme, reduced_motion="reduce", **options
    )
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("#about:not(:empty)")
    return page


def _say(page: Any, message: str) -> None:
    count = page.locator(".turn").count()
    page.fill("#text", message)
    page.press("#text", "Enter")
    page.wait_for_selector(f".turn:nth-child({count + 2})", state="attached", timeout=WAIT)
    page.wait_for_selector("#send", timeout=WAIT)


def _picture(page: Any) -> bytes:
    page.evaluate("document.activeElement.blur()")  # a caret blinks
    page.mouse.move(0, 0)
    return page.screenshot()


def main(argv: list[str]) -> None:
    """Takes the pictures."""
    if len(argv) != 2 or not _OUT.value:
        raise UsageError(
            "expected the address of a server and a folder, for example http://127.0.0.1:8000 "
            "--out=docs/figures"
        )
    folder = epath.Path(_OUT.value)
    folder.mkdir(parents=True, exist_ok=True)
    with opened_browser() as browser:
        for name, content in pictures(browser, argv[1]):
            write_whole(folder / name, content)
            command_line.show(f"{folder / name}: {len(content) // 1000} kB")


def run() -> None:
    """Runs the command line."""
    command_line.run(main, OPTIONS, positional="ADDRESS")


if __name__ == "__main__":
    run()
