"""The page, in a real browser: conversations, corrections, comparisons, strangers' texts.

Most of these tests need a Chromium and are marked `browser` (`make test-browser`).
"""

import base64
import contextlib
import dataclasses
import hashlib
import json
import re

import pytest

from conkd_jax.eval.own_ids import OwnIds
from conkd_jax.eval.predictions import read_predictions
from conkd_jax.serve.page import document, policy
from tests.fixtures.browser import Watched, breaking_server, browser_or_skip

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "\u202eright to left\u2066 and \u200fback",
    "👩\u200d👩\u200d👧 🍿 Amélie \U0001f3ac",
    "@1 @99999999999999999999 @-1 &amp; &lt;b&gt; ${1+1} {{7*7}}",
    "'\"`;--\\u0000 %00 \t|",
)
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 800}


# --- without a browser -------------------------------------------------------------------------


def parts(tag: str) -> list[str]:
    return re.findall(rf"<{tag}>(.*?)</{tag}>", document(), re.S)


@pytest.mark.parametrize("tag", ["style", "script"])
def test_the_policy_admits_this_style_and_this_script_only(tag):
    (text,) = parts(tag)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    rules = dict(rule.split(" ", 1) for rule in policy().split("; "))
    assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["connect-src"] == "'self'" and "unsafe" not in policy()


def test_nothing_comes_from_outside():
    text = document()
    assert "://" not in text and "@import" not in text and "url(" not in text
    (script,) = parts("script")
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "import(",
    ):
        assert way not in script
    markup = text.replace(script, "").replace(parts("style")[0], "")
    assert not re.search(r"\s(on\w+|style|src|srcset|action|formaction)=", markup)
    assert re.findall(r'\shref="([^"]*)"', markup) == ["data:,"]


def test_labels_and_names_point_to_elements():
    ids = re.findall(r'\sid="([^"]+)"', document())
    assert len(ids) == len(set(ids))
    pointers = re.findall(
        r'\s(?:for|aria-controls|aria-labelledby|aria-describedby)="([^"]+)"', document()
    )
    assert pointers and set(pointers) <= set(ids)
    (script,) = parts("script")
    assert set(re.findall(r'byId\("([\w-]+)"\)', script)) <= set(ids) | {"found-0"}


# --- with a browser ----------------------------------------------------------------------------

browser_test = pytest.mark.browser


@pytest.fixture(scope="module")
def titles(systems) -> list[str]:
    return [title for title in systems[None].chat.system.corpus.items.titles if "(" in title]


@pytest.fixture(scope="module")
def server(systems, tmp_path_factory):
    from tests.fixtures.serving import running

    votes = tmp_path_factory.mktemp("arena") / "votes.sqlite"
    with running(systems, arena=str(votes)) as site:
        yield address_of(site)


def address_of(site) -> str:
    return f"http://127.0.0.1:{site.port}"


@pytest.fixture(scope="module")
def browser():
    with browser_or_skip() as browser:
        yield browser


@pytest.fixture
def visit(browser):
    """Opens an address; at the end, the page must not have complained, or asked anyone else."""
    opened: list[tuple[str, Watched]] = []
    with contextlib.ExitStack() as stack:

        def visit(address: str, **options):
            context = browser.new_context(**{"viewport": DESK, **options})
            stack.callback(context.close)
            context.set_default_timeout(90_000)  # milliseconds; on a busy core all is slow
            watched = Watched(context.new_page())
            opened.append((address, watched))
            watched.page.goto(address)
            watched.page.wait_for_selector("#about:not(:empty)")
            return watched

        yield visit
        for address, watched in opened:
            assert watched.complaints == []
            strangers = [
                url for url in watched.requests if not url.startswith((address, "blob:", "data:"))
            ]
            assert strangers == []


def ask(page, text: str) -> str:
    """Sends a message, and waits for the end of its answer; returns the text of that."""
    count = page.locator(".turn").count()
    page.fill("#text", text)
    page.press("#text", "Enter")
    page.wait_for_selector(f".turn:nth-child({count + 2})", state="attached")
    page.wait_for_selector("#send")
    return page.locator(".turn.last .body").first.inner_text()


def news(page) -> str:
    return page.locator("#news").text_content()


def focused(page) -> str:
    return page.evaluate("document.activeElement.id || document.activeElement.textContent")


