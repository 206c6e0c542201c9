"""A retriever whose first results a re-ranker puts in a new order; stages may be nested.

The re-ranked products come first, by weight · their score + (1 - weight) · the first stage's, both
scaled to 0..1 within a query's candidates; what lies deeper follows in the first stage's order.
`weight` null is chosen on dev. A funnel is a re-ranked retriever inside another.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.exportable import Exportable, below
from neurosearch.core.query import Reader
from neurosearch.core.retrieval import (
    RetrievalRequest,
    Retriever,
    RunArtifact,
    Searcher,
)
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.stages import stage
from neurosearch.core.types import Dataset, Queries
from neurosearch.evaluation.gain import Gain
from neurosearch.fusion.normalization import normalised
from neurosearch.reranker.base import Candidates, LiveScorer, Reranker
from neurosearch.reranker.features import agreement, of_leg
from neurosearch.reranker.judgedness import JudgedAUC
from neurosearch.retriever.hybrid import HybridSearcher

GRID = tuple(round(0.1 * step, 1) for step in range(11))


@dataclass(frozen=True)
class Reranked(Retriever):
    """Attributes:
    retriever: the first stage.
    depth: how many of its results are re-ranked.
    weight: of the re-ranker's score; null: chosen on dev by nDCG@10, under `gain`.
    """

    retriever: Retriever
    reranker: Reranker
    gain: Gain
    depth: int = setting(100, least=1)
    weight: float | None = setting(None, least=0, most=1)

    def run(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Run]:
        first, scored = self._stages(data, request)
        weight: float | DevWeight = (
            self.weight if self.weight is not None else self._tuned(data, request)
        )
        return RerankedRun(request.view(data), request, first, scored, weight)

    def _stages(
        self, data: Artifact[Dataset], request: RetrievalRequest
    ) -> tuple[Artifact[Run], Artifact[Run]]:
        first = self.retriever.run(data, request)
        depth = self.depth if request.pool == "catalogue" else None
        candidates = Candidates(first, depth)
        return first, self.reranker.scores(candidates, data, request, self.retriever)

    def diagnosis(
        self, data: Artifact[Dataset], request: RetrievalRequest
    ) -> Artifact[pl.DataFrame] | None:
        if request.pool == "judged":
            return None
        pool = view.with_queries(data, request.split, pool=True)
        return JudgedAUC(pool, self._stages(data, request)[1])

    def _tuned(self, data: Artifact[Dataset], request: RetrievalRequest) -> DevWeight:
        data, dev = request.learning(data)
        source = view.learning(data, "dev")
        return DevWeight(source, dev, *self._stages(data, dev), self.gain)

    def serving(self, data: Artifact[Dataset], request: RetrievalRequest) -> list[Artifact[Any]]:
        artifacts = self.reranker.serving(data, request, self.retriever)
        return [*self.retriever.serving(data, request), *artifacts]

    def exports(
        self, data: Artifact[Dataset], request: RetrievalRequest
    ) -> Mapping[str, Exportable]:
        parts = below("retriever", self.retriever.exports(data, request))
        reranker = self.reranker.exported(data, request, self.retriever)
        return parts if reranker is None else {"reranker": reranker, **parts}

    @property
    def is_live(self) -> bool:
        return self.retriever.is_live and self.reranker.is_live

    @contextmanager
    def searcher(
        self, data: Artifact[Dataset], request: RetrievalRequest, runtime: Runtime
    ) -> Iterator[Searcher]:
        if not self.is_live:
            raise InputError(f"{self.label()} has no live searcher")
        weight = self.weight
        if weight is None:
            weight = runtime.get(self._tuned(data, request))
        with self.retriever.searcher(data, request, runtime) as first:
            score = self.reranker.live(data, request, self.retriever, runtime)
            query = request.query.reader(runtime)
            reads_legs = self.reranker.reads_legs and isinstance(first, HybridSearcher)
            depths = self.depth, request.depth
            yield _RerankedSearcher(first, score, weight, *depths, query, reads_legs)

    def label(self) -> str:
        message = f"{self.retriever.label()} + {self.reranker.label()}"
        return message if self.weight == 1.0 else f"{message}, interpolated"


@dataclass(frozen=True)
class RerankedRun(RunArtifact):
    data: Artifact[Dataset]
    request: RetrievalRequest
    first: Artifact[Run]
    scored: Artifact[Run]
    weight: Any  # a number, or the artifact that chooses one

    def answer(self, runtime: Runtime) -> Run:
        weight = runtime.get(self.weight) if isinstance(self.weight, Artifact) else self.weight
        queries = self.request.queries(runtime.get(self.data))
        merged = interpolated(runtime.get(self.first), runtime.get(self.scored), weight, queries)
        depth = self.request.depth if self.request.pool == "catalogue" else None
        return Run.from_frame(merged.frame, queries, depth)


@dataclass(frozen=True)
class DevWeight(Artifact[float]):
    """weight.json: the weight with the best dev nDCG@10 (the least of equals), and all tried."""

    kind: ClassVar[str] = "weight"
    data: Artifact[Dataset]
    request: RetrievalRequest
    first: Artifact[Run]
    scored: Artifact[Run]
    gain: Gain

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        from neurosearch.evaluation.metrics import per_query

        data = runtime.get(self.data)
        queries, judgments = self.request.queries(data), data.judgments(self.request.split)
        first, scored = runtime.get(self.first), runtime.get(self.scored)
        tried = {}
        for weight in GRID:
            run = interpolated(first, scored, weight, queries)
            metrics = per_query(run, queries, judgments, self.gain, ("nDCG@10",))
            tried[weight] = float(metrics["nDCG@10"].to_numpy().mean())
        best = max(tried, key=lambda weight: (tried[weight], -weight))
        facts = {"weight": best, "dev nDCG@10": tried[best], "tried": list(tried.items())}
        (folder / "weight.json").write_text(json.dumps(facts), encoding="utf-8")
        return {"chosen": {"weight": best}, "dev nDCG@10": round(tried[best], 6)}

    def load(self, folder: Path) -> float:
        return float(json.loads((folder / "weight.json").read_text("utf-8"))["weight"])


def interpolated(first: Run, scored: Run, weight: float, queries: Queries) -> Run:
    """Scored products above all others, by weight · scored + (1 - weight) · first, each min-max.

    Args:
        first: the first stage's run.
        scored: the re-ranker's scores of its candidates.
        weight: of the re-ranker, 0 to 1.

    Returns:
        One run: the candidates in their new order, then the rest in the first stage's.
    """
    keys = ["query_id", "product_id"]
    again = scored.frame.select(*keys)
    reranked = first.frame.join(again, on=keys, how="semi", maintain_order="left")
    rest = first.frame.join(again, on=keys, how="anti", maintain_order="left")
    before = normalised("first", Run(first.split, reranked), "min-max").select(
        *keys, before="score"
    )
    after = normalised("scored", scored, "min-max").select(*keys, after="score")
    mixed = before.join(after, on=keys).select(
        *keys, score=2 + weight * pl.col("after") + (1 - weight) * pl.col("before")
    )
    below = normalised("rest", Run(first.split, rest), "min-max").select(*keys, "score")
    return Run.from_frame(pl.concat([mixed, below]), queries)


@dataclass(frozen=True)
class _RerankedSearcher:
    first: Searcher
    score: LiveScorer
    weight: float
    depth: int
    list_depth: int
    query: Reader
    reads_legs: bool

    def search(self, texts: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        deepest = max(k, self.list_depth, self.depth)
        legs: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        if self.reads_legs:
            assert isinstance(self.first, HybridSearcher)
            rows, scores, legs = self.first.with_legs(texts, deepest)
        else:
            rows, scores = self.first.search(texts, deepest)
        head = rows[:, : self.depth]
        query, place = np.nonzero(head >= 0)
        new_scores = np.full(head.shape, -np.inf)
        pairs = pl.DataFrame(
            {
                "query": query,
                "row": head[query, place],
                "score": scores[query, place].astype(np.float64),
                "rank": (place + 1).astype(np.int32),
            }
        )
        pairs = with_legs(pairs, legs)
        texts = self.query.texts(texts)
        with stage("rerank"):
            new_scores[query, place] = self.score(texts, pairs)
        before = np.where(head >= 0, scores[:, : self.depth], -np.inf)
        mixed = self.weight * scaled(new_scores) + (1 - self.weight) * scaled(before)
        order = np.argsort(-mixed, axis=1, kind="stable")
        rows = np.concatenate([np.take_along_axis(head, order, 1), rows[:, self.depth :]], axis=1)
        scores = scores.astype(np.float32)
        top = 2 + np.take_along_axis(mixed, order, 1)
        below = scaled(scores[:, self.depth :]) if scores.shape[1] > self.depth else top[:, :0]
        return rows[:, :k], np.concatenate([top, below], axis=1)[:, :k].astype(np.float32)


def with_legs(
    pairs: pl.DataFrame, legs: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> pl.DataFrame:
    """Pairs with what each member of the first stage said of them.

    Args:
        pairs: `query`, `row` and more.
        legs: by member the Q×K rows and scores of its list, best first.

    Returns:
        The pairs with the columns of `features.of_leg` and `features.agreement`.
    """
    columns: dict[str, np.ndarray] = {}
    for name, (rows, scores) in legs.items():
        query, place = np.nonzero(rows >= 0)
        found = {"query": query, "row": rows[query, place], "rank": place + 1}
        score = scores[query, place].astype(np.float64)
        columns |= of_leg(name, pairs, pl.DataFrame({**found, "score": score}))
    columns |= agreement(list(legs), columns)
    return pairs.with_columns(pl.Series(name, values) for name, values in columns.items())


def scaled(scores: np.ndarray) -> np.ndarray:
    """Min-max within each row; -inf stays."""
    there = np.isfinite(scores)
    low = np.where(there, scores, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    high = np.where(there, scores, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    with np.errstate(invalid="ignore"):
        scaled: np.ndarray = np.where(there, (scores - low) / np.maximum(high - low, 1e-9), -np.inf)
    return scaled
