"""The engine role: a search engine that holds products' words, vectors and fields.

A catalogue is loaded into a *generation*, which is named by the fingerprint of all that it was made
of; an alias, which other programs ask, is switched from one generation to the next. Products are
numbered by descending id, so that an engine that breaks ties by number breaks them as trec_eval
does.

BM25 is the same in every engine: the weight of a term in a product is computed here (k1, b, the
analyser, the statistics of the catalogue), and the engine sums weights. Engines' own analysers and
formulas give other numbers; where an engine can only use its own, its choice says so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.core.filters import Filters
from neurosearch.core.recipe import Recipe
from neurosearch.core.runtime import Runtime

PREFIX = "neurosearch"  # of all names on a server: what has another name is never touched


@dataclass(frozen=True)
class Shape:
    """What a generation holds.

    Attributes:
        terms: of the vocabulary; None where it holds no words.
        width: of the vectors; None where it holds none.
        fields: that filters may name, by what they hold: `text`, `path` or `number`.
    """

    terms: int | None
    width: int | None
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """Some products.

    Attributes:
        numbers: M int64, distinct.
        words: M×terms sparse matrix (CSR) of BM25 weights, or None.
        vectors: M×width float32, or None; a row of zeros is a product without a vector.
        fields: of each product, only those that it has: texts, lists of texts (paths), numbers.
    """

    numbers: np.ndarray
    words: Any
    vectors: np.ndarray | None
    fields: Sequence[Mapping[str, Any]]

    def only(self, kept: np.ndarray) -> Batch:
        """Some of the products.

        Args:
            kept: M bool.

        Returns:
            A batch of them.
        """
        words = None if self.words is None else self.words[kept]
        vectors = None if self.vectors is None else self.vectors[kept]
        fields = [one for one, keep in zip(self.fields, kept, strict=True) if keep]
        return Batch(self.numbers[kept], words, vectors, fields)


@dataclass(frozen=True)
class Asked:
    """One request of Q queries.

    Attributes:
        k: results of each query.
        words: of each query the terms' numbers and weights; None where words are not asked for.
        vectors: Q×width float32; None where vectors are not asked for.
        filters: by field.
        candidates: products of each of two lists that are fused.
        rank_constant: of the fusion (reciprocal ranks).
    """

    k: int
    words: Sequence[Mapping[int, float]] | None = None
    vectors: np.ndarray | None = None
    filters: Filters = field(default_factory=dict)
    candidates: int = 200
    rank_constant: int = 60

    def __len__(self) -> int:
        """Queries."""
        asked = self.words if self.vectors is None else self.vectors
        return 0 if asked is None else len(asked)


class Collection(ABC):
    """One generation of an open engine."""

    @abstractmethod
    def create(self) -> None:
        """Make it, empty; nothing where it is there."""

    @abstractmethod
    def count(self) -> int:
        """Count the products.

        Returns:
            How many it holds; 0 where it is not there.
        """

    @abstractmethod
    def has(self, numbers: np.ndarray) -> np.ndarray:
        """Which products it holds whole.

        Args:
            numbers: M int64.

        Returns:
            M bool.
        """

    @abstractmethod
    def add(self, batch: Batch) -> None:
        """Add products, or replace those that are there; when it returns, they survive a kill.

        Args:
            batch: of products.
        """

    @abstractmethod
    def remove(self, numbers: np.ndarray) -> None:
        """Remove products; those that are not there are no error.

        Args:
            numbers: M int64.
        """

    @abstractmethod
    def finish(self) -> None:
        """Build the indexes after loading. Nothing where they are built."""

    @abstractmethod
    def size(self) -> int:
        """Measure it.

        Returns:
            Bytes on disk.
        """

    @abstractmethod
    def search(self, asked: Asked) -> tuple[np.ndarray, np.ndarray]:
        """Find products.

        Args:
            asked: the request; by words, by vectors, or by both, fused.

        Returns:
            Q×k numbers (int64, -1 padded) and scores (float32), best first.
        """


class Session(ABC):
    """An open connection; threads may share it."""

    @abstractmethod
    def names(self) -> list[str]:
        """List the generations of this project, of all stores.

        Returns:
            Their names, sorted.
        """

    @abstractmethod
    def collection(self, name: str, shape: Shape) -> Collection:
        """A generation, whether or not it is there.

        Args:
            name: from `names`, or a new one.
            shape: what it holds.

        Returns:
            The collection.
        """

    @abstractmethod
    def drop(self, name: str) -> None:
        """Delete a generation; nothing where it is not there.

        Args:
            name: from `names`.
        """

    @abstractmethod
    def aliases(self) -> dict[str, str]:
        """List the aliases.

        Returns:
            Generations by alias.
        """

    @abstractmethod
    def switch(self, alias: str, name: str) -> None:
        """Let an alias point to a generation, from one moment to the next.

        Args:
            alias: a name that other programs use.
            name: of a generation that is there.
        """


@dataclass(frozen=True)
class Engine(Recipe):
    """Base of engines.

    Attributes:
        links, construction: of the graph of vectors (M, efConstruction).
        search: nodes kept in sight while it is searched (efSearch); at least k are.
        batch: products that are sent at a time.
        timeout: seconds, of one call.

    Class attributes:
        title: in tables.
        searching: fields that only a search reads, and their values in what is built.
        embeds: it runs in this process.
    """

    links: int = setting(16, least=2, most=100)
    construction: int = setting(100, least=4, most=1000)
    search: int = setting(100, least=1, most=1000)
    batch: int = setting(2_000, least=1, identity=False)
    timeout: float = setting(60.0, above=0, identity=False)

    title: ClassVar[str] = ""
    searching: ClassVar[Mapping[str, Any]] = {"search": 100}
    embeds: ClassVar[bool] = False

    @property
    def is_embedded(self) -> bool:
        """Whether the engine runs in this process, or as one of its own, over files here."""
        return self.embeds

    def session(self, runtime: Runtime) -> AbstractContextManager[Session]:
        """Connect, or open the files.

        Args:
            runtime: where files of embedded engines are, and the progress.

        Returns:
            A context that yields the session.

        Raises:
            InputError: nothing answers, the credentials are refused, the version is too old, or
                the package is not installed.
        """
        raise TypeError(f"{type(self).__name__} does not say how it is opened")

    def label(self) -> str:
        return self.title