def tab_to(page, wanted: str, key: str = "Tab") -> None:
    """Moves the focus by keys alone to the element of an id or a text."""
    for _ in range(60):
        if focused(page) == wanted:
            return
        page.keyboard.press(key)
    raise AssertionError(f"no {key} reaches {wanted!r}")


@browser_test
def test_a_conversation_streams_and_ends(server, visit, titles):
    page = visit(server).page
    assert focused(page) == "text" and page.locator("#welcome").is_visible()
    page.evaluate(
        """() => {
          window.seen = [];
          const body = () => document.querySelector(".turn.answer .body");
          const look = () => seen.push(body()?.textContent ?? "");
          new MutationObserver(look).observe(document, { subtree: true, childList: true });
        }"""
    )
    answer = ask(page, f"Hi! I liked {titles[0]}.")
    steps = [text for text in page.evaluate("[...new Set(seen)]") if text]
    assert len(steps) > 2  # it grew on the page
    assert all(answer.startswith(step.strip()) for step in steps)
    assert news(page).strip() == f"Answer: {answer}"  # said once, as a whole
    assert page.locator(".message .chip").all_inner_texts() == [titles[0]]
    assert focused(page) == "text" and page.input_value("#text") == ""
    ask(page, "And something else?")
    assert page.locator(".turn").count() == 4


@browser_test
def test_the_inside_is_that_of_the_response(server, systems, visit, titles):
    page = visit(server).page
    told: list[str] = []

    def listen(route) -> None:
        reply = route.fetch()
        told.append(reply.text())
        route.fulfill(response=reply)

    page.route("**/v1/stream", listen)
    ask(page, f"I loved {titles[1]}!")
    (response,) = [json.loads(data) for data in re.findall(r"event: response\ndata: (.*)", told[0])]
    inside = page.locator("#inside")
    assert inside.locator(".strip .word").count() == len(response["tokens"])
    shares = inside.locator(".mass .bar").evaluate_all(
        "bars => bars.map(bar => Number(bar.style.getPropertyValue('--share')))"
    )
    assert shares == pytest.approx([token["teacher_mass"] for token in response["tokens"]])
    assert inside.locator(".item").count() == len(response["items"])
    for place, item in enumerate(response["items"]):
        rows = inside.locator(".item").nth(place).locator(".ranking li .name").all_inner_texts()
        assert rows == [one["title"] for one in item["ranking"]]
    of_system = {one["title"] for one in response["explanation"]["rankings"]["this system"]}
    assert of_system <= set(inside.locator(".top-five th[scope=row]").all_inner_texts())
    inside.locator("summary").click()
    assert inside.locator(".scroll tbody tr").count() == len(response["tokens"])


@browser_test
def test_a_corrected_link_changes_the_reading(server, visit, titles):
    page = visit(server).page
    ask(page, f"Is {titles[0]} any good?")
    with page.expect_request("**/v1/stream") as asked:
        page.click(".message .chip")
        page.fill("#query", titles[2])
        page.get_by_role("option", name=titles[2]).first.click()
    (message,) = asked.value.post_data_json["history"]
    assert list(message["corrections"]) == ["3"]
    page.wait_for_selector("#stop", state="hidden")
    assert page.locator(".message .chip").all_inner_texts() == [titles[2]]
    assert page.locator(".turn").count() == 2  # the answer was given again
    with page.expect_request("**/v1/stream") as asked:
        page.click(".message .chip")
        page.click("#none")
    assert asked.value.post_data_json["history"][0]["corrections"] == {"3": None}
    page.wait_for_selector("#stop", state="hidden")
    assert page.locator(".message .chip.denied").count() == 1


@browser_test
def test_a_movie_can_be_found_while_writing(server, visit, titles):
    page = visit(server).page
    page.fill("#text", "I like")
    page.click("#find")
    page.fill("#query", titles[3])
    page.get_by_role("option", name=titles[3]).first.wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    assert page.input_value("#text") == f"I like {titles[3]} "
    assert focused(page) == "text"


