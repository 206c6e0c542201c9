"""What the checks search: a planted catalogue, and the exact answers in it.

Terms are drawn by Zipf's law, vectors lie around centres, and a brand is planted in a half, a
tenth, a hundredth and a thousandth of the products.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from neurosearch.core.runtime import Runtime
from neurosearch.engine.base import Asked, Batch, Collection, Engine, Session, Shape
from neurosearch.engine.files import TESTED, name_of, owner_of
from neurosearch.engine.generation import load

PRODUCTS, TERMS, WIDTH, QUERIES = 2_000, 400, 24, 24
SHARES = {"half": 0.5, "tenth": 0.1, "hundredth": 0.01, "thousandth": 0.001}
FIELDS = {
    **dict.fromkeys(SHARES, "text"),
    "colour": "text",
    "category": "path",
    "price": "number",
    "größe, max.": "text",
}
BATCH = 500


@dataclass(frozen=True)
class World:
    """N products and Q queries.

    Attributes:
        words: N×TERMS sparse matrix (CSR, float32).
        vectors: N×WIDTH float32.
        fields: of each product.
        asked: of each query, weights by term.
        queries: Q×WIDTH float32.
    """

    words: Any
    vectors: np.ndarray
    fields: Sequence[Mapping[str, Any]]
    asked: Sequence[Mapping[int, float]]
    queries: np.ndarray

    @staticmethod
    def drawn(seed: int = 0) -> World:
        """Draw one.

        Args:
            seed: of all draws.

        Returns:
            The world; the same for the same seed.
        """
        from scipy import sparse

        rng = np.random.default_rng(seed)
        chances = 1 / np.arange(1, TERMS + 1)
        chances /= chances.sum()
        counts = np.stack([rng.multinomial(20, chances) for _ in range(PRODUCTS)])
        weights = counts * rng.uniform(0.5, 3.0, TERMS)
        weights[np.arange(PRODUCTS), rng.integers(TERMS, size=PRODUCTS)] += 1.5
        weights *= rng.uniform(0.8, 1.2, weights.shape)  # few ties: some engines break them anyhow
        weights[:, TERMS - 1] = 0  # a term of one product alone
        weights[7, TERMS - 1] = 2.5
        words = sparse.csr_matrix(weights.astype(np.float32))
        centres = rng.normal(size=(20, WIDTH))
        vectors = centres[rng.integers(20, size=PRODUCTS)] + rng.normal(size=(PRODUCTS, WIDTH))
        queries = centres[rng.integers(20, size=QUERIES)] + rng.normal(size=(QUERIES, WIDTH))
        asked = [
            {
                int(t): float(w)
                for t, w in zip(rng.choice(TERMS - 1, 4, False), (1, 1, 2, 0.5), strict=True)
            }
            for _ in range(QUERIES)
        ]
        fields: list[dict[str, Any]] = []
        planted = {name: rng.permutation(PRODUCTS) for name in SHARES}
        for row in range(PRODUCTS):
            one: dict[str, Any] = {
                name: "yes"
                for name, share in SHARES.items()
                if planted[name][row] < share * PRODUCTS
            }
            one["colour"] = ("red", "green", "blue")[row % 3]
            one["category"] = (["a"], ["a", "a > b"], ["a", "a > b", "a > b > c"], ["d"])[row % 4]
            if row % 5:
                one["price"] = float(row)
            fields.append(one)
        return World(words, vectors.astype(np.float32), fields, asked, queries.astype(np.float32))

    def batch(self, numbers: np.ndarray) -> Batch:
        """Some products.

        Args:
            numbers: M int64.

        Returns:
            A batch of them.
        """
        fields = [self.fields[number] for number in numbers.tolist()]
        return Batch(numbers, self.words[numbers], self.vectors[numbers], fields)

    @cached_property
    def word_scores(self) -> np.ndarray:
        """Q×N float64: exact sums of weights."""
        weights = np.zeros((len(self.asked), TERMS))
        for place, words in enumerate(self.asked):
            weights[place, list(words)] = list(words.values())
        scores: np.ndarray = np.asarray((self.words.astype(np.float64) @ weights.T).T)
        return scores

    @cached_property
    def hits(self) -> np.ndarray:
        """Q×N float64: as `word_scores`, -inf for products without a term of the query."""
        return np.where(self.word_scores > 0, self.word_scores, -np.inf)

    @cached_property
    def vector_scores(self) -> np.ndarray:
        """Q×N float64: exact inner products."""
        scores: np.ndarray = self.queries.astype(np.float64) @ self.vectors.T.astype(np.float64)
        return scores

    def passing(self, test: Callable[[Mapping[str, Any]], bool]) -> np.ndarray:
        """Which products pass.

        Args:
            test: of a product's fields.

        Returns:
            N bool.
        """
        return np.array([test(one) for one in self.fields], dtype=bool)


@dataclass
class Bench:
    """An engine under test.

    Attributes:
        shared: the whole world, loaded and indexed; checks only read it.
        run, count: of the names of collections that were made.
    """

    engine: Engine
    runtime: Runtime
    session: Session
    world: World
    shared: Collection
    run: str = field(default_factory=lambda: secrets.token_hex(4))
    count: int = 0

    @staticmethod
    @contextmanager
    def opened(engine: Engine, runtime: Runtime) -> Iterator[Bench]:
        """Load the world into an engine; all that the checks made is dropped at the end.

        Args:
            engine: under test.
            runtime: whose outputs embedded engines use.

        Returns:
            A context that yields the bench.
        """
        world = World.drawn()
        with engine.session(runtime) as session:
            bench = Bench(engine, runtime, session, world, None)  # type: ignore[arg-type]
            try:
                bench.shared = bench.fresh(np.arange(PRODUCTS), finished=True)
                yield bench
            finally:
                for name in bench.names():
                    session.drop(name)

    def name(self) -> str:
        """A name that nothing has yet."""
        self.count += 1
        return self._name(self.count)

    def _name(self, number: int) -> str:
        return name_of(owner_of(self.runtime), f"{TESTED}{self.run}{number:08x}")

    def names(self) -> list[str]:
        """Names of what this bench has made and not dropped."""
        mine = {self._name(n + 1) for n in range(self.count)}
        return [name for name in self.session.names() if name in mine]

    def empty(self, shape: Shape | None = None) -> Collection:
        """A new collection without products.

        Args:
            shape: None for the world's.

        Returns:
            The collection.
        """
        made = self.session.collection(self.name(), shape or Shape(TERMS, WIDTH, FIELDS))
        made.create()
        return made

    def fresh(self, numbers: np.ndarray, finished: bool = False) -> Collection:
        """A new collection with some products of the world.

        Args:
            numbers: of the products.
            finished: with its indexes built.

        Returns:
            The collection.
        """
        made = self.empty()
        for start in range(0, len(numbers), BATCH):
            load(made, self.world.batch(numbers[start : start + BATCH]))
        if finished:
            made.finish()
        return made

    def words(self, k: int = 10, **ways: Any) -> Asked:
        """All queries by words."""
        return replace(Asked(k, words=self.world.asked), **ways)

    def vectors(self, k: int = 10, **ways: Any) -> Asked:
        """All queries by vectors."""
        return replace(Asked(k, vectors=self.world.queries), **ways)

    def both(self, k: int = 10, **ways: Any) -> Asked:
        """All queries by both."""
        return replace(Asked(k, self.world.asked, self.world.queries), **ways)


def recall(
    found: np.ndarray,
    scores: np.ndarray,
    k: int,
    allowed: np.ndarray | None = None,
    rounding: float = 1e-5,
) -> float:
    """Share of the k best that are found; one that scores like the last of them counts as well.

    Args:
        found: Q×k numbers, -1 padded.
        scores: Q×N float64, exact; what may not be found has -inf.
        k: of the list.
        allowed: N bool; None for all.
        rounding: of the engine's scores, relative.

    Returns:
        Mean over the queries that have something to find.
    """
    if allowed is not None:
        scores = np.where(allowed, scores, -np.inf)
    shares = []
    for numbers, exact in zip(found, scores, strict=True):
        there = int(min(k, np.isfinite(exact).sum()))
        if there:
            least = np.sort(exact)[-there]
            given = numbers[:k][numbers[:k] >= 0]
            good = exact[given] >= least - rounding * max(1.0, abs(least))
            shares.append(min(there, int(good.sum())) / there)
    return float(np.mean(shares))
