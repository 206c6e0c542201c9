"""Our own files as an engine: BM25's weights as a matrix, and vectors in one of our indexes.

What tables measure without an engine, behind the engines' protocol: the reference of the others. A
generation is a folder of segments, a file for each batch that was added or removed; a later one
replaces what earlier ones say of a product. It is read into memory when it is first searched.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.errors import InputError, first_line
from neurosearch.core.filters import Filters, Range
from neurosearch.core.runtime import Runtime
from neurosearch.core.store import write_whole
from neurosearch.engine.base import Asked, Batch, Collection, Engine, Session, Shape
from neurosearch.engine.files import aliases_in, drop_in, folder_of, generations_in, switch_in
from neurosearch.engine.lists import check_filters, fused, padded
from neurosearch.index.base import Index
from neurosearch.index.flat import Flat
from neurosearch.index.live import LiveIndex

INDEX = "vectors.faiss"
MASKS = 64  # filters whose products are remembered
COVERED = "covered.json"  # the segments that the index holds


@dataclass(frozen=True)
class Local(Engine):
    """`index`: of the vectors; it has its own settings of a graph."""

    index: Index = field(default_factory=Flat)

    title: ClassVar[str] = "our files"
    embeds: ClassVar[bool] = True

    @contextmanager
    def session(self, runtime: Runtime) -> Iterator[Session]:
        yield LocalSession(self, folder_of(runtime, "local"))


class LocalSession(Session):
    """A folder of generations."""

    def __init__(self, recipe: Local, root: Path) -> None:
        self.recipe, self.root = recipe, root

    def names(self) -> list[str]:
        return generations_in(self.root)

    def collection(self, name: str, shape: Shape) -> LocalCollection:
        return LocalCollection(self.recipe, self.root / name, shape)

    def drop(self, name: str) -> None:
        drop_in(self.root, name)

    def aliases(self) -> dict[str, str]:
        return aliases_in(self.root)

    def switch(self, alias: str, name: str) -> None:
        switch_in(self.root, alias, name)


@dataclass(frozen=True)
class Held:
    """What is searched: N products in the order of their numbers.

    Attributes:
        numbers: N int64, ascending.
        words: terms×N sparse matrix (CSR), or None.
        vectors: N×width float32, or None.
        fields: of each product.
        index: of the vectors; `places` says which product each of them is.
    """

    numbers: np.ndarray
    words: Any
    vectors: np.ndarray | None
    fields: Sequence[Mapping[str, Any]]
    index: LiveIndex | None
    places: np.ndarray
    masks: dict[str, np.ndarray] = field(default_factory=dict)

    def mask(self, filters: Filters) -> np.ndarray | None:
        """Which products pass all filters; those of the last filters are remembered.

        Args:
            filters: by field.

        Returns:
            N bool; None where there are no filters.
        """
        if not filters:
            return None
        key = repr(sorted(filters.items()))
        if key not in self.masks:
            passed = np.ones(len(self.numbers), dtype=bool)
            for name, wanted in filters.items():
                passed &= self.passing(name, wanted)
            if len(self.masks) >= MASKS:
                self.masks.clear()
            self.masks[key] = passed
        return self.masks[key]

    def passing(self, name: str, wanted: Sequence[str] | Range) -> np.ndarray:
        """Which products pass a filter.

        Args:
            name: of the field.
            wanted: values, or a range.

        Returns:
            N bool.
        """
        values = [one.get(name) for one in self.fields]
        if isinstance(wanted, Range):
            least = -np.inf if wanted.least is None else wanted.least
            most = np.inf if wanted.most is None else wanted.most
            return np.array([v is not None and least <= v <= most for v in values], dtype=bool)
        known = set(wanted)
        found = [not known.isdisjoint(v if isinstance(v, list) else [v]) for v in values]
        return np.array(found, dtype=bool)


class LocalCollection(Collection):
    """A folder of segments."""

    def __init__(self, recipe: Local, folder: Path, shape: Shape) -> None:
        self.recipe, self.folder, self.shape = recipe, folder, shape
        self._held: tuple[list[str], Held] | None = None
        self._lock = Lock()

    def create(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def _segments(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*.npz"))

    def count(self) -> int:
        return len(self._alive())

    def has(self, numbers: np.ndarray) -> np.ndarray:
        return np.isin(numbers, list(self._alive()))

    def _alive(self) -> dict[int, int]:
        """The last segment of each product that is there."""
        alive: dict[int, int] = {}
        for place, name in enumerate(self._segments()):
            with np.load(self.folder / name) as file:
                numbers, there = file["numbers"].tolist(), bool(file["there"])
            for number in numbers:
                if there:
                    alive[number] = place
                else:
                    alive.pop(number, None)
        return alive

    def add(self, batch: Batch) -> None:
        parts: dict[str, Any] = {"numbers": batch.numbers, "there": True}
        parts["fields"] = np.frombuffer(json.dumps(batch.fields).encode(), dtype=np.uint8)
        if batch.words is not None:
            words = batch.words.tocsr()
            parts |= {"starts": words.indptr, "terms": words.indices, "weights": words.data}
        if batch.vectors is not None:
            parts["vectors"] = batch.vectors
        self._write(parts)

    def remove(self, numbers: np.ndarray) -> None:
        self._write({"numbers": numbers, "there": False})

    def _write(self, parts: Mapping[str, Any]) -> None:
        """A new segment, whole; writers take turns."""
        from filelock import FileLock

        content = io.BytesIO()
        np.savez(content, **parts)
        with FileLock(str(self.folder / ".lock")):
            last = self._segments()[-1:] or ["0"]
            number = int(last[0].removesuffix(".npz")) + 1
            write_whole(self.folder / f"{number:08d}.npz", content.getvalue())

    def finish(self) -> None:
        held = self._read(self._segments(), indexed=False)
        if held.vectors is None or not len(held.places):
            return
        import faiss

        index = self.recipe.index.filled(held.vectors[held.places])
        faiss.write_index(index, str(self.folder / f".{INDEX}"))
        (self.folder / f".{INDEX}").replace(self.folder / INDEX)
        write_whole(self.folder / COVERED, json.dumps(self._segments()).encode())
        self._held = None

    def size(self) -> int:
        return sum(path.stat().st_size for path in self.folder.glob("*") if path.is_file())

    def _read(self, segments: list[str], indexed: bool) -> Held:
        from scipy import sparse

        alive = self._alive()
        numbers: list[np.ndarray] = []
        words, vectors, fields = [], [], []
        for place, name in enumerate(segments):
            try:
                with np.load(self.folder / name) as file:
                    if not file["there"]:
                        continue
                    some = file["numbers"]
                    kept = np.array([alive.get(number) == place for number in some.tolist()])
                    numbers.append(some[kept])
                    listed = json.loads(file["fields"].tobytes())
                    fields += [one for one, keep in zip(listed, kept, strict=True) if keep]
                    if self.shape.terms is not None:
                        parts = file["weights"], file["terms"], file["starts"]
                        matrix = sparse.csr_matrix(parts, (len(some), self.shape.terms))
                        words.append(matrix[kept])
                    if self.shape.width is not None:
                        vectors.append(file["vectors"][kept])
            except (OSError, ValueError, KeyError) as error:
                message = f"{self.folder / name} is damaged ({first_line(error)})"
                raise InputError(f"{message}: drop the generation, it is loaded again") from None
        every = np.concatenate(numbers) if numbers else np.empty(0, np.int64)
        order = np.argsort(every)
        matrix = sparse.vstack(words).tocsr()[order].T.tocsr() if words else None
        found = np.concatenate(vectors)[order] if vectors else None
        places = np.empty(0, np.int64)
        if found is not None:
            places = np.flatnonzero((found != 0).any(axis=1))
        index = self._index(segments, found, places) if indexed else None
        return Held(every[order], matrix, found, [fields[n] for n in order], index, places)

    def _index(
        self, segments: list[str], vectors: np.ndarray | None, places: np.ndarray
    ) -> LiveIndex | None:
        """The index that was built, or exact search where products came or went since."""
        if vectors is None or not len(places):
            return None
        import faiss

        covered = self.folder / COVERED
        if covered.exists() and json.loads(covered.read_text("utf-8")) == segments:
            index = faiss.read_index(str(self.folder / INDEX))
            return self.recipe.index.live(index, "")
        return Flat().live(Flat().filled(vectors[places]), "")

    def _opened(self) -> Held:
        segments = self._segments()
        if not segments:
            raise InputError(f"{self.folder}: this generation is not there")
        with self._lock:
            if self._held is None or self._held[0] != segments:
                self._held = segments, self._read(segments, indexed=True)
            return self._held[1]

    def search(self, asked: Asked) -> tuple[np.ndarray, np.ndarray]:
        check_filters(asked.filters, self.shape)
        held = self._opened()
        allowed = held.mask(asked.filters)
        both = asked.words is not None and asked.vectors is not None
        depth = asked.candidates if both else asked.k
        found = []
        if asked.words is not None:
            found.append([_by_words(held, words, depth, allowed) for words in asked.words])
        if asked.vectors is not None:
            found.append(_by_vectors(held, asked.vectors, depth, allowed))
        if both:
            constant = asked.rank_constant
            pairs = zip(found[0], found[1], strict=True)
            return padded([fused(a, b, constant, asked.k) for a, b in pairs], asked.k)
        return padded(found[0], asked.k)


def _by_words(
    held: Held, words: Mapping[int, float], k: int, allowed: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """The best of one query, and their sums of weights."""
    weights = np.array(list(words.values()), dtype=np.float32)
    scores = (
        np.asarray(held.words[list(words)].T @ weights) if words else np.zeros(len(held.numbers))
    )
    hit = scores > 0 if allowed is None else (scores > 0) & allowed
    rows = np.flatnonzero(hit)
    if k < len(rows):
        least = np.partition(scores[rows], len(rows) - k)[len(rows) - k]
        rows = rows[scores[rows] >= least]
    rows = rows[np.lexsort((rows, -scores[rows]))][:k]
    return held.numbers[rows], scores[rows]


def _by_vectors(
    held: Held, vectors: np.ndarray, k: int, allowed: np.ndarray | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The nearest of each query, and their inner products."""
    if held.index is None:
        return [(np.empty(0, np.int64), np.empty(0, np.float32))] * len(vectors)
    subset = None if allowed is None else allowed[held.places]
    asked = np.ascontiguousarray(vectors, dtype=np.float32)
    rows, scores = held.index.nearest(asked, min(k, len(held.places)), subset)
    lists = []
    for found, given in zip(rows, scores, strict=True):
        there = found >= 0
        numbers = held.numbers[held.places[found[there]]]
        order = np.lexsort((numbers, -given[there]))  # FAISS breaks ties anyhow
        lists.append((numbers[order], given[there][order]))
    return lists
