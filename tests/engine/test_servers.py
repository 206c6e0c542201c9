"""Qdrant and OpenSearch: what is refused, and what is sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurosearch.core.errors import InputError
from neurosearch.core.filters import Range
from neurosearch.core.runtime import Runtime
from neurosearch.engine.base import Asked, Batch, Engine, Shape
from neurosearch.engine.opensearch import OpenSearch, inner_products
from neurosearch.engine.qdrant import Qdrant
from tests.engine.opensearch_imitation import imitation

NAME = f"neurosearch_00000000_{'0' * 24}"


def refused(engine: Engine, words: str) -> None:
    with pytest.raises(InputError, match=words), engine.session(Runtime("unused")):
        pass


@contextmanager
def qdrant_of(status: int, body: Any) -> Iterator[str]:
    """A server that answers every request so."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_qdrant_is_not_there() -> None:
    refused(Qdrant(url="http://127.0.0.1:9", timeout=2.0), r"engine\.url=http://127\.0\.0\.1:9")


def test_qdrant_refuses_the_key() -> None:
    with qdrant_of(401, {"status": {"error": "no key"}}) as url:
        refused(Qdrant(url=url), "answers with 401: set QDRANT_API_KEY")


def test_an_old_qdrant() -> None:
    body = {"title": "qdrant", "version": "1.9.2", "commit": "x"}
    with qdrant_of(200, body) as url:
        refused(Qdrant(url=url), r"Qdrant 1\.9\.2, and 1\.16 is needed")


def test_qdrant_without_encryption() -> None:
    with qdrant_of(200, {}) as url:
        refused(Qdrant(url=url.replace("http:", "https:"), timeout=2.0), "(?i)ssl")


def test_opensearch_is_not_there() -> None:
    refused(OpenSearch(url="http://127.0.0.1:9", timeout=2.0), r"engine\.url=.*refused")


def test_opensearch_refuses_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENSEARCH_USER", "clerk")
    monkeypatch.setenv("OPENSEARCH_PASSWORD", "wrong")
    with imitation(login="clerk:right") as (url, _):
        refused(OpenSearch(url=url), "401.*: set OPENSEARCH_USER and OPENSEARCH_PASSWORD")
        monkeypatch.setenv("OPENSEARCH_PASSWORD", "right")
        with OpenSearch(url=url).session(Runtime("unused")) as session:
            assert session.names() == []


def test_an_old_opensearch() -> None:
    with imitation(version="2.11.0") as (url, _):
        refused(OpenSearch(url=url), r"OpenSearch 2\.11\.0, and 2\.19 is needed")


def test_opensearch_takes_too_long() -> None:
    with imitation(delay=1.0) as (url, _):
        refused(OpenSearch(url=url, timeout=0.2), r"engine\.timeout=0\.2 s")


def test_opensearch_without_encryption() -> None:
    with imitation() as (url, _):
        refused(OpenSearch(url=url.replace("http:", "https:")), "(?i)ssl")


def test_passwords_do_not_belong_into_urls() -> None:
    for made in (Qdrant, OpenSearch):
        with pytest.raises(InputError, match="holds a password") as caught:
            made(url="https://me:secret@host:9200")
        assert "secret" not in str(caught.value)


def test_an_alias_of_another_program_is_left_alone() -> None:
    with imitation() as (url, server), OpenSearch(url=url).session(Runtime("unused")) as session:
        session.collection(NAME, Shape(None, 2, {})).create()
        server.alias["shop"] = "theirs"
        with pytest.raises(InputError, match="another program's"):
            session.switch("shop", NAME)
        assert server.alias == {"shop": "theirs"}


def test_an_authority_that_is_not_there(tmp_path: Path) -> None:
    ca = str(tmp_path / "none.pem")
    refused(OpenSearch(url="https://127.0.0.1:9", ca=ca), "none.pem")
    refused(Qdrant(url="https://127.0.0.1:9", ca=ca), "none.pem")


def test_a_refused_product_is_named() -> None:
    with imitation() as (url, server), OpenSearch(url=url).session(Runtime("unused")) as session:
        made = session.collection(NAME, Shape(None, 2, {"brand": "text"}))
        made.create()
        del server.indexes[NAME].properties["f0"]
        fields: list[dict[str, str]] = [{}, {"brand": "a"}]
        with pytest.raises(InputError, match="product 1 was refused"):
            made.add(Batch(np.arange(2), None, np.eye(2, dtype=np.float32), fields))


def test_what_opensearch_is_asked() -> None:
    """The request of a hybrid with filters, word for word."""
    with imitation() as (url, server):
        with OpenSearch(url=url).session(Runtime("unused")) as session:
            shape = Shape(5, 2, {"brand": "text", "price": "number"})
            made = session.collection(NAME, shape)
            made.create()
            vectors = np.array([[0.5, 1.0]], np.float32)
            filters = {"brand": ["a"], "price": Range(1, None)}
            made.search(Asked(3, [{4: 2.0}], vectors, filters, candidates=7))
        index = server.indexes[NAME]
    passed = [{"terms": {"f0": ["a"]}}, {"range": {"f1": {"gte": 1}}}]
    words = {"neural_sparse": {"words": {"query_tokens": {"4": 2.0}}}}
    near = {"vector": [0.5, 1.0], "k": 7, "method_parameters": {"ef_search": 100}}
    near["filter"] = {"bool": {"filter": passed}}
    combination = {"technique": "rrf", "rank_constant": 60}
    step = {"score-ranker-processor": {"combination": combination}}
    assert server.requests[-1][2] == {
        "size": 3,
        "query": {
            "hybrid": {
                "queries": [
                    {"bool": {"must": [words], "filter": passed}},
                    {"knn": {"vector": near}},
                ],
                "pagination_depth": 7,
            }
        },
        "search_pipeline": {"phase_results_processors": [step]},
    }
    assert index.properties["vector"]["method"]["parameters"] == {"m": 16, "ef_construction": 100}
    assert index.properties["words"] == {"type": "rank_features"}


def test_inner_products_of_opensearch() -> None:
    """Its scores are 1 + x above 0, and 1 / (1 - x) below."""
    np.testing.assert_allclose(inner_products(np.array([3.5, 1.0, 0.5, 0.25])), [2.5, 0, -1, -3])
