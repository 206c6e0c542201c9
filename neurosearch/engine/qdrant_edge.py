"""Qdrant Edge: Qdrant's storage and search in this process, without a server.

`pip install qdrant-edge-py` (14 MB, no dependencies). A generation is a shard, a folder below
outputs/engines/qdrant_edge. Words are a sparse vector, vectors a graph (HNSW) that is filter-aware:
narrow filters are answered exactly, and wider ones as ACORN does (Patel et al. 2024). Points that
no graph holds yet are searched by brute force, so `finish` optimises. A write is in the log (WAL)
when it returns, and `add` flushes it.

One process at a time may open a shard (its log is locked): another one waits for `timeout` seconds.
Sessions of one process share it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.errors import InputError, first_line
from neurosearch.core.filters import Filters, Range
from neurosearch.core.runtime import Runtime
from neurosearch.engine.base import Asked, Batch, Collection, Engine, Session, Shape
from neurosearch.engine.files import aliases_in, drop_in, folder_of, generations_in, switch_in
from neurosearch.engine.lists import check_filters, keys_of, padded, renamed

WORDS, VECTORS = "words", "vectors"  # names of a point's vectors
LOCKED = "WouldBlock"  # in the message of a shard that another process has open

_open: dict[Path, list[Any]] = {}  # shards of this process, and how many sessions use each
_lock = Lock()


@dataclass(frozen=True)
class QdrantEdge(Engine):
    title: ClassVar[str] = "Qdrant Edge"
    embeds: ClassVar[bool] = True

    @contextmanager
    def session(self, runtime: Runtime) -> Iterator[Session]:
        try:
            import qdrant_edge  # noqa: F401
        except ImportError:
            message = 'engine=qdrant_edge needs pip install "neurosearch[engines]"'
            raise InputError(message) from None
        opened = EdgeSession(self, folder_of(runtime, "qdrant_edge"))
        try:
            yield opened
        finally:
            opened.close()


class EdgeSession(Session):
    """Shards in a folder; each is opened when it is first used."""

    def __init__(self, recipe: QdrantEdge, root: Path) -> None:
        self.recipe, self.root = recipe, root
        self._shards: dict[str, Any] = {}

    def names(self) -> list[str]:
        return generations_in(self.root)

    def collection(self, name: str, shape: Shape) -> EdgeCollection:
        return EdgeCollection(self, name, shape)

    def shard(self, name: str, config: Any = None) -> Any:
        """An open shard; made from `config` where it is not there; None without one.

        Args:
            name: of the generation.
            config: of a new shard.

        Returns:
            Qdrant's shard, or None.

        Raises:
            InputError: another process has it open, or its files are damaged.
        """
        with _lock:
            if name not in self._shards:
                place = self.root / name
                known = _open.get(place)
                if known is None:
                    shard = self._opened(place, config)
                    if shard is None:
                        return None
                    known = _open[place] = [shard, 0]
                known[1] += 1
                self._shards[name] = known[0]
            return self._shards[name]

    def _opened(self, place: Path, config: Any) -> Any:
        """Load or create a shard; waits for another process that has it."""
        from qdrant_edge import EdgeShard

        end = time.monotonic() + self.recipe.timeout
        while True:
            try:
                if (place / "edge_config.json").exists() and (place / "segments").is_dir():
                    return EdgeShard.load(str(place))
                if config is None:
                    return None
                shutil.rmtree(place, ignore_errors=True)  # a creation that was killed
                place.mkdir(parents=True)
                return EdgeShard.create(str(place), config)
            except Exception as error:
                message = first_line(error)
                if LOCKED not in message:
                    cure = "delete the folder, and the generation is loaded again"
                    raise InputError(f"{place} can't be opened ({message}): {cure}") from None
                if time.monotonic() > end:
                    held = "another process has this generation open, and Qdrant Edge lets one in"
                    raise InputError(f"{place}: {held} (engine=postgres lets many)") from None
                time.sleep(0.1)

    def drop(self, name: str) -> None:
        with _lock:
            self._shards.pop(name, None)
            known = _open.pop(self.root / name, None)
            if known is not None:
                known[0].close()
            drop_in(self.root, name)

    def aliases(self) -> dict[str, str]:
        return aliases_in(self.root)

    def switch(self, alias: str, name: str) -> None:
        switch_in(self.root, alias, name)

    def close(self) -> None:
        """Close the shards that no other session of this process uses."""
        with _lock:
            for name in self._shards:
                known = _open.get(self.root / name)
                if known is not None:
                    known[1] -= 1
                    if not known[1]:
                        _open.pop(self.root / name)[0].close()
            self._shards.clear()


class EdgeCollection(Collection):
    """A shard."""

    def __init__(self, session: EdgeSession, name: str, shape: Shape) -> None:
        self.session, self.name, self.shape = session, name, shape
        self.keys = keys_of(shape)

    def create(self) -> None:
        import qdrant_edge as edge

        recipe = self.session.recipe
        vectors, sparse = {}, {}
        graph = edge.HnswIndexConfig(recipe.links, recipe.construction, 10_000)
        if self.shape.width is not None:
            size, distance = self.shape.width, edge.Distance.Dot
            vectors[VECTORS] = edge.EdgeVectorParams(size, distance, hnsw_config=graph)
        if self.shape.terms is not None:
            sparse[WORDS] = edge.EdgeSparseVectorParams()
        limits = edge.EdgeOptimizersConfig(indexing_threshold=1)
        shard = self.session.shard(
            self.name,
            edge.EdgeConfig(vectors=vectors, sparse_vectors=sparse, optimizers=limits),
        )
        for name, key in self.keys.items():
            number = self.shape.fields[name] == "number"
            kind = edge.PayloadSchemaType.Float if number else edge.PayloadSchemaType.Keyword
            shard.update(edge.UpdateOperation.create_field_index(key, kind))

    def _opened(self) -> Any:
        shard = self.session.shard(self.name)
        if shard is None:
            raise InputError(f"{self.session.root / self.name}: this generation is not there")
        return shard

    def count(self) -> int:
        import qdrant_edge as edge

        shard = self.session.shard(self.name)
        return 0 if shard is None else int(shard.count(edge.CountRequest(exact=True)))

    def has(self, numbers: np.ndarray) -> np.ndarray:
        found = self._opened().retrieve(numbers.tolist(), with_payload=False, with_vector=False)
        return np.isin(numbers, [one.id for one in found])

    def add(self, batch: Batch) -> None:
        import qdrant_edge as edge

        parts = points_of(batch, self.keys, edge.SparseVector)
        points = [edge.Point(number, vector, payload) for number, vector, payload in parts]
        shard = self._opened()
        shard.update(edge.UpdateOperation.upsert_points(points))
        shard.flush()

    def remove(self, numbers: np.ndarray) -> None:
        import qdrant_edge as edge

        shard = self._opened()
        shard.update(edge.UpdateOperation.delete_points(numbers.tolist()))
        shard.flush()

    def finish(self) -> None:
        shard = self._opened()
        shard.optimize()
        shard.flush()

    def size(self) -> int:
        files = (self.session.root / self.name).rglob("*")
        return sum(path.stat().st_blocks * 512 for path in files if path.is_file())  # sparse files

    def search(self, asked: Asked) -> tuple[np.ndarray, np.ndarray]:
        import qdrant_edge as edge

        check_filters(asked.filters, self.shape)
        requests = [self._request(asked, place) for place in range(len(asked))]
        return collected(self._opened().query_batch(edge.QueryBatchRequest(requests)), asked.k)

    def _request(self, asked: Asked, place: int) -> Any:
        """Qdrant's request of one query."""
        import qdrant_edge as edge

        allowed = self._filter(asked.filters)
        parts: list[tuple[Any, Any]] = []
        both = asked.words is not None and asked.vectors is not None
        depth = asked.candidates if both else asked.k
        if asked.words is not None:
            words = asked.words[place]
            sparse = edge.SparseVector(list(words), list(words.values()))
            parts.append((edge.Query.Nearest(sparse, using=WORDS), None))
        if asked.vectors is not None:
            dense = edge.Query.Nearest(asked.vectors[place].tolist(), using=VECTORS)
            # Links of links are looked at too, where many of a node's own do not pass.
            acorn = None
            if asked.filters:
                acorn = edge.AcornSearchParams(enable=True, max_selectivity=1.0)
            seen = max(self.session.recipe.search, depth)
            effort = edge.SearchParams(hnsw_ef=seen, acorn=acorn)
            parts.append((dense, effort))
        if not both:
            query, params = parts[0]
            return edge.QueryRequest(asked.k, query=query, filter=allowed, params=params)
        prefetches = [
            edge.Prefetch(depth, query=query, filter=allowed, params=params)
            for query, params in parts
        ]
        # Qdrant counts ranks from 0.
        fusion: Any = edge.Fusion.Rrf(asked.rank_constant + 1)
        # All that both lists have: it breaks ties of fused scores anyhow, `padded` by number.
        return edge.QueryRequest(2 * depth, prefetches=prefetches, query=fusion)

    def _filter(self, filters: Filters) -> Any:
        import qdrant_edge as edge

        if not filters:
            return None
        return edge.Filter(must=list(conditions(filters, self.keys, edge, edge.RangeFloat)))