@browser_test
def test_undo_and_a_new_conversation(server, visit, titles):
    page = visit(server).page
    ask(page, "Hello")
    ask(page, f"I saw {titles[0]}")
    page.click("#undo")
    assert page.locator(".turn").count() == 2
    assert page.input_value("#text") == f"I saw {titles[0]}" and focused(page) == "text"
    page.click("#new")
    assert page.locator(".turn").count() == 0 and page.locator("#welcome").is_visible()
    page.click("#undo")
    assert page.locator(".turn").count() == 2


@browser_test
def test_random_answers_have_a_seed(server, visit):
    page = visit(server).page
    page.click("#settings summary")
    page.check("#drawn")
    page.fill("#seed", "7")
    page.fill("#temperature", "3")
    with page.expect_request("**/v1/stream") as asked:
        first = ask(page, "Hello")
    options = asked.value.post_data_json
    assert (options["seed"], options["temperature"]) == (8, 3)  # each message has its own
    assert "top_p" not in options
    page.click(".last .again")
    page.wait_for_selector("#stop", state="hidden")
    assert page.locator(".last .body").inner_text() == first
    page.fill("#seed", "-1")
    page.fill("#text", "Hello again")
    page.press("#text", "Enter")
    assert "out of range" in page.locator("#problem").inner_text()
    assert page.input_value("#text") == "Hello again"


@browser_test
def test_a_saved_conversation_can_be_evaluated(server, visit, titles, tmp_path):
    page = visit(server).page
    ask(page, f"👩\u200d👧 I liked {titles[0]}2")  # places count characters, not UTF-16 units
    ask(page, "Another one?")
    with page.expect_download() as download:
        page.click("#save")
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    first, second = read_predictions(file)
    assert (first.turn, second.turn) == (1, 3)
    assert re.fullmatch(r"👩\u200d👧 I liked @\d+ 2", first.context[0].text)
    assert second.context[1].text == first.generated
    assert first.predicted_turn_type in ("rec", "gen")


@browser_test
def test_a_saved_conversation_has_the_ids_of_own_data(
    server, systems, visit, titles, tmp_path, monkeypatch
):
    served = systems[None]
    items = served.chat.system.corpus.items
    own = dataclasses.replace(items, keys=[f"own-{number}" for number in items.item_ids])
    monkeypatch.setitem(vars(served), "_ids", OwnIds(own))
    page = visit(server).page
    answered = []
    for title in titles[:6]:
        ask(page, f"I liked {title}")
        with page.expect_download() as download:
            page.click("#save")
        download.value.save_as(tmp_path / "chat.jsonl")
        answered = [
            each for each in read_predictions(tmp_path / "chat.jsonl") if each.generated_items
        ]
        if answered:
            break
    assert answered, "no answer names an item"
    for prediction in answered:
        ids = [prediction.ids[str(item)] for item in prediction.generated_items]
        assert ids == [f"own-{item}" for item in prediction.generated_items]


@browser_test
def test_two_systems_answer_side_by_side(server, visit, titles):
    page = visit(server).page
    page.check("input[value=pair]")
    ask(page, f"I liked {titles[0]}")
    assert page.locator(".side").count() == 2 and page.locator(".side .strip").count() == 2
    assert page.locator("#beside").is_hidden()
    page.get_by_role("button", name="Continue from this").click()
    assert page.locator(".side").nth(1).get_attribute("class") == "side chosen"
    with page.expect_request("**/v1/compare") as asked:
        ask(page, "And another?")
    assert [message["role"] for message in asked.value.post_data_json["history"]] == [
        "seeker",
        "recommender",
        "seeker",
    ]


@browser_test
def test_a_blind_vote_by_key(server, visit, titles):
    page = visit(server).page
    page.check("input[value=blind]")
    assert page.locator("#table").inner_text() == "No votes yet."
    ask(page, f"I liked {titles[0]}")
    names = page.locator("#first option").evaluate_all("all => all.map(one => one.title)")
    shown = page.locator(".turn.pair").inner_text()
    assert not any(name in shown for name in names)
    assert "Which answer is better" in page.evaluate("document.activeElement.ariaLabel")
    with page.expect_response("**/v1/arena/vote") as voted:
        page.keyboard.press("2")
    assert voted.value.request.post_data_json["choice"] == "second"
    page.wait_for_selector(".revealed")
    assert "You voted: second is better" in page.locator(".revealed").inner_text()
    page.wait_for_selector(".ratings")
    assert page.locator(".ratings tbody tr").count() == 2
    assert page.locator(".ratings tbody td:nth-child(3)").all_inner_texts() == ["1", "1"]
    ask(page, "Another?")
    page.get_by_role("button", name="Equally good").click()
    page.wait_for_selector(".turn.last .revealed")


