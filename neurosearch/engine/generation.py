"""A generation as an artifact: what an engine holds, by the fingerprint of all it is made of.

The artifact's own folder has one small file that says where the generation is. An artifact whose
generation was dropped, or has lost products, is loaded again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.filters import levels
from neurosearch.core.runtime import Runtime
from neurosearch.core.store import HELD
from neurosearch.core.types import Catalogue, Dataset
from neurosearch.core.vectors import Embeddings
from neurosearch.engine.base import Batch, Collection, Engine, Session, Shape
from neurosearch.engine.files import name_of, owner_of

FACTS = "generation.json"
FIELDS = ("brand", "colour", "category")


class WordScores(Protocol):
    """BM25's weights of all terms in all products."""

    def by_product(self) -> Any:
        """Products×terms sparse matrix (CSR, float32)."""

    def terms(self) -> Mapping[str, int]:
        """Numbers of the terms."""


@dataclass(frozen=True)
class Loaded:
    """A generation that is there.

    Attributes:
        name: in the engine.
        shape: what it holds.
        facts: of its loading: products, bytes, seconds.
    """

    name: str
    shape: Shape
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Generation(Artifact[Loaded]):
    """Products with their words, vectors and fields, in an engine.

    Attributes:
        data: the products.
        engine: as far as it changes what is loaded.
        words: BM25's weights; None for none.
        embeddings: of the products; None for none.
        fields: that filters may name: `brand`, `colour`, `category`, keys of the attributes; None
            for those of the first three that some product has.
    """

    kind: ClassVar[str] = "generation"
    data: Artifact[Dataset]
    engine: Engine
    words: Artifact[Any] | None
    embeddings: Artifact[Embeddings] | None
    fields: tuple[str, ...] | None = None

    @staticmethod
    def of(
        data: Artifact[Dataset],
        engine: Engine,
        words: Artifact[Any] | None,
        embeddings: Artifact[Embeddings] | None,
        fields: tuple[str, ...] | None,
    ) -> Generation:
        """The generation, whatever the engine's settings of searches are.

        Args:
            data: the products.
            engine: as it was composed.
            words: BM25's weights; None for none.
            embeddings: of the products; None for none.
            fields: that filters may name; None for the usual ones.

        Returns:
            The artifact.
        """
        built = replace(engine, **engine.searching)
        return Generation(data, built, words, embeddings, fields)

    def check(self, runtime: Runtime) -> None:
        """Connect, so that wrong credentials end a job before it has encoded anything."""
        with self.engine.session(runtime):
            pass

    def missing(self, folder: Path, runtime: Runtime) -> str:
        loaded = self.load(folder)
        with self.engine.session(runtime) as session:
            count = opened(session, loaded).count()
        wanted = int(loaded.facts["products"])
        return "" if count == wanted else f"{self.engine.title} holds {count:,} of {wanted:,}"

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        catalogue = runtime.get(self.data).catalogue
        documents = Documents(
            catalogue,
            None if self.words is None else runtime.get(self.words),
            None if self.embeddings is None else runtime.get(self.embeddings).vectors,
            self.fields,
        )
        name = name_of(owner_of(runtime), self.artifact_fingerprint)
        start = time.perf_counter()
        with self.engine.session(runtime) as session:
            collection = session.collection(name, documents.shape)
            if collection.count() > len(catalogue):  # somebody has added to it
                session.drop(name)
            collection.create()
            with runtime.progressing(f"products into {self.engine.title}", len(catalogue)) as done:
                for batch in documents.batches(self.engine.batch):
                    load(collection, batch)
                    done(len(batch.numbers))
            loading = time.perf_counter() - start
            collection.finish()
            count = collection.count()
            if count != len(catalogue):
                message = f"holds {count:,} products after loading {len(catalogue):,}"
                raise InputError(f"{self.engine.title}: generation {name} {message}")
            facts = {
                "engine": type(self.engine).__name__,
                "products": count,
                HELD: collection.size(),
                "loading s": round(loading, 3),
                "indexing s": round(time.perf_counter() - start - loading, 3),
            }
        shape = documents.shape
        described = {"terms": shape.terms, "width": shape.width, "fields": dict(shape.fields)}
        written = {"name": name, "shape": described, "facts": facts}
        (folder / FACTS).write_text(json.dumps(written, indent=1), encoding="utf-8")
        return facts

    def load(self, folder: Path) -> Loaded:
        read = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        return Loaded(read["name"], Shape(**read["shape"]), read["facts"])


