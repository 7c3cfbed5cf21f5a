"""The API answers as `Chat` does: readings, answers, streams, comparisons, simulators, searches."""

import concurrent.futures
import dataclasses
import json
import re
from pathlib import Path

import jsonschema
import msgspec
import pytest

from conkd_jax.chat import Response, Sampling
from conkd_jax.chat.explanation import explain
from conkd_jax.chat.session import prediction
from conkd_jax.serve.answers import piece_answer, reading_answer, response_answer
from conkd_jax.serve.openapi import openapi_document
from conkd_jax.serve.routes import ROUTES
from tests.fixtures.serving import HI, running

ROOT = Path(__file__).resolve().parents[2]
WILD = {"temperature": 3.0, "top_p": 1.0}


def events(response):
    """The server-sent events of a response."""
    lines = [line for line in response.iter_lines() if line]
    pairs = zip(lines[::2], lines[1::2], strict=True)
    return [
        (name.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
        for name, data in pairs
    ]


def same(answer: dict, expected: Response) -> None:
    """Asserts that an answer of the API is an answer of a chat, bit for bit, times excepted."""
    assert (answer["text"], answer["tag"]) == (expected.text, expected.tag)
    assert answer["turn"] == {"role": "recommender", "text": expected.turn.text}
    assert [tuple(token.values()) for token in answer["tokens"]] == [
        (one.text, one.item_id, one.probability, one.item_mass, one.teacher_mass)
        for one in expected.tokens
    ]
    items = [(one["movie_id"], one["title"], one["token"]) for one in answer["items"]]
    assert items == [(one.item_id, one.title, one.token) for one in expected.items]
    for mine, theirs in zip(answer["items"], expected.items, strict=True):
        ranking = [(one["movie_id"], one["probability"]) for one in mine["ranking"]]
        assert ranking == [(one.item_id, one.probability) for one in theirs.ranking[:10]]


@pytest.fixture(scope="module")
def chat(systems):
    return systems[None].chat


@pytest.fixture(scope="module")
def titles(chat):
    return chat.system.corpus.items.titles


def test_systems(site, chat):
    listed = site.client.get("/v1/systems").json()
    first, second = listed["systems"]
    assert first["name"] == chat.run.label != second["name"]
    assert first["num_items"] == 40 and first["has_tags"] and first["has_teacher"]
    assert not listed["arena"] and not listed["keeps"]


def test_a_reading_and_its_correction(site, titles, chat):
    text = f"I like {titles[3]} 🎬"
    (link,) = site.client.post("/v1/read", json={"text": text}).json()["links"]
    assert link["text"] == text[link["start"] : link["end"]] and link["kind"] == "movie"
    assert link["movie_id"] == chat.system.corpus.items.item_ids[3]
    other = int(chat.system.corpus.items.item_ids[5])
    for meant, links in ((other, 1), (None, 0)):
        body = {"text": text, "corrections": {str(link["start"]): meant}}
        found = site.client.post("/v1/read", json=body).json()["links"]
        assert [one["movie_id"] for one in found] == [meant] * links
    body["corrections"] = {str(link["start"]): 2**40}
    refused = site.client.post("/v1/read", json=body)
    assert refused.status_code == 422 and refused.json()["error"]["code"] == "no_such_movie"


def test_a_conversation_is_that_of_a_chat(site, chat, titles):
    said = [f"I like {titles[3]}", "Something else?", "And older?"]
    history, expected = [], []
    for number, text in enumerate(said):
        history.append({"role": "seeker", "text": text})
        expected.append(chat.read(text))
        body = {"history": history, "seed": number, **WILD}
        answer = site.client.post("/v1/respond", json=body).json()
        wanted = chat.respond(expected, seed=number, sampling=Sampling(**WILD))
        same(answer, wanted)
        assert answer["first_seconds"] <= answer["seconds"]
        history.append(answer["turn"])
        expected.append(wanted)


def test_a_stream_is_the_answer(site):
    body = {"history": HI, "seed": 4, **WILD}
    answer = site.client.post("/v1/respond", json=body).json()
    with site.client.stream("POST", "/v1/stream", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        (first, reading), *pieces, (last, streamed) = events(response)
    assert (first, last) == ("reading", "response") and reading == answer["reading"]
    assert {name for name, _ in pieces} == {"piece"}
    assert "".join(piece["text"] for _, piece in pieces) == answer["text"]
    for each in (streamed, answer):
        del each["seconds"], each["first_seconds"]
    assert streamed == answer


def test_many_at_once_get_what_each_gets_alone(site, titles, systems):
    """Greedy and random, short and long histories, of both systems, in whatever batches."""
    bodies = [
        {
            "history": [{"role": "seeker", "text": f"{'well ' * (number % 3) * 20}{title}"}],
            "system": [*systems][number % 2].name,
            **({"seed": number, **WILD} if number % 3 else {}),
        }
        for number, title in enumerate(titles[:16])
    ]

    def ask(body):
        answer = site.client.post("/v1/respond", json=body).json()
        del answer["seconds"], answer["first_seconds"]
        return answer

    alone = [ask(body) for body in bodies]
    with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
        together = list(pool.map(ask, bodies))
    assert together == alone
    assert len({answer["text"] for answer in alone}) > 4
    metrics = site.client.get("/metrics").text
    rows, batches = (
        sum(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith(name + "{"))
        for name in ("conkd_batch_rows_total", "conkd_batches_total")
    )
    assert rows > batches  # some shared one


def test_an_explanation(site, chat, titles):
    body = {"history": [{"role": "seeker", "text": f"I like {titles[3]}"}], "explain": True}
    found = site.client.post("/v1/respond", json=body).json()
    assert set(found["explanation"]["rankings"]) == {
        "recommender",
        "dialogue teacher",
        "this system",
    }
    movies = [item["movie_id"] for item in found["explanation"]["items"]]
    assert movies == list(dict.fromkeys(item["movie_id"] for item in found["items"]))


def named_items(answer):
    """Every object of an answer that names an item, at any depth."""
    if isinstance(answer, list):
        return [found for one in answer for found in named_items(one)]
    if not isinstance(answer, dict):
        return []
    mine = [answer] if answer.get("movie_id") is not None else []
    return mine + named_items(list(answer.values()))


def test_text_ids_stand_beside_numbers(site, systems, chat, titles, monkeypatch):
    text = f"I like {titles[3]}"
    body = {"history": [{"role": "seeker", "text": text}], "explain": True}
    plain = site.client.post("/v1/respond", json=body).json()
    assert named_items(plain) and not any("id" in one for one in named_items(plain))
    items = chat.system.corpus.items
    own = dataclasses.replace(items, keys=[f"own-{number}" for number in items.item_ids])
    monkeypatch.setitem(vars(chat.system.corpus), "items", own)
    served = dataclasses.replace(systems[None])  # without what it has cached
    response = chat.respond([text])
    reading = reading_answer(served, chat.read(text))
    answer = response_answer(served, reading, response, explain(chat, [text], response))
    pieces = [piece_answer(served, piece) for piece in chat.stream([text])]
    told = msgspec.to_builtins([answer, pieces, served.found(titles[3], 5)])
    assert len(named_items(told)) > len(named_items(plain))
    assert all(one["id"] == f"own-{one['movie_id']}" for one in named_items(told))
    saved = prediction(chat, chat.dialogue([text]), response)
    assert saved.mentioned_items and saved.ids
    assert all(own == f"own-{number}" for number, own in saved.ids.items())


def test_two_systems_are_compared(site, systems):
    names = [system.name for system in systems]
    body = {"systems": names, "history": HI}
    responses = site.client.post("/v1/compare", json=body).json()["responses"]
    assert [response["system"] for response in responses] == names
    assert responses[0]["tokens"] == responses[1]["tokens"]  # one run under two names
    refused = site.client.post("/v1/compare", json={"systems": [names[0], "x"], "history": HI})
    assert refused.status_code == 404 and names[0] in refused.json()["error"]["message"]


def test_a_simulator_s_messages(site, chat, systems):
    """Exactly what UserSimCRS' wrapper sends: the context ends with the message itself."""
    context = ["Hi", "Hello, what do you like?", "Funny ones"]
    expected = chat.respond(context).text
    for path in ("/", f"/simulator/{[*systems][1].name}"):
        for sent in (context, context[:-1]):  # iEvaLM's server appends the message
            answer = site.client.post(path, json={"context": sent, "message": "Funny ones"})
            assert answer.text == expected
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    empty = site.client.post("/", json={"context": [], "message": " "})
    assert empty.status_code == 422


def test_movies_are_found_by_the_beginning_of_a_title(site, titles):
    def found(query, **more):
        return site.client.get("/v1/items", params={"query": query, **more}).json()["items"]

    assert found(titles[6][:-8].lower())[0]["title"] == titles[6]
    assert len(found("a", limit=3)) == 3 and found("") == [] and found("?!") == []
    assert site.client.get("/v1/items", params={"limit": "many"}).status_code == 422


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "history"),
        ({"history": []}, "history"),
        ({"history": HI * 65}, "history"),
        ({"history": "Hi"}, "history"),
        ({"history": [{"role": "system", "text": "x"}]}, "role"),
        ({"history": [{"role": "seeker", "text": 5}]}, "text"),
        ({"history": [{"role": "seeker", "text": "x" * 4001}]}, "4000"),
        ({"history": [{"role": "seeker", "text": "x" * 4000}] * 6}, "20,000"),
        ({"history": HI, "seed": -1}, "seed"),
        ({"history": HI, "seed": 10**30}, "seed"),
        ({"history": HI, "seed": True}, "seed"),
        ({"history": HI, "temperature": 0.5}, "add a seed"),
        ({"history": HI, "seed": 1, "temperature": 0}, "temperature"),
        ({"history": HI, "sed": 1}, "sed"),
        ({"history": HI, "system": "x"}, "expected one of"),
        ({"history": [{"role": "recommender", "text": "Hi"}]}, "seeker last"),
        ({"history": [{**HI[0], "corrections": {"x": 1}}]}, "corrections"),
        ({"history": [{**HI[0], "corrections": {"0": 10**400}}]}, "corrections"),
        ({"history": HI, "keep": True}, "--keep"),
        ({"history": HI, "conversation": "x"}, "keep"),
    ],
)
def test_requests_that_make_no_sense(site, body, word):
    refused = site.client.post("/v1/respond", json=body)
    assert 400 <= refused.status_code < 500
    error = refused.json()["error"]
    assert word in error["message"] and error["code"]