@browser_test
def test_the_keyboard_is_enough(server, visit, titles):
    page = visit(server).page
    page.keyboard.type(f"I liked {titles[0]}")
    page.keyboard.press("Enter")
    page.wait_for_selector(".turn.answer.done")
    tab_to(page, "Look inside", "Shift+Tab")
    page.keyboard.press("Enter")
    assert focused(page) == "inside"
    page.keyboard.press("Escape")
    assert focused(page) == "Look inside"
    tab_to(page, titles[0], "Shift+Tab")
    page.keyboard.press("Enter")
    assert focused(page) == "query"
    page.keyboard.press("Escape")
    assert focused(page) == titles[0] and not page.locator("#picker").is_visible()
    page.keyboard.press("Enter")
    tab_to(page, "none")
    page.keyboard.press("Enter")
    page.wait_for_selector(".chip.denied")
    page.wait_for_selector("#stop", state="hidden")
    tab_to(page, "text")
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    assert page.input_value("#text") == "one\ntwo"
    tab_to(page, "new", "Shift+Tab")
    page.keyboard.press("Enter")
    assert page.locator(".turn").count() == 0 and focused(page) == "text"


def hostile_events(reading_of: str) -> str:
    """An answer of a model that says what no model should."""
    tokens = [
        {
            "text": f" {text}",
            "movie_id": place if place % 2 else None,
            "probability": 0.5,
            "item_mass": 0.5,
            "teacher_mass": 0.5,
        }
        for place, text in enumerate(HOSTILE)
    ]
    movies = [
        {"movie_id": place, "title": text, "probability": 0.1} for place, text in enumerate(HOSTILE)
    ]
    items = [{**movie, "token": movie["movie_id"], "ranking": movies} for movie in movies[1::2]]
    explained = [
        {
            "movie_id": one["movie_id"],
            "title": one["title"],
            "mentioned": True,
            "paths": [list(HOSTILE)],
        }
        for one in items
    ]
    rankings = dict.fromkeys(("recommender", "dialogue teacher", "this system", HOSTILE[0]), movies)
    links = [
        {
            "start": 0,
            "end": 1,
            "text": text,
            "kind": "movie",
            "name": text,
            "movie_id": 1,
            "score": 90,
            "rivals": [],
        }
        for text in HOSTILE
    ]
    reading = {"text": reading_of, "links": links, "unknown": []}
    response = {
        "system": HOSTILE[0],
        "reading": reading,
        "text": " ".join(HOSTILE),
        "turn": {"role": "recommender", "text": "@1"},
        "items": items,
        "tokens": tokens,
        "tag": "rec",
        "seconds": 1.0,
        "first_seconds": 0.1,
        "ended": False,
        "explanation": {"items": explained, "token": 1, "rankings": rankings},
    }
    events = [("reading", reading)]
    events += [
        ("piece", {"text": token["text"], "movie_id": token["movie_id"]}) for token in tokens
    ]
    events += [("response", response)]
    return "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)


@browser_test
@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_hostile_texts_stay_texts(server, visit, viewport):
    page = visit(server, viewport=viewport).page
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    for text in (*HOSTILE, "x" * 4000, "\u202e" * 40 + "ab"):
        ask(page, text)
        assert page.locator(".message .body").last.text_content() == text.strip()
    page.route(
        "**/v1/stream",
        lambda route: route.fulfill(body=hostile_events("Hi"), content_type="text/event-stream"),
    )
    ask(page, "Hi")
    if viewport is PHONE:
        page.click(".last .look")
    shown = page.locator(".turn.last .body").text_content()
    assert shown == "".join(f" {text}" for text in HOSTILE)
    assert page.locator(".message").last.locator(".chip").count() == len(HOSTILE)
    inside = page.locator("#inside")
    assert inside.locator(".paths .node").all_text_contents()[: len(HOSTILE)] == list(HOSTILE)
    assert page.locator("img, script:not(body > script), iframe, object, embed").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert dialogs == []