def points_of(
    batch: Batch, keys: Mapping[str, str], sparse: Any
) -> Iterator[tuple[int, dict[str, Any], dict[str, Any]]]:
    """Products as Qdrant wants them.

    Args:
        batch: of products.
        keys: `lists.keys_of`.
        sparse: the class of sparse vectors, of `qdrant_edge` or `qdrant_client.models`.

    Returns:
        Number, vectors by name, and payload of each.
    """
    for place, number in enumerate(batch.numbers.tolist()):
        vector: dict[str, Any] = {}
        if batch.vectors is not None and batch.vectors[place].any():
            vector[VECTORS] = batch.vectors[place].tolist()
        if batch.words is not None:
            row = slice(*batch.words.indptr[place : place + 2])
            indices, values = batch.words.indices[row].tolist(), batch.words.data[row].tolist()
            vector[WORDS] = sparse(indices=indices, values=values)
        yield number, vector, renamed(batch.fields[place], keys)


def collected(answers: Sequence[Sequence[Any]], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Qdrant's points as lists.

    Args:
        answers: points of each query.
        k: results of each query.

    Returns:
        Q×k numbers and scores (`lists.padded`).
    """
    lists = []
    for answer in answers:
        numbers = np.array([point.id for point in answer], dtype=np.int64)
        lists.append((numbers, np.array([point.score for point in answer], dtype=np.float64)))
    return padded(lists, k)


def conditions(filters: Filters, keys: Mapping[str, str], api: Any, span: Any) -> Sequence[Any]:
    """Qdrant's conditions.

    Args:
        filters: by field.
        keys: `lists.keys_of`.
        api: `qdrant_edge` or `qdrant_client.models`.
        span: the class of ranges there.

    Returns:
        One for each field.
    """
    made = []
    for name, wanted in sorted(filters.items()):
        if isinstance(wanted, Range):
            limits = span(gte=wanted.least, lte=wanted.most)
            made.append(api.FieldCondition(key=keys[name], range=limits))
        else:
            made.append(api.FieldCondition(key=keys[name], match=api.MatchAny(any=list(wanted))))
    return made
