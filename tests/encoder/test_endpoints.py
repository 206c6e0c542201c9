"""Embeddings and scores of services: protocols, kept answers, budgets, services that misbehave."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurosearch.core import endpoint
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.base import Texts, encode_resumably
from neurosearch.encoder.endpoint import Endpoint
from neurosearch.reranker.endpoint import Endpoint as EndpointReranker

TEXTS = ["red lamp", "a chair", "lamp", "red lamp"]


def vector_of(text: str) -> list[float]:
    return [float(len(text)), float(text.count("a")), 1.0]


class Service(http.server.BaseHTTPRequestHandler):
    """Speaks all three protocols; `faults` are given instead of the next answers."""

    calls: list[dict[str, Any]]
    faults: list[tuple[int, bytes]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        kind = type(self)
        kind.calls.append({"path": self.path, "key": self.headers.get("Authorization"), **body})
        status, raw = kind.faults.pop(0) if kind.faults else (200, self._answer(body))
        self.send_response(status)
        self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(raw)

    def _answer(self, body: dict[str, Any]) -> bytes:
        if self.path == "/rerank":
            texts = body.get("texts") or body["documents"]
            name = "score" if "texts" in body else "relevance_score"
            scored = [{"index": n, name: len(t) / 100} for n, t in enumerate(texts)][::-1]
            return json.dumps(scored if "texts" in body else {"results": scored}).encode()
        texts = body.get("input") or body.get("inputs") or body["texts"]
        vectors = [vector_of(text) for text in texts]
        if "input" in body:
            rows = [{"index": n, "embedding": v} for n, v in enumerate(vectors)]
            return json.dumps({"data": rows[::-1]}).encode()  # in whatever order
        return json.dumps(
            vectors if "inputs" in body else {"embeddings": {"float": vectors}}
        ).encode()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def service() -> Iterator[tuple[str, type[Service]]]:
    kind = type("Fresh", (Service,), {"calls": [], "faults": []})
    server = http.server.HTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", kind
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("api", ["openai", "cohere", "tei"])
def test_embeddings(api: str, service: Any, runtime: Runtime, monkeypatch) -> None:
    url, kind = service
    monkeypatch.setenv("SOME_KEY", "secret")
    recipe = Endpoint(model="m", endpoint=url, api=api, key="SOME_KEY", batch_size=2)
    live = recipe.live(runtime)
    wanted = np.array([vector_of(text) for text in TEXTS])
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    assert live.dimensions == 3
    assert live.encode(TEXTS) == pytest.approx(wanted, abs=1e-6)
    path = {"openai": "/embeddings", "cohere": "/embed", "tei": "/embed"}[api]
    assert {call["path"] for call in kind.calls} == {path}
    assert {call["key"] for call in kind.calls} == {"Bearer secret"}
    sent = [t for c in kind.calls for t in (c.get("input") or c.get("inputs") or c.get("texts"))]
    assert sorted(sent) == ["a chair", "lamp", "product", "red lamp"]  # each once
    assert max(len(c.get("input") or c.get("inputs") or c.get("texts")) for c in kind.calls) == 2
    before = len(kind.calls)
    assert recipe.live(runtime).encode(TEXTS[::-1]) == pytest.approx(wanted[::-1], abs=1e-6)
    assert len(kind.calls) == before  # kept answers need no service
    live.for_products().encode(TEXTS)
    sides = {call.get("input_type") for call in kind.calls}
    assert sides == ({"search_query", "search_document"} if api == "cohere" else {None})


def test_a_budget_is_of_all_runs(service: Any, runtime: Runtime) -> None:
    url, kind = service
    recipe = Endpoint(model="m", endpoint=url, budget=3)
    live = recipe.live(runtime)  # asks about one text
    live.encode(["a", "b"])
    before = len(kind.calls)
    message = r"2 questions are new, 3 were asked before, encoder\.budget=3; nothing was asked"
    with pytest.raises(InputError, match=message):
        live.encode(["a", "c", "d"])
    assert len(kind.calls) == before
    replace(recipe, budget=5).live(runtime).encode(["a", "c", "d"])


def test_a_failure_loses_nothing(service: Any, runtime: Runtime) -> None:
    url, kind = service
    live = Endpoint(model="m", endpoint=url, batch_size=1).live(runtime)
    kind.faults += [(200, b'{"data": [{"index": 0, "embedding": [1, 2, 3]}]}'), (400, b"no")]
    with pytest.raises(InputError, match=r"encoder\.endpoint=http://.*400"):
        live.encode(["a", "b", "c"])
    before = len(kind.calls)
    live.encode(["a", "b", "c"])
    assert [call["input"] for call in kind.calls[before:]] == [["b"], ["c"]]


def test_a_busy_service_is_tried_again(service: Any, runtime: Runtime) -> None:
    url, kind = service
    live = Endpoint(model="m", endpoint=url).live(runtime)
    kind.faults += [(429, b""), (503, b"")]
    live.encode(["a"])
    assert len(kind.calls) == 4  # the first text, two refusals, the answer
    kind.faults += [(503, b"")] * endpoint.TRIES
    with pytest.raises(InputError, match="503"):
        live.encode(["b"])


@pytest.mark.parametrize(
    "answer, reason",
    [
        (b"<html>", "Expecting value"),
        (b'{"error": "no such model"}', "no embeddings came back"),
        (b'{"data": []}', "no embeddings came back"),
        (b'{"data": [{"index": 0, "embedding": [1, NaN, 2]}]}', "that is not finite"),
        (b'{"data": [{"index": 0, "embedding": "x"}]}', "no embeddings came back"),
    ],
)
def test_garbage_is_one_line(answer: bytes, reason: str, service: Any, runtime: Runtime) -> None:
    url, kind = service
    live = Endpoint(model="m", endpoint=url).live(runtime)
    kind.faults.append((200, answer))
    with pytest.raises(InputError, match=reason) as caught:
        live.encode(["a"])
    assert "\n" not in str(caught.value)
    assert np.isfinite(live.encode(["a"])).all()  # and was not kept


def test_a_dead_service_is_told_first(runtime: Runtime) -> None:
    away = Endpoint(model="m", endpoint="http://127.0.0.1:9", timeout=2.0)
    with pytest.raises(InputError, match=r"encoder\.endpoint=http://127\.0\.0\.1:9"):
        away.check(runtime)


@pytest.mark.parametrize("api", ["cohere", "tei"])
def test_scores_of_pairs(api: str, service: Any, runtime: Runtime) -> None:
    url, kind = service
    recipe = EndpointReranker(model="m", endpoint=url, api=api, budget=5)
    products = ["lamp", "a red lamp", "chair"]
    query, row = np.array([0, 1, 0, 1]), np.array([1, 2, 0, 0])
    parts = ["red lamp", "chair"], products, query, row, runtime
    assert recipe.asked(*parts) == pytest.approx([0.10, 0.05, 0.04, 0.04])
    assert len(kind.calls) == 2  # one a query
    assert recipe.asked(*parts) == pytest.approx([0.10, 0.05, 0.04, 0.04])
    assert len(kind.calls) == 2
    with pytest.raises(InputError, match=r"2 questions are new, 4 .* reranker\.budget=5"):
        recipe.asked(["new"], products, np.array([0, 0]), np.array([0, 1]), runtime)
    kind.faults.append((200, b"[]"))
    with pytest.raises(InputError, match="no scores came back"):
        recipe.asked(["new"], products, np.array([0]), np.array([0]), runtime)


def test_two_users_of_one_file_keep_answers(tmp_path: Path) -> None:
    first, second = (endpoint.Answers(tmp_path / "a.sqlite") for _ in range(2))
    first.keep({"a": b"1"})
    second.keep({"b": b"2", "a": b"1"})
    assert len(first) == 2 and second.known(["a", "b", "c"]) == {"a": b"1", "b": b"2"}
    (tmp_path / "b.sqlite").write_bytes(b"no data base" * 100)
    with pytest.raises(InputError, match=r"b\.sqlite"):
        endpoint.Answers(tmp_path / "b.sqlite")


def test_live_queries_are_always_sent(service: Any, runtime: Runtime, shop) -> None:
    """Else the table would show how fast kept answers are."""
    url, kind = service
    recipe = Endpoint(model="m", endpoint=url, budget=2)
    live = recipe.loaded(runtime, shop)
    before = len(kind.calls)
    for _ in range(3):
        live.encode(["lamp"])
    assert len(kind.calls) == before + 3  # and count once: the budget is of distinct texts
    reranker = EndpointReranker(model="m", endpoint=url)
    parts = ["lamp"], ["a", "b"], np.array([0, 0]), np.array([0, 1]), runtime
    for _ in range(2):
        reranker.asked(*parts, is_live=True)
    assert [call["path"] for call in kind.calls].count("/rerank") == 2


def test_a_collection_is_counted_before_any_of_it_is_sent(service: Any, runtime: Runtime) -> None:
    url, kind = service
    live = Endpoint(model="m", endpoint=url, budget=5_000).live(runtime)
    before = len(kind.calls)
    texts = [f"lamp {number}" for number in range(6_000)]  # three shards
    with pytest.raises(InputError, match="6,000 questions are new"):
        encode_resumably(live, "", Texts(len(texts), [texts]), runtime.outputs, runtime, "products")
    assert len(kind.calls) == before


def test_what_changes_no_vector_changes_no_fingerprint() -> None:
    recipe = Endpoint(model="m")
    assert replace(recipe, budget=7, timeout=1.0, key="K", batch_size=2).fingerprint == (
        recipe.fingerprint
    )
    assert replace(recipe, model="n").fingerprint != recipe.fingerprint


def test_a_refusal_says_why_and_shows_no_key(service: Any, runtime: Runtime, monkeypatch) -> None:
    url, kind = service
    monkeypatch.setenv("OPENAI_API_KEY", "very-secret")
    live = Endpoint(model="m", endpoint=url).live(runtime)
    kind.faults.append((400, b'{"error": "no model m for very-secret"}'))
    with pytest.raises(InputError, match=r"400 .*no model m for \*\*\*"):
        live.encode(["a"])
    monkeypatch.setenv("OPENAI_API_KEY", "very\nsecret")
    with pytest.raises(InputError, match=r"OPENAI_API_KEY: .* what no key can have") as caught:
        live.encode(["a"])
    assert "secret" not in str(caught.value)


def test_products_are_sent_in_batches(service: Any, runtime: Runtime) -> None:
    url, kind = service
    recipe = EndpointReranker(model="m", endpoint=url, batch_size=2)
    products = ["lamp", "a red lamp", "chair", "table", "x"]
    scores = recipe.asked(["q"], products, np.zeros(5, int), np.arange(5), runtime)
    assert scores == pytest.approx([len(text) / 100 for text in products])
    assert [len(call["texts"]) for call in kind.calls] == [2, 2, 1]
    with pytest.raises(InputError, match="dimensions can't be chosen"):
        Endpoint(api="tei", dimensions=8)