@browser_test
def test_html_is_refused_even_if_a_script_tried(server, visit):
    watched = visit(server)
    page = watched.page
    for attempt in (
        "document.body.innerHTML = '<b>x</b>'",
        "document.write('x')",
        "setTimeout('1')",
    ):
        name = page.evaluate(
            f"() => {{ try {{ {attempt}; return ''; }} catch (e) {{ return e.name; }} }}"
        )
        assert name in ("TypeError", "EvalError"), attempt
    assert page.evaluate("fetch('//elsewhere.invalid/').catch((e) => e.name)") == "TypeError"
    assert any("Content Security Policy" in text for text in watched.complaints)
    watched.complaints.clear()
    watched.requests[:] = [url for url in watched.requests if "elsewhere" not in url]


STATES = ("welcome", "answer", "settings", "pair", "blind")


@browser_test
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_contrast_names_and_room(server, visit, titles, scheme):
    """In every state of the page, on a phone and on a desk."""
    for viewport in (PHONE, {"width": 320, "height": 640}, DESK):
        page = visit(server, viewport=viewport, color_scheme=scheme).page
        for state in STATES:
            if state == "answer":
                ask(page, f"I liked {titles[0]}")
                page.locator(".look").first.click()
            elif state == "settings":
                page.click("#settings summary")
                page.click("#inside summary")
            elif state in ("pair", "blind"):
                page.check(f"input[value={state}]")
                ask(page, f"I liked {titles[1]}")
            where = f"{state} at {viewport['width']} pixels, {scheme}"
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= viewport["width"], where
            assert unreadable(page) == [], where
            assert nameless(page) == [], where


def unreadable(page) -> list[str]:
    """Texts with a contrast below 4.5, as WCAG computes it; controls that are off may be paler."""
    return page.evaluate(
        """() => {
          const channels = (color) => color.match(/[\\d.]+/g).map(Number);
          const light = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => {
            const v = c[i] / 255;
            return sum + weight * (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
          }, 0);
          const behind = (element) => {
            for (let e = element; e; e = e.parentElement) {
              const c = channels(getComputedStyle(e).backgroundColor);
              if (c.length < 4 || c[3] > 0.99) return c;
            }
            return [255, 255, 255];
          };
          const skipped = "script, style, :disabled, label:has(:disabled), .unseen";
          const found = [];
          const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          while (walker.nextNode()) {
            const element = walker.currentNode.parentElement, text = walker.currentNode.data;
            if (!text.trim() || !element.checkVisibility({ visibilityProperty: true })) continue;
            if (element.closest(skipped)) continue;
            const [a, b] = [channels(getComputedStyle(element).color), behind(element)].map(light);
            const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            if (ratio < 4.5) found.push(`${ratio} ${element.className} ${text}`);
          }
          return found;
        }"""
    )


def nameless(page) -> list[str]:
    """Controls and regions without a name in the accessibility tree."""
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    kinds = set("button textbox combobox radio checkbox spinbutton listbox option link".split())
    kinds |= {"image", "img", "dialog", "main", "article", "complementary", "radiogroup"}
    found = []
    for node in nodes:
        role, name = node.get("role", {}).get("value"), node.get("name", {}).get("value", "")
        if not node["ignored"] and role in kinds and not name.strip():
            found.append(f"{role} {node.get('nodeId')}")
    assert sum(node.get("role", {}).get("value") == "button" for node in nodes) > 3
    return found


@browser_test
def test_colours_behind_bars_have_contrast(server, visit):
    """Texts that stand on a bar, which is no ancestor of theirs."""
    for scheme in ("light", "dark"):
        page = visit(server, color_scheme=scheme).page
        page.evaluate(
            """() => {
              for (const ground of ["tint", "faint", "raised"]) for (const ink of ["ink", "soft"]) {
                const text = document.createElement("p");
                text.textContent = `${ink} on ${ground}`;
                text.style.color = `var(--${ink})`;
                text.style.backgroundColor = `var(--${ground})`;
                document.body.append(text);
              }
            }"""
        )
        assert unreadable(page) == [], scheme


