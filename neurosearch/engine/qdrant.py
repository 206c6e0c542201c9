"""Qdrant: a server or a cluster, with shards and replicas.

Points are those of `qdrant_edge`: a sparse vector of words, a dense one under a filter-aware graph,
and the fields. The API key is read from QDRANT_API_KEY. Without a `url`, the client's own local
mode holds everything in Python, for tests: it searches by brute force and is slow. No server could
be installed where this was written: not run against a server. `task=conform` runs the checks
against yours.
"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError, first_line
from neurosearch.core.runtime import Runtime
from neurosearch.engine.base import Asked, Batch, Collection, Engine, Session, Shape
from neurosearch.engine.files import NAME, check_alias, check_authority, check_secret, folder_of
from neurosearch.engine.lists import check_filters, keys_of
from neurosearch.engine.qdrant_edge import VECTORS, WORDS, collected, conditions, points_of

KEY = "QDRANT_API_KEY"
_local_lock = Lock()
LEAST = (1, 16)  # of the server: the first whose fusion takes a constant
WAIT = 0.2  # seconds between two looks at the state of a collection


@dataclass(frozen=True)
class Qdrant(Engine):
    """Attributes:
    url: of a server, such as `https://host:6333`; None for the client's local mode.
    shards, replicas: of a generation.
    ca: file of the certificate authority that signed the server's certificate; None for the
        system's.
    """

    url: str | None = setting(None, identity=False)
    shards: int = setting(1, least=1, identity=False)
    replicas: int = setting(1, least=1, identity=False)
    ca: str | None = setting(None, identity=False)

    title: ClassVar[str] = "Qdrant"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_secret(self, "url", self.url)

    @property
    def is_embedded(self) -> bool:
        return self.url is None

    def label(self) -> str:
        return f"{self.title} (local mode, no server)" if self.url is None else self.title

    @contextmanager
    def session(self, runtime: Runtime) -> Iterator[Session]:
        try:
            from qdrant_client import QdrantClient
            from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
        except ImportError:
            raise InputError('engine=qdrant needs pip install "neurosearch[engines]"') from None
        if self.url is None:
            yield QdrantSession(self, _local(folder_of(runtime, "qdrant")))
            return
        check_authority(self.ca)
        ways: dict[str, Any] = {"timeout": int(max(1, self.timeout)), "check_compatibility": False}
        if self.ca is not None:
            ways["verify"] = self.ca
        client = QdrantClient(url=self.url, api_key=os.environ.get(KEY) or None, **ways)
        try:
            _check_version(client)
            yield QdrantSession(self, client)
        except UnexpectedResponse as error:
            status = error.status_code
            refused = f": set {KEY}" if status in (401, 403) else ""
            raise InputError(
                f"retriever.engine.url={self.url} answers with {status}{refused}"
            ) from None
        except ResponseHandlingException as error:
            raise InputError(f"retriever.engine.url={self.url}: {first_line(error)}") from None
        finally:
            client.close()


@cache
def _local(place: Path) -> Any:
    """The client over a folder; all sessions of this process share it."""
    from qdrant_client import QdrantClient

    place.mkdir(parents=True, exist_ok=True)
    try:
        client = QdrantClient(path=str(place), force_disable_check_same_thread=True)
    except RuntimeError as error:  # another process has it
        raise InputError(f"{place}: {first_line(error)}") from None
    atexit.register(client.close)
    return client


def _check_version(client: Any) -> None:
    """Raise InputError for a server that is too old."""
    version = str(client.info().version)
    if tuple(int(part) for part in version.split(".")[:2]) < LEAST:
        wanted = ".".join(map(str, LEAST))
        raise InputError(
            f"retriever.engine.url: the server is Qdrant {version}, and {wanted} is needed"
        )


class QdrantSession(Session):
    """A client."""

    def __init__(self, recipe: Qdrant, client: Any) -> None:
        self.recipe, self.client = recipe, client

    def names(self) -> list[str]:
        listed = self.client.get_collections().collections
        return sorted(one.name for one in listed if NAME.fullmatch(one.name))

    def collection(self, name: str, shape: Shape) -> QdrantCollection:
        return QdrantCollection(self.recipe, self.client, name, shape)

    def drop(self, name: str) -> None:
        if name in self.names():
            self.client.delete_collection(name)

    def aliases(self) -> dict[str, str]:
        listed = self.client.get_aliases().aliases
        pairs = ((one.alias_name, one.collection_name) for one in listed)
        return {alias: name for alias, name in pairs if NAME.fullmatch(name)}

    def switch(self, alias: str, name: str) -> None:
        from qdrant_client import models

        check_alias(alias, name, self.names())
        steps: list[Any] = []
        there = {one.alias_name: one.collection_name for one in self.client.get_aliases().aliases}
        if alias in there and not NAME.fullmatch(there[alias]):
            raise InputError(f"alias {alias!r} is another program's (of {there[alias]})")
        if alias in there:
            gone = models.DeleteAlias(alias_name=alias)
            steps.append(models.DeleteAliasOperation(delete_alias=gone))
        made = models.CreateAlias(collection_name=name, alias_name=alias)
        steps.append(models.CreateAliasOperation(create_alias=made))
        self.client.update_collection_aliases(steps)  # in one step


class QdrantCollection(Collection):
    """A collection of a server."""

    def __init__(self, recipe: Qdrant, client: Any, name: str, shape: Shape) -> None:
        self.recipe, self.client, self.name, self.shape = recipe, client, name, shape
        self.keys = keys_of(shape)
        # Local mode is no good for threads.
        self.alone: Any = _local_lock if recipe.url is None else nullcontext()

    def create(self) -> None:
        from qdrant_client import models

        if not self.client.collection_exists(self.name):
            self._make()
        if self.recipe.url is None:
            return  # local mode keeps no indexes of fields, and warns
        for name, key in self.keys.items():  # again after a kill; those that are there stay
            number = self.shape.fields[name] == "number"
            kind = models.PayloadSchemaType.FLOAT if number else models.PayloadSchemaType.KEYWORD
            self.client.create_payload_index(self.name, key, field_schema=kind, wait=True)

    def _make(self) -> None:
        from qdrant_client import models

        recipe = self.recipe
        graph = models.HnswConfigDiff(m=recipe.links, ef_construct=recipe.construction)
        vectors, sparse = {}, {}
        if self.shape.width is not None:
            distance = models.Distance.DOT
            vectors[VECTORS] = models.VectorParams(
                size=self.shape.width, distance=distance, hnsw_config=graph
            )
        if self.shape.terms is not None:
            sparse[WORDS] = models.SparseVectorParams()
        self.client.create_collection(
            self.name,
            vectors_config=vectors,
            sparse_vectors_config=sparse,
            shard_number=recipe.shards,
            replication_factor=recipe.replicas,
        )

    def count(self) -> int:
        if not self.client.collection_exists(self.name):
            return 0
        return int(self.client.count(self.name, exact=True).count)

    def has(self, numbers: np.ndarray) -> np.ndarray:
        found = self.client.retrieve(
            self.name, numbers.tolist(), with_payload=False, with_vectors=False
        )
        return np.isin(numbers, [one.id for one in found])

    def add(self, batch: Batch) -> None:
        from qdrant_client import models

        points = [
            models.PointStruct(id=number, vector=vector, payload=payload)
            for number, vector, payload in points_of(batch, self.keys, models.SparseVector)
        ]
        with self.alone:
            self.client.upsert(self.name, points, wait=True)

    def remove(self, numbers: np.ndarray) -> None:
        from qdrant_client import models

        chosen = models.PointIdsList(points=numbers.tolist())
        with self.alone:
            self.client.delete(self.name, chosen, wait=True)

    def finish(self) -> None:
        end = time.monotonic() + 60 * self.recipe.timeout
        # Grey: work is left over from before a restart, and waits for the next write.
        while self.client.get_collection(self.name).status.value not in ("green", "grey"):
            if time.monotonic() > end:
                message = "its optimiser has not finished"
                raise InputError(f"retriever.engine.url={self.recipe.url}: {self.name}: {message}")
            time.sleep(WAIT)

    def size(self) -> int:
        # The server tells no bytes of a collection: the numbers that it must hold, and no more.
        width = self.shape.width or 0
        return 4 * self.count() * (width + 2 * self.recipe.links)

    def search(self, asked: Asked) -> tuple[np.ndarray, np.ndarray]:
        check_filters(asked.filters, self.shape)
        if not self.client.collection_exists(self.name):
            raise InputError(f"Qdrant: generation {self.name} is not there")
        requests = [self._request(asked, place) for place in range(len(asked))]
        with self.alone:
            answers = self.client.query_batch_points(self.name, requests)
        return collected([answer.points for answer in answers], asked.k)

    def _request(self, asked: Asked, place: int) -> Any:
        """Qdrant's request of one query."""
        from qdrant_client import models

        allowed = None
        if asked.filters:
            found = conditions(asked.filters, self.keys, models, models.Range)
            allowed = models.Filter(must=list(found))
        both = asked.words is not None and asked.vectors is not None
        depth = asked.candidates if both else asked.k
        parts: list[dict[str, Any]] = []
        if asked.words is not None:
            words = asked.words[place]
            sparse = models.SparseVector(indices=list(words), values=list(words.values()))
            parts.append({"query": sparse, "using": WORDS})
        if asked.vectors is not None:
            part = {"query": asked.vectors[place].tolist(), "using": VECTORS}
            if self.recipe.url is not None:  # local mode has no graph
                acorn = None
                if asked.filters:
                    acorn = models.AcornSearchParams(enable=True, max_selectivity=1.0)
                seen = max(self.recipe.search, depth)
                part["params"] = models.SearchParams(hnsw_ef=seen, acorn=acorn)
            parts.append(part)
        if not both:
            return models.QueryRequest(limit=asked.k, filter=allowed, **parts[0])
        prefetch = [models.Prefetch(limit=depth, filter=allowed, **part) for part in parts]
        # Qdrant counts ranks from 0.
        fusion = models.RrfQuery(rrf=models.Rrf(k=asked.rank_constant + 1))
        # All that both lists have: it breaks ties of fused scores anyhow, `padded` by number.
        return models.QueryRequest(limit=2 * depth, prefetch=prefetch, query=fusion)