def test_answers_are_as_described(site):
    document = site.client.get("/openapi.json").json()
    assert document == openapi_document(ROUTES)
    text = {"text": "I like funny movies."}
    for name, answer in (
        ("SystemList", site.client.get("/v1/systems")),
        ("Reading", site.client.post("/v1/read", json=text)),
        ("Response", site.client.post("/v1/respond", json={"history": HI, "explain": True})),
        ("ItemList", site.client.get("/v1/items", params={"query": "a"})),
        ("Health", site.client.get("/health")),
        ("Problems", site.client.get("/v1/arena/ratings")),
    ):
        described = {**document, "$ref": f"#/components/schemas/{name}"}
        jsonschema.validate(answer.json(), described)


def test_what_does_not_exist(site):
    for method, path, status in (("GET", "/v2", 404), ("PUT", "/v1/read", 405)):
        refused = site.client.request(method, path)
        assert refused.status_code == status and refused.json()["error"]["message"]
    for path in ("/v1/arena/ratings", "/v1/conversations/x"):
        refused = site.client.get(path)
        assert refused.status_code == 409 and "start conkd-serve with" in refused.text


def test_the_page_and_every_answer_forbid_what_they_do_not_need(site):
    page = site.client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    for response in (page, site.client.get("/health"), site.client.get("/v2")):
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"


