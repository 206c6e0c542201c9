"""OpenSearch's HTTP interface as far as the engine uses it, in memory, by the documented rules.

Not OpenSearch: exact search instead of graphs. Requests that OpenSearch would refuse (unknown
fields of a strict mapping, a query of an unmapped field, a missing size) are refused.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from scipy import sparse

VERSION = "3.1.0"


class Index:
    """Documents and mappings of one index."""

    def __init__(self, template: dict[str, Any], body: dict[str, Any]) -> None:
        self.settings = {**template["settings"]["index"], **body["settings"]["index"]}
        mappings = {**template["mappings"], **body["mappings"]}
        self.properties = mappings["properties"]
        self.strict = mappings["dynamic"] == "strict"
        vectors = any(one["type"] == "knn_vector" for one in self.properties.values())
        assert self.settings["knn"] or not vectors
        self.documents: dict[str, dict[str, Any]] = {}
        self.seen: dict[str, dict[str, Any]] = {}  # by searches, since the last refresh
        self._arrays: Any = None

    def passes(self, document: dict[str, Any], clause: dict[str, Any]) -> bool:
        """Whether a document passes a filter."""
        ((kind, body),) = clause.items()
        if kind == "bool":
            return all(self.passes(document, one) for one in body["filter"])
        ((name, wanted),) = body.items()
        assert name in self.properties, f"no mapping for {name}"
        held = document.get(name)
        values = held if isinstance(held, list) else [] if held is None else [held]
        if kind == "terms":
            return any(value in wanted for value in values)
        assert kind == "range" and self.properties[name]["type"] == "double"
        least, most = wanted.get("gte", -np.inf), wanted.get("lte", np.inf)
        return any(least <= value <= most for value in values)

    def arrays(self) -> tuple[np.ndarray, Any, np.ndarray, np.ndarray]:
        """Ids, weights, vectors, and which documents have one; of what searches see."""
        if self._arrays is None:
            listed = list(self.seen.values())
            words = sparse.lil_matrix((len(listed), 1_000), dtype=np.float64)
            width = self.properties.get("vector", {}).get("dimension", 1)
            vectors = np.zeros((len(listed), width))
            for row, document in enumerate(listed):
                for term, weight in document.get("words", {}).items():
                    words[row, int(term)] = _nine_bits(weight)
                vectors[row] = document.get("vector", 0)
            has = np.array(["vector" in one for one in listed], dtype=bool)
            self._arrays = np.array(list(self.seen), dtype=object), words.tocsr(), vectors, has
        found: tuple[np.ndarray, Any, np.ndarray, np.ndarray] = self._arrays
        return found

    def scored(self, query: dict[str, Any]) -> list[tuple[str, float]]:
        """Ids and scores, best first."""
        ((kind, body),) = query.items()
        names, words, vectors, has = self.arrays()
        if kind == "bool":
            allowed = {"bool": {"filter": body["filter"]}}
            found = self.scored(body["must"][0])
            return [(i, s) for i, s in found if self.passes(self.seen[i], allowed)]
        if kind == "neural_sparse":
            assert self.properties["words"]["type"] == "rank_features"
            tokens = body["words"]["query_tokens"]
            asked = np.zeros(words.shape[1])
            asked[[int(t) for t in tokens]] = list(tokens.values())
            scores, most = words @ asked, len(names)
            kept = scores > 0
        else:
            near = body["vector"]
            assert kind == "knn"
            assert self.properties["vector"]["method"]["space_type"] == "innerproduct"
            assert set(near) <= {"vector", "k", "filter", "method_parameters"}
            x = vectors @ np.array(near["vector"])
            scores, most = np.where(x > 0, 1 + x, 1 / (1 - np.minimum(x, 0))), near["k"]
            kept = has.copy()
            if "filter" in near:
                passed = [self.passes(one, near["filter"]) for one in self.seen.values()]
                kept &= np.array(passed, dtype=bool)
        rows = np.flatnonzero(kept)
        order = np.lexsort((names[rows].astype(np.int64), -scores[rows]))[:most]
        return [(names[row], float(scores[row])) for row in rows[order]]


def _nine_bits(weight: float) -> float:
    """Lucene's FeatureField keeps the sign, the exponent and eight bits of the fraction."""
    bits = np.float32(weight).view(np.uint32) & np.uint32(0xFFFF8000)
    return float(bits.view(np.float32))