@browser_test
@pytest.mark.parametrize("fault", ["hangs up", "says so", "is gone", "is busy"])
def test_a_server_that_fails_is_told_in_words(server, visit, titles, fault):
    watched = visit(server)
    page = watched.page
    kind = {"content_type": "text/event-stream"}
    error = {"error": {"code": "internal", "message": "the server failed on this request"}}
    piece = 'event: piece\ndata: {"text": "Have you", "movie_id": null}\n\n'
    replies = {
        "hangs up": lambda route: route.fulfill(body=piece, **kind),
        "says so": lambda route: route.fulfill(
            body=f"{piece}event: error\ndata: {json.dumps(error)}\n\n", **kind
        ),
        "is gone": lambda route: route.abort(),
        "is busy": lambda route: route.fulfill(
            status=503,
            headers={"Retry-After": "3"},
            json={"error": {"code": "busy", "message": "x"}},
        ),
    }
    words = {
        "hangs up": "stopped before the answer was complete",
        "says so": "the server failed on this request",
        "is gone": "can’t be reached",
        "is busy": "Try again in 3 seconds",
    }
    page.route("**/v1/stream", replies[fault])
    ask(page, "Hello")
    assert words[fault] in page.locator(".turn.last .trouble").inner_text()
    assert words[fault] in news(page)
    page.unroute("**/v1/stream")
    page.get_by_role("button", name="Ask again").click()
    page.wait_for_selector(".turn.answer.done")
    assert page.locator(".turn").count() == 2
    watched.complaints[:] = [text for text in watched.complaints if "Failed to load" not in text]


@browser_test
def test_a_connection_that_breaks_is_told_in_words(visit):
    card = {
        "name": "one",
        "title": "One",
        "backbone": "dialogpt",
        "has_tags": False,
        "has_teacher": False,
        "batch_size": 1,
        "max_tokens": 8,
        "corpus": "none",
        "num_items": 3,
    }
    systems = json.dumps({"systems": [card], "arena": False, "keeps": False}).encode()
    events = b'event: piece\ndata: {"text": "Have you", "movie_id": null}\n\n'
    with breaking_server(document(), policy(), systems, events) as address:
        watched = visit(address)
        ask(watched.page, "Hello")
        last = watched.page.locator(".turn.last")
        assert "stopped before the answer was complete" in last.inner_text()
        assert last.locator(".body").inner_text() == "Have you"
        watched.complaints[:] = [
            text for text in watched.complaints if "ERR_CONTENT_LENGTH" not in text
        ]


@browser_test
def test_an_answer_can_be_stopped(server, visit):
    page = visit(server).page
    page.route("**/v1/stream", lambda route: None)  # never answered
    page.fill("#text", "Hello")
    page.press("#text", "Enter")
    page.wait_for_selector("#stop")
    page.keyboard.press("Escape")
    page.wait_for_selector(".turn.stopped")
    assert "Stopped." in page.locator(".turn.last").inner_text()


@browser_test
def test_a_conversation_is_kept_only_if_the_box_is_ticked(systems, visit, tmp_path):
    from tests.fixtures.serving import running

    with running(systems, keep=str(tmp_path / "kept.sqlite")) as site:
        page = visit(address_of(site)).page
        with page.expect_request("**/v1/stream") as asked:
            ask(page, "Hello")
        assert "keep" not in asked.value.post_data_json
        page.click("#settings summary")
        page.check("#keep")
        ask(page, "Keep this")
        with page.expect_request("**/v1/stream") as asked:
            ask(page, "And this")
        number = asked.value.post_data_json["conversation"]
        kept = site.client.get(f"/v1/conversations/{number}").json()["answers"]
        assert len(kept) == 2


@browser_test
def test_a_token_is_asked_for(systems, browser):
    from tests.fixtures.serving import running

    with running(systems, token="open sesame, please") as site:
        context = browser.new_context(viewport=DESK)
        context.set_default_timeout(90_000)
        page = context.new_page()
        page.goto(address_of(site))
        page.wait_for_selector("#door[open]")
        assert focused(page) == "token"
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#wrong:not(:empty)")
        assert page.locator("#wrong").inner_text() == "The server refused that token."
        page.keyboard.type("open sesame, please")
        page.keyboard.press("Enter")
        page.wait_for_selector("#about:not(:empty)")
        assert page.locator("#door").is_hidden()
        ask(page, "Hello")
        assert page.locator(".turn.answer.done").count() == 1
        page.reload()
        page.wait_for_selector("#about:not(:empty)")  # the token is still known
        assert "sesame" not in page.url and page.evaluate("localStorage.length") == 0
        context.close()