def test_the_code_of_the_how_to_page_runs(site, capsys):
    text = (ROOT / "docs" / "howto" / "serve.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    exec(code.replace("127.0.0.1:8000", f"127.0.0.1:{site.port}"), {})  # our own page
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_nothing_is_kept_unless_a_client_asks(systems, tmp_path):
    file = tmp_path / "kept.sqlite"
    with running(systems, keep=str(file)) as site:
        ask = site.client.post
        secret = [{"role": "seeker", "text": "a secret"}]
        ask("/v1/respond", json={"history": secret})
        first = ask("/v1/respond", json={"history": HI, "keep": True}).json()
        number = first["conversation"]
        more = {"history": [*HI, first["turn"], *HI], "keep": True, "conversation": number}
        with site.client.stream("POST", "/v1/stream", json=more) as response:
            assert events(response)[-1][1]["conversation"] == number
        kept = site.client.get(f"/v1/conversations/{number}").json()
        assert [answer["request"]["history"] for answer in kept["answers"]] == [HI, more["history"]]
        assert kept["answers"][0]["response"] == first
        unknown = ask("/v1/respond", json={**more, "conversation": "guess"})
        assert unknown.status_code == 404
        assert (file.stat().st_mode & 0o777) == 0o600 and b"a secret" not in file.read_bytes()
        assert site.client.delete(f"/v1/conversations/{number}").json() == {"deleted": 2}
        assert site.client.get(f"/v1/conversations/{number}").status_code == 404