class Server(ThreadingHTTPServer):
    """Indexes by name, aliases, and the login that is wanted."""

    daemon_threads = True

    def __init__(self, login: str | None, version: str, delay: float) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.indexes: dict[str, Index] = {}
        self.alias: dict[str, str] = {}
        self.template: dict[str, Any] = {}
        self.login, self.version, self.delay = login, version, delay
        self.lock = threading.RLock()
        self.requests: list[tuple[str, str, Any]] = []


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is one packet

    def log_message(self, *_: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def _answer(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(size).decode()
        threading.Event().wait(self.server.delay)
        path = self.path.partition("?")[0]
        given = self.headers.get("Authorization", "").removeprefix("Basic ")
        if self.server.login and base64.b64decode(given).decode() != self.server.login:
            status, body = 401, dict[str, Any](error="Unauthorized")
        else:
            with self.server.lock:
                try:
                    status, body = self._route(self.command, path, content)
                except (AssertionError, KeyError) as error:
                    status, body = 400, {"error": {"type": "bad request", "reason": str(error)}}
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        self.wfile.flush()

    def _route(self, method: str, path: str, content: str) -> tuple[int, Any]:
        server = self.server
        if path == "/":
            return 200, {"version": {"number": server.version, "distribution": "opensearch"}}
        name, _, action = path.strip("/").partition("/")
        if path == "/_aliases":
            for step in json.loads(content)["actions"]:
                ((kind, one),) = step.items()
                if kind == "add":
                    assert one["index"] in server.indexes
                    server.alias[one["alias"]] = one["index"]
                else:
                    assert server.alias.pop(one["alias"]) == one["index"]
            return 200, {"acknowledged": True}
        if name == "_index_template":
            body = json.loads(content)
            assert body["index_patterns"] == ["neurosearch_*"]  # of nobody else's indexes
            server.template = body["template"]
            return 200, {"acknowledged": True}
        if name == "_alias":
            return (200 if action in server.alias else 404), {}
        if action == "_alias":
            heads = name.rstrip("*")
            found: dict[str, Any] = {
                index: {"aliases": {a: {} for a, to in server.alias.items() if to == index}}
                for index in server.indexes
                if index.startswith(heads)
            }
            return 200, found
        if method == "PUT" and not action:
            assert re.fullmatch(r"[a-z][a-z0-9_]+", name)
            if name in server.indexes:
                return 400, {"error": {"type": "resource_already_exists_exception"}}
            server.indexes[name] = Index(server.template, json.loads(content))
            return 200, {"acknowledged": True}
        if name not in server.indexes:
            return 404, {"error": {"type": "index_not_found_exception"}, "status": 404}
        index = server.indexes[name]
        if method == "HEAD":
            return 200, {}
        if method == "DELETE":
            del server.indexes[name]
            server.alias = {a: to for a, to in server.alias.items() if to != name}
            return 200, {"acknowledged": True}
        return 200, getattr(self, action.strip("_").replace("/", "_"))(index, content)

    def refresh(self, index: Index, content: str) -> Any:
        index.seen, index._arrays = dict(index.documents), None
        return {"_shards": {"failed": 0}}

    forcemerge = refresh

    def settings(self, index: Index, content: str) -> Any:
        index.settings |= json.loads(content)["index"]
        return {"acknowledged": True}

    def count(self, index: Index, content: str) -> Any:
        return {"count": len(index.seen)}

    def mget(self, index: Index, content: str) -> Any:
        return {
            "docs": [{"_id": i, "found": i in index.documents} for i in json.loads(content)["ids"]]
        }

    def stats(self, index: Index, content: str) -> Any:
        size = len(json.dumps(list(index.documents.values())))
        return {"_all": {"total": {"store": {"size_in_bytes": size}}}}

    def bulk(self, index: Index, content: str) -> Any:
        items: list[Any] = []
        assert content.endswith("\n")
        lines = iter(content.splitlines())
        for line in lines:
            ((kind, one),) = json.loads(line).items()
            if kind == "delete":
                there = index.documents.pop(one["_id"], None) is not None
                items.append({"delete": {"_id": one["_id"], "status": 200 if there else 404}})
                continue
            document = json.loads(next(lines))
            strange = set(document) - set(index.properties)
            if strange and index.strict:
                error = {"type": "strict_dynamic_mapping_exception", "reason": str(strange)}
                items.append({"index": {"_id": one["_id"], "status": 400, "error": error}})
                continue
            index.documents[one["_id"]] = document
            items.append({"index": {"_id": one["_id"], "status": 201}})
        return {"errors": False, "items": items}

    def search(self, index: Index, content: str) -> Any:
        body = json.loads(content)
        self.server.requests.append((self.command, self.path, body))
        if "hybrid" in body["query"]:
            (step,) = body["search_pipeline"]["phase_results_processors"]
            combination = step["score-ranker-processor"]["combination"]
            assert combination["technique"] == "rrf"
            hybrid = body["query"]["hybrid"]
            total: dict[str, float] = {}
            for query in hybrid["queries"]:
                for rank, (name, _) in enumerate(index.scored(query)[: hybrid["pagination_depth"]]):
                    share = 1 / (combination["rank_constant"] + rank + 1)
                    total[name] = total.get(name, 0.0) + share
            found = sorted(total.items(), key=lambda pair: (-pair[1], int(pair[0])))
        else:
            found = index.scored(body["query"])
        hits = [{"_id": name, "_score": score} for name, score in found[: body["size"]]]
        return {"hits": {"hits": hits}}


@contextmanager
def imitation(
    login: str | None = None, version: str = VERSION, delay: float = 0.0
) -> Iterator[tuple[str, Server]]:
    """A server of this process, at a free port.

    Args:
        login: `user:password` that is wanted; None for none.
        version: that it says it has.
        delay: seconds before each answer.

    Returns:
        A context that yields its address and itself.
    """
    server = Server(login, version, delay)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server
    finally:
        server.shutdown()
        server.server_close()
