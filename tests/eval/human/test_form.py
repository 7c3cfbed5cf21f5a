"""The form: everything is inside it, nothing gets out of a text, and people can use it."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from conkd_jax.eval.human.form import form_page
from conkd_jax.eval.human.instructions import instructions_md
from conkd_jax.eval.human.sheets import COLUMNS, SCALE_NAMES
from conkd_jax.eval.human.study import SCALES
from tests.eval import judged

STUDY = judged.study()
TEXTS = judged.shown(STUDY)
VOID = {"meta", "input"}
LOADING = {"src", "href", "srcset", "action", "formaction", "data", "poster", "background", "ping"}


class Page(HTMLParser):
    """Elements in order, with their attributes and the text directly or deeper inside them."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self.open: list[tuple[str, dict[str, str], list[str]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag == "li" and self.open[-1][0] == "li":
            self.open.pop()
        element = (tag, {name: value or "" for name, value in attrs}, [])
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        if self.open[-1][0] == "li" != tag:
            self.open.pop()
        assert self.open.pop()[0] == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        for _, _, text in self.open:
            text.append(data)

    def of(self, tag: str) -> list[tuple[dict[str, str], str]]:
        return [(attrs, "".join(text)) for name, attrs, text in self.elements if name == tag]


@pytest.fixture(scope="module")
def text() -> str:
    return form_page(STUDY, 1, TEXTS, file="annotator_1_judged.csv")


@pytest.fixture(scope="module")
def page(text) -> Page:
    return Page(text)


def test_nothing_comes_from_outside(text, page):
    assert page.open == []  # every element is closed
    for tag, attributes, _ in page.elements:
        assert not LOADING & attributes.keys(), f"<{tag}> loads something"
        assert not any(name.startswith("on") for name in attributes), f"<{tag}> runs something"
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "audio", "video")
    ((_, style),) = page.of("style")
    ((_, script),) = page.of("script")
    assert "url(" not in style and "@import" not in style
    for way in ("fetch", "XMLHttpRequest", "import(", "WebSocket", "sendBeacon", "innerHTML", "//"):
        assert way not in re.sub(r"(^|  )// .*", "", script, flags=re.MULTILINE)
    assert "://" not in text


def test_the_policy_admits_this_style_and_this_script_only(page):
    policy = next(a["content"] for a, _ in page.of("meta") if "http-equiv" in a)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    for kind in ("style", "script"):
        ((_, content),) = page.of(kind)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert set(rules) == {"default-src", "style-src", "script-src", "base-uri", "form-action"}


def test_texts_stay_texts(text, page):
    assert text.count("</script>") == 1 and "<img" not in text
    shown = [said for _, said in page.of("blockquote")]
    expected = [TEXTS[entry.context].responses[entry.system] for entry in STUDY.sheets[0]]
    assert shown == expected
    assert '</script><img src="x" onerror="alert(1)"> & "quoted"' in shown[0]
    turns = [said for attributes, said in page.of("span") if attributes == {"dir": "auto"}]
    contexts = dict.fromkeys(entry.context for entry in STUDY.sheets[0])
    assert turns == [said for context in contexts for _, said in TEXTS[context].turns]


def test_a_form_is_blind(text):
    for system in STUDY.systems:
        for told in (system.name, system.config, system.corpus, system.sha256):
            assert told not in text
    assert "conkd" not in text.lower()  # a name would say what the study hopes to find
    others = [form_page(STUDY, a, TEXTS, file="x.csv") for a in (2, 3)]
    quotes = [[said for _, said in Page(each).of("blockquote")] for each in (text, *others)]
    assert sorted(quotes[0]) == sorted(quotes[1]) == sorted(quotes[2])
    assert quotes[0] != quotes[1] != quotes[2] != quotes[0]


def test_every_response_has_its_scales(page):
    articles = [attributes["id"] for attributes, _ in page.of("article")]
    assert articles == [entry.id for entry in STUDY.sheets[0]]
    legends = [legend for _, legend in page.of("legend")]
    assert legends == [scale.title for scale in SCALES] * len(articles)
    inputs = [attributes for attributes, _ in page.of("input") if "name" in attributes]
    assert all(each["type"] == "radio" and "checked" not in each for each in inputs)
    choices = [(each["name"], each["value"]) for each in inputs]
    expected = [(f"{id_} {name}", v) for id_ in articles for name in SCALE_NAMES for v in "012"]
    assert choices == expected
    labels = [label.strip() for _, label in page.of("label")[1:]]  # the first is the progress bar's
    meanings = [f"{v} {m}" for scale in SCALES for v, m in enumerate(scale.meanings)]
    assert labels == meanings * len(articles)


def test_the_page_is_told_apart_by_those_who_do_not_see_it(page):
    assert [attributes["lang"] for attributes, _ in page.of("html")] == ["en"]
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for _, attributes, _ in page.elements:
        for name in ("aria-labelledby", "for"):
            assert attributes.get(name, ids[0]) in ids
    assert all("aria-labelledby" in a for a, _ in page.of("section") + page.of("article"))
    levels = [tag for tag, _, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    responses = ["h3"] * len(STUDY.systems)
    assert levels == ["h1", *(["h2", *responses] * len(STUDY.contexts))]
    assert all(attributes["type"] == "button" for attributes, _ in page.of("button"))
    assert [a["role"] for a, _ in page.of("p") if "role" in a] == ["status"]


def test_the_script_finds_what_it_looks_for(page):
    ((_, script),) = page.of("script")
    ids = {attributes["id"] for _, attributes, _ in page.elements if "id" in attributes}
    wanted = set(re.findall(r'getElementById\("(\w+)"\)', script))
    assert wanted == {"judgements", "news", "progress", "count", "next", "save", "load", "file"}
    assert wanted <= ids
    ((form, _),) = page.of("form")
    for name in set(re.findall(r"dataset\.(\w+)", script)):
        assert form[f"data-{name}"]
    assert form["data-columns"] == ",".join(COLUMNS)
    assert form["data-study"] == STUDY.id and form["data-annotator"] == "1"
    assert [a["max"] for a, _ in page.of("progress")] == [str(10 * len(SCALES))]


def test_instructions_say_what_the_scores_mean(page):
    ((_, told),) = page.of("details")
    for instructions in (told, instructions_md()):
        for scale in SCALES:
            for words in (scale.title, scale.asks, *scale.meanings):
                assert words in instructions


def test_answers_come_back(page):
    """From a second tab, and from a file that was saved: a browser's storage can be cleared."""
    ((_, script),) = page.of("script")
    assert 'window.addEventListener("storage"' in script
    (picker,) = [attributes for attributes, _ in page.of("input") if "name" not in attributes]
    assert picker["type"] == "file" and picker["id"] == "file" and "hidden" in picker
    assert "load(await picker.files[0].text())" in script


def test_a_narrow_window_is_not_wider_than_it_is(page):
    ((_, style),) = page.of("style")
    assert "details { overflow-x: auto; }" in style  # the table of scales
    assert ".turns li, blockquote { overflow-wrap: anywhere; }" in style
    assert not re.search("(margin|padding|border)-(left|right)", style)  # texts may run both ways