def load(collection: Collection, batch: Batch) -> None:
    """Add the products of a batch that are not there yet.

    Args:
        collection: that is there.
        batch: of products.
    """
    there = collection.has(batch.numbers)
    if not there.all():
        collection.add(batch.only(~there))


def rows_of(catalogue: Catalogue) -> np.ndarray:
    """Rows of the product numbers.

    Args:
        catalogue: the products.

    Returns:
        N int64, by number: ids in descending order.
    """
    return catalogue.rows_by_id[::-1]


def opened(session: Session, loaded: Loaded) -> Collection:
    """The collection of a generation.

    Args:
        session: of its engine.
        loaded: the generation.

    Returns:
        The collection.
    """
    return session.collection(loaded.name, loaded.shape)


@dataclass(frozen=True)
class Documents:
    """What is loaded of a catalogue.

    Attributes:
        catalogue: the products.
        words: BM25's weights; None for none.
        vectors: N×width of any float type, by row; None for none.
        fields: that filters may name; None for those of FIELDS that some product has.
    """

    catalogue: Catalogue
    words: WordScores | None
    vectors: np.ndarray | None
    fields: Sequence[str] | None

    @cached_property
    def rows(self) -> np.ndarray:
        """N int64: the row of each product number."""
        return rows_of(self.catalogue)

    @cached_property
    def values(self) -> dict[str, list[Any]]:
        """Values of each field by row: a text, a number, a list (levels of a path), or None."""
        wanted = FIELDS if self.fields is None else self.fields
        found = {name: _values(self.catalogue, name) for name in wanted}
        empty = [name for name, values in found.items() if all(v is None for v in values)]
        if empty and self.fields is not None:
            raise InputError(f"retriever.fields: no product has {empty[0]!r}")
        return {name: values for name, values in found.items() if name not in empty}

    @cached_property
    def shape(self) -> Shape:
        """What the generation holds."""
        terms = None if self.words is None else len(self.words.terms())
        width = None if self.vectors is None else int(self.vectors.shape[1])
        return Shape(terms, width, {name: _kind(values) for name, values in self.values.items()})

    def batches(self, size: int) -> Iterator[Batch]:
        """All products by number.

        Args:
            size: products of a batch.

        Returns:
            An iterator of batches.
        """
        words = None if self.words is None else self.words.by_product()
        for start in range(0, len(self.rows), size):
            rows = self.rows[start : start + size]
            vectors = None
            if self.vectors is not None:
                vectors = np.asarray(self.vectors[rows], dtype=np.float32)
            yield Batch(
                np.arange(start, start + len(rows)),
                None if words is None else words[rows],
                vectors,
                [self._fields_of(row) for row in rows.tolist()],
            )

    def _fields_of(self, row: int) -> dict[str, Any]:
        found = {name: values[row] for name, values in self.values.items()}
        return {name: value for name, value in found.items() if value is not None}


def _values(catalogue: Catalogue, name: str) -> list[Any]:
    """A field by row."""
    column = name if name in FIELDS else "attributes"
    found: list[Any] = []
    for frame in catalogue.batches([column]):
        texts = frame[column].to_list()
        if column == name:
            found += [text or None for text in texts]
        else:
            found += [json.loads(text).get(name) if text else None for text in texts]
    if name == "category":
        return [None if value is None else levels(value) for value in found]
    if all(value is None or _is_number(value) for value in found):
        return [None if value is None else float(value) for value in found]
    return [None if value is None else str(value) for value in found]


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and np.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def _kind(values: Sequence[Any]) -> str:
    """What a field holds: `text`, `path` or `number`."""
    first = next(value for value in values if value is not None)
    return {list: "path", float: "number"}.get(type(first), "text")
