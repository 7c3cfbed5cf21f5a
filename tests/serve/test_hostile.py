"""Clients that hang up, flood, or send what no client should: others are answered after it."""

import concurrent.futures
import json
import time

import pytest

from conkd_jax.serve import connections
from tests.fixtures.serving import HI, running

TOKEN = "0123456789abcdef"


def head(length: int | str, path: str = "/v1/respond", more: str = "") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n{more}\r\n"
    ).encode()


def reply(connection) -> bytes:
    """All that the server sends before it closes; b"" where it just closes."""
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionError:
        pass
    return received


def post(site, content: bytes, kind: str = "application/json"):
    return site.client.post("/v1/respond", content=content, headers={"content-type": kind})


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"[" * 100_000, "deep"),
        (b'{"a":' * 50_000, "deep"),
        (b"\xff\xfe{", "JSON"),
        (b'{"history": "\xc3("}', "JSON"),
        (b"", "JSON"),
        (b"null", "object"),
        (b"[1, 2]", "object"),
        (b'{"history": NaN}', "history"),
        (b'{"history": [], "seed": ' + b"9" * 5000 + b"}", "JSON"),
    ],
)
def test_bodies_that_are_no_request(site, content, word):
    refused = post(site, content)
    assert 400 <= refused.status_code < 500 and word in refused.json()["error"]["message"]
    site.still_answers()


@pytest.mark.parametrize(
    "text", ["\ud800 lone", "@99999999999999999999", "\0\x1b[2J", "‮<script>", "ﷺ" * 4000]
)
def test_texts_that_nobody_types(site, text):
    body = json.dumps({"history": [{"role": "seeker", "text": text}], "explain": True}).encode()
    answer = post(site, body)
    assert answer.status_code == 200, answer.text
    answer.json()


def test_ten_megabytes_of_nested_json(site):
    for more, length in (("", 10_000_000), ("Transfer-Encoding: chunked\r\n", None)):
        with site.connection() as connection:
            start = head(length or 0, more=more)
            if length is None:
                start = start.replace(b"Content-Length: 0\r\n", b"")
            try:
                connection.sendall(start)
                for _ in range(100):
                    part = b"[" * 100_000
                    connection.sendall(part if length else b"186a0\r\n" + part + b"\r\n")
            except ConnectionError:
                pass  # refused before all was sent
            received = reply(connection)
            assert received == b"" or received.startswith(b"HTTP/1.1 413")
        site.still_answers()


def test_a_body_that_never_ends(systems):
    with running(systems, body_seconds=0.3) as site, site.connection() as connection:
        connection.sendall(head(100) + b"{")
        assert reply(connection).startswith(b"HTTP/1.1 408")
        site.still_answers()


def test_a_head_that_never_ends(systems, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    with running(systems) as site:
        with site.connection() as silent, site.connection() as slow:
            slow.sendall(b"POST /v1/respond HTTP/1.1\r\nHost: loc")
            assert reply(slow) == reply(silent) == b""
        site.still_answers()


def test_clients_that_hang_up(site):
    body = json.dumps({"history": HI, "explain": True}).encode()
    for path in ("/v1/stream", "/v1/respond", "/v1/compare"):
        for _ in range(6):
            with site.connection() as connection:
                connection.sendall(head(len(body), path) + body)
                if path == "/v1/stream":
                    connection.recv(10)
    site.still_answers()


def test_nobody_listens_to_a_row_any_more(systems):
    """A job whose client is gone is not decoded to its end, and one that waits not at all."""
    served, told = systems[None], []
    from conkd_jax.serve.worker import Job

    dialogue = served.chat.dialogue(["Hi"])
    sampling = served.chat.engine.sampling
    length = served.chat.engine.length(dialogue)
    jobs = [Job(dialogue, length, None, sampling, False, told.append) for _ in range(2)]
    jobs[0].tell = lambda event: setattr(jobs[0], "is_gone", True)  # at its first piece
    jobs[1].is_gone = True
    for job in jobs:
        served.worker.put(job)
    until = time.monotonic() + 20
    while systems.waiting[served.name] and time.monotonic() < until:
        time.sleep(0.02)
    assert not told


def test_a_flood_waits_or_is_refused(systems, monkeypatch):
    monkeypatch.setattr(systems[None].worker, "_max_waiting", 2)
    with running(systems) as site:
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            every = list(
                pool.map(lambda _: post(site, json.dumps({"history": HI}).encode()), range(24))
            )
        assert {one.status_code for one in every} <= {200, 503}
        assert any(one.status_code == 503 and one.headers["retry-after"] for one in every)
        assert len({one.json()["text"] for one in every if one.status_code == 200}) == 1
        site.still_answers()


def test_a_client_that_asks_too_often(systems):
    with running(systems, rate=0.001, burst=3) as site:
        codes = [site.client.get("/v1/systems").status_code for _ in range(5)]
        assert codes == [200, 200, 200, 429, 429]
        assert int(site.client.get("/v1/systems").headers["retry-after"]) > 500


def test_an_answer_that_takes_too_long(systems):
    with running(systems, answer_seconds=0.0) as site:
        refused = post(site, json.dumps({"history": HI}).encode())
        assert refused.status_code == 504 and refused.json()["error"]["code"] == "timeout"


def test_other_sites_can_t_reach_it(site):
    body = json.dumps({"history": HI})
    json_type = {"content-type": "application/json"}
    for headers, status in (
        ({"host": "evil.example"}, 421),
        ({"host": "evil.example:8000"}, 421),
        ({"host": ""}, 421),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": f"http://127.0.0.1:{site.port + 1}"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"origin": f"http://127.0.0.1:{site.port}"}, 200),
        ({"host": f"LOCALHOST:{site.port}"}, 200),
    ):
        sent = {**json_type, **headers}
        assert site.client.post("/v1/respond", content=body, headers=sent).status_code == status
    preflight = site.client.options("/v1/respond", headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in preflight.headers


def test_a_token_opens_everything_but_the_page(systems):
    with running(systems, token=TOKEN, hosts=()) as site:
        assert site.client.get("/").status_code == site.client.get("/health").status_code == 200
        for headers in (
            {},
            {"authorization": f"Bearer {TOKEN[:-1]}"},
            {"authorization": TOKEN},
            {"authorization": "Basic !!"},
            {"authorization": "Bearer é".encode()},
        ):
            for method, path in (("GET", "/v1/systems"), ("POST", "/"), ("GET", "/metrics")):
                refused = site.client.request(method, path, headers=headers)
                assert refused.status_code == 401 and refused.headers["www-authenticate"]
        right = {"authorization": f"Bearer {TOKEN}"}
        assert site.client.get("/v1/systems", headers=right).status_code == 200
        # an address is all that a simulator's wrapper can be given
        said = {"context": ["Hi"], "message": "Hi"}
        assert site.client.post("/", json=said, auth=("any", TOKEN)).status_code == 200
