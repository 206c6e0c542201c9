"""OpenSearch: words and vectors in Lucene's and FAISS's segments, filters, a hybrid pipeline.

Words are `rank_features`, asked with a `neural_sparse` query of terms and weights: the sum is
BM25's by our analyser and statistics (OpenSearch's own would be each shard's), with weights stored
in nine significant bits. Vectors are in FAISS's HNSW, whose filters are applied while it is
searched. Both lists are fused by the pipeline's reciprocal ranks (OpenSearch 2.19 and later).

User and password are read from OPENSEARCH_USER and OPENSEARCH_PASSWORD. No server could be
installed where this was written: it was run against an imitation in Python that answers by these
rules, not against a server. `task=conform` runs the checks against yours.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError, first_line
from neurosearch.core.filters import Range
from neurosearch.core.runtime import Runtime
from neurosearch.engine.base import PREFIX, Asked, Batch, Collection, Engine, Session, Shape
from neurosearch.engine.files import NAME, check_alias, check_authority, check_secret
from neurosearch.engine.lists import check_filters, keys_of, padded, renamed

USER, PASSWORD = "OPENSEARCH_USER", "OPENSEARCH_PASSWORD"
LEAST = (2, 19)  # the first with fusion of ranks
LONGEST = 10_000  # results of a request
TEMPLATE = {  # what all generations have in common
    "index_patterns": [f"{PREFIX}_*"],
    "template": {
        "settings": {"index": {"knn": True, "refresh_interval": "-1"}},
        "mappings": {"dynamic": "strict", "_source": {"enabled": False}},
    },
}
TYPES = {"text": "keyword", "path": "keyword", "number": "double"}


@dataclass(frozen=True)
class OpenSearch(Engine):
    """Attributes:
    url: of a node or a cluster, such as `https://host:9200`.
    shards, replicas: of a generation.
    ca: file of the certificate authority that signed the server's certificate; None for the
        system's.
    """

    url: str = setting("https://localhost:9200", identity=False)
    shards: int = setting(1, least=1, identity=False)
    replicas: int = setting(0, least=0, identity=False)
    ca: str | None = setting(None, identity=False)

    title: ClassVar[str] = "OpenSearch"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_secret(self, "url", self.url)

    @contextmanager
    def session(self, runtime: Runtime) -> Iterator[Session]:
        try:
            import opensearchpy
        except ImportError:
            raise InputError('engine=opensearch needs pip install "neurosearch[engines]"') from None
        check_authority(self.ca)
        for name in ("opensearch", "urllib3"):  # which log tracebacks of what is told below
            logging.getLogger(name).setLevel(logging.CRITICAL)
        login = (os.environ.get(USER, ""), os.environ.get(PASSWORD, ""))
        client = opensearchpy.OpenSearch(
            self.url,
            http_auth=login if login[0] else None,
            timeout=self.timeout,
            verify_certs=True,
            ca_certs=self.ca,
            max_retries=0,
        )
        try:
            version = str(client.info()["version"]["number"])
            if tuple(int(part) for part in version.split(".")[:2]) < LEAST:
                wanted = ".".join(map(str, LEAST))
                message = f"the server is OpenSearch {version}, and {wanted} is needed"
                raise InputError(f"retriever.engine.url: {message}")
            yield OpenSearchSession(self, client)
        except opensearchpy.exceptions.ConnectionTimeout:
            message = f"a call took longer than retriever.engine.timeout={self.timeout:g} s"
            raise InputError(f"retriever.engine.url={self.url}: {message}") from None
        except opensearchpy.exceptions.ConnectionError as error:
            cause = error.info if isinstance(error.info, BaseException) else error
            raise InputError(f"retriever.engine.url={self.url}: {first_line(cause)}") from None
        except opensearchpy.exceptions.TransportError as error:
            refused = f": set {USER} and {PASSWORD}" if error.status_code in (401, 403) else ""
            said = f"{error.status_code} {error.error}"
            raise InputError(
                f"retriever.engine.url={self.url} answers with {said}{refused}"
            ) from None
        finally:
            client.close()


class OpenSearchSession(Session):
    """A client."""

    def __init__(self, recipe: OpenSearch, client: Any) -> None:
        self.recipe, self.client = recipe, client

    def names(self) -> list[str]:
        listed = self.client.indices.get_alias(index=f"{PREFIX}_*")
        return sorted(name for name in listed if NAME.fullmatch(name))

    def collection(self, name: str, shape: Shape) -> OpenSearchCollection:
        return OpenSearchCollection(self.recipe, self.client, name, shape)

    def drop(self, name: str) -> None:
        if name in self.names():
            self.client.indices.delete(index=name)

    def aliases(self) -> dict[str, str]:
        listed = self.client.indices.get_alias(index=f"{PREFIX}_*")
        return {
            alias: name
            for name, facts in listed.items()
            if NAME.fullmatch(name)
            for alias in facts["aliases"]
        }

    def switch(self, alias: str, name: str) -> None:
        check_alias(alias, name, self.names())
        steps: list[Any] = [{"add": {"index": name, "alias": alias}}]
        before = self.aliases().get(alias)
        if self.client.indices.exists_alias(name=alias) and before is None:
            raise InputError(f"alias {alias!r} is another program's")
        if before is not None and before != name:
            steps.insert(0, {"remove": {"index": before, "alias": alias}})
        self.client.indices.update_aliases(body={"actions": steps})  # in one step


class OpenSearchCollection(Collection):
    """An index of a server."""

    def __init__(self, recipe: OpenSearch, client: Any, name: str, shape: Shape) -> None:
        self.recipe, self.client, self.name, self.shape = recipe, client, name, shape
        self.keys = keys_of(shape)
        self._unseen = False  # whether something was written that searches do not see yet

    def create(self) -> None:
        if self.client.indices.exists(index=self.name):
            return
        recipe = self.recipe
        properties: dict[str, Any] = {
            key: {"type": TYPES[self.shape.fields[name]]} for name, key in self.keys.items()
        }
        if self.shape.terms is not None:
            properties["words"] = {"type": "rank_features"}
        if self.shape.width is not None:
            graph = {"m": recipe.links, "ef_construction": recipe.construction}
            method = {"name": "hnsw", "engine": "faiss", "space_type": "innerproduct"}
            properties["vector"] = {
                "type": "knn_vector",
                "dimension": self.shape.width,
                "method": {**method, "parameters": graph},
            }
        self.client.indices.put_index_template(name=PREFIX, body=TEMPLATE)
        settings = {"number_of_shards": recipe.shards, "number_of_replicas": recipe.replicas}
        body = {"settings": {"index": settings}, "mappings": {"properties": properties}}
        self.client.indices.create(index=self.name, body=body)

    def _refresh(self) -> None:
        """Let searches see what was written; from other clients they do within a second."""
        self._unseen = False
        self.client.indices.refresh(index=self.name)

    def count(self) -> int:
        if not self.client.indices.exists(index=self.name):
            return 0
        self._refresh()
        return int(self.client.count(index=self.name)["count"])

    def has(self, numbers: np.ndarray) -> np.ndarray:
        ids = [str(number) for number in numbers.tolist()]
        found = self.client.mget(index=self.name, body={"ids": ids})["docs"]
        return np.array([bool(one.get("found")) for one in found], dtype=bool)

    def add(self, batch: Batch) -> None:
        lines: list[str] = []
        for place, number in enumerate(batch.numbers.tolist()):
            document = renamed(batch.fields[place], self.keys)
            if batch.vectors is not None and batch.vectors[place].any():
                document["vector"] = batch.vectors[place].tolist()
            if batch.words is not None:
                row = slice(*batch.words.indptr[place : place + 2])
                terms, weights = batch.words.indices[row], batch.words.data[row]
                pairs = zip(terms.tolist(), weights.tolist(), strict=True)
                document["words"] = {str(term): weight for term, weight in pairs}
            lines += [json.dumps({"index": {"_id": str(number)}}), json.dumps(document)]
        self._bulk(lines)

    def remove(self, numbers: np.ndarray) -> None:
        self._bulk([json.dumps({"delete": {"_id": str(n)}}) for n in numbers.tolist()])

    def _bulk(self, lines: list[str]) -> None:
        self._unseen = True
        answer = self.client.bulk(index=self.name, body="\n".join(lines) + "\n")
        for one in answer["items"]:
            (facts,) = one.values()
            if facts["status"] >= 300 and facts["status"] != 404:  # 404: was not there to delete
                reason = facts.get("error", {}).get("reason", facts["status"])
                message = f"product {facts['_id']} was refused ({reason})"
                raise InputError(f"retriever.engine.url={self.recipe.url}: {message}")

    def finish(self) -> None:
        self._refresh()
        limit = 3600.0
        self.client.indices.forcemerge(
            index=self.name, params={"max_num_segments": 1}, request_timeout=limit
        )
        usual = {"index": {"refresh_interval": "1s"}}
        self.client.indices.put_settings(index=self.name, body=usual)
        self._refresh()

    def size(self) -> int:
        stats = self.client.indices.stats(index=self.name)["_all"]
        return int(stats["total"]["store"]["size_in_bytes"])

    def search(self, asked: Asked) -> tuple[np.ndarray, np.ndarray]:
        from opensearchpy.exceptions import NotFoundError

        check_filters(asked.filters, self.shape)
        if asked.k > LONGEST:
            raise InputError(f"OpenSearch gives at most {LONGEST:,} results, not {asked.k:,}")
        if self._unseen:
            self._refresh()
        both = asked.words is not None and asked.vectors is not None
        allowed = [
            _clause(self.keys[name], wanted) for name, wanted in sorted(asked.filters.items())
        ]
        lists = []
        for place in range(len(asked)):
            body = self._body(asked, place, allowed)
            try:
                parts = self.client.search(index=self.name, body=body)["hits"]["hits"]
            except NotFoundError:
                message = f"generation {self.name} is not there"
                raise InputError(f"retriever.engine.url={self.recipe.url}: {message}") from None
            numbers = np.array([int(one["_id"]) for one in parts], dtype=np.int64)
            scores = np.array([one["_score"] for one in parts], dtype=np.float64)
            if asked.words is None and not both:
                scores = inner_products(scores)
            lists.append((numbers, scores))
        return padded(lists, asked.k)

    def _body(self, asked: Asked, place: int, allowed: list[Any]) -> dict[str, Any]:
        """The request of one query."""
        both = asked.words is not None and asked.vectors is not None
        depth = asked.candidates if both else asked.k
        parts: list[dict[str, Any]] = []
        if asked.words is not None:
            tokens = {str(term): weight for term, weight in asked.words[place].items()}
            sparse = {"neural_sparse": {"words": {"query_tokens": tokens}}}
            parts.append({"bool": {"must": [sparse], "filter": allowed}} if allowed else sparse)
        if asked.vectors is not None:
            near: dict[str, Any] = {"vector": asked.vectors[place].tolist(), "k": depth}
            near["method_parameters"] = {"ef_search": max(self.recipe.search, depth)}
            if allowed:
                near["filter"] = {"bool": {"filter": allowed}}
            parts.append({"knn": {"vector": near}})
        body: dict[str, Any] = {"size": asked.k, "query": parts[0]}
        if both:
            body["query"] = {"hybrid": {"queries": parts, "pagination_depth": depth}}
            fusion = {"technique": "rrf", "rank_constant": asked.rank_constant}
            step = {"score-ranker-processor": {"combination": fusion}}
            body["search_pipeline"] = {"phase_results_processors": [step]}
        return body


def inner_products(scores: np.ndarray) -> np.ndarray:
    """What OpenSearch made its positive scores of: 1 + x above 0, else 1 / (1 - x).

    Args:
        scores: of a search by vectors.

    Returns:
        Inner products.
    """
    return np.where(scores >= 1, scores - 1, 1 - 1 / np.maximum(scores, 1e-30))


def _clause(key: str, wanted: Any) -> Mapping[str, Any]:
    """A filter on one field."""
    if isinstance(wanted, Range):
        limits = {"gte": wanted.least, "lte": wanted.most}
        return {"range": {key: {sign: x for sign, x in limits.items() if x is not None}}}
    return {"terms": {key: list(wanted)}}
