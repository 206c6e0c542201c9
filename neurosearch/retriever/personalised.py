"""Results for a person: (1 - l) · what the query finds + l · what the person's history says.

Both are scaled to 0..1 within a query's candidates. The weight l depends on how many products the
history has, and is chosen on dev for each range of lengths; without a history it is 0, so that a
new user's list is the base's, score by score. `candidates=first` re-orders what the query found;
`both` adds what the profile finds in the whole catalogue, for queries that hardly say anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
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
from neurosearch.core.retrieval import RetrievalRequest, Retriever, RunArtifact, Searcher
from neurosearch.core.run import Run, numbered_pairs
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, Queries
from neurosearch.data.histories import history_rows
from neurosearch.evaluation.gain import Gain
from neurosearch.profile.base import Profile, Taste
from neurosearch.retriever.reranked import GRID, interpolated, scaled

LENGTHS = (1, 2, 4, 8)  # the least lengths of the ranges of histories; shorter ones have no weight
BLOCK = 512  # queries that are scored at a time
CANDIDATES = ("first", "both")
LEAST = 30  # dev queries of a range, for a weight of its own


@dataclass(frozen=True)
class Personalised(Retriever):
    """Attributes:
    retriever: what the query finds.
    profile: what the history says.
    depth: candidates of a query.
    candidates: `first` or `both`.
    weights: by range of lengths (1, 2 to 3, 4 to 7, 8 and more); None: chosen on dev, under `gain`.
    """

    retriever: Retriever
    profile: Profile
    gain: Gain
    depth: int = setting(100, least=1)
    candidates: str = setting("first", choices=CANDIDATES)
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights is not None and (
            len(self.weights) != len(LENGTHS) or not all(0 <= w <= 1 for w in self.weights)
        ):
            raise self.error("weights", f"must be {len(LENGTHS)} numbers from 0 to 1, or null")

    def run(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Run]:
        weights: Any = self.weights
        if weights is None:
            earlier, dev = request.learning(data)
            judged = view.learning(earlier, "dev")
            weights = DevWeights(judged, dev, *self._stages(earlier, dev), self.gain)
        return PersonalRun(request.view(data), request, *self._stages(data, request), weights)

    def _stages(
        self, data: Artifact[Dataset], request: RetrievalRequest
    ) -> tuple[Artifact[Run], Artifact[Run]]:
        first = self.retriever.run(data, request)
        # What is learnt from the data is an input by its own artifacts, not by the whole data.
        made = tuple(self.profile.learnt(data))
        parts = request.view(data), request, first, self.profile, made, view.learning(data)
        return first, ProfileScores(*parts, self.depth, self.candidates)

    def serving(self, data: Artifact[Dataset], request: RetrievalRequest) -> list[Artifact[Any]]:
        return [*self.retriever.serving(data, request), *self.profile.learnt(data)]

    @property
    def is_live(self) -> bool:
        return self.retriever.is_live and self.candidates == "first"

    @contextmanager
    def searcher(
        self, data: Artifact[Dataset], request: RetrievalRequest, runtime: Runtime
    ) -> Iterator[Searcher]:
        if not self.is_live:
            raise InputError(f"{self.label()} has no live searcher")
        weights: Any = self.weights
        if weights is None:
            run = self.run(data, request)
            assert isinstance(run, PersonalRun)
            weights = runtime.get(run.weights)
        with self.retriever.searcher(data, request, runtime) as first:
            taste = self.profile.taste(data, runtime)
            read = request.query.reader(runtime).texts
            yield PersonalSearcher(first, taste, tuple(weights), self.depth, read)

    def label(self) -> str:
        return f"{self.retriever.label()} + {self.profile.label()}"


def ranges_of(lengths: np.ndarray) -> np.ndarray:
    """The range of each history's length.

    Args:
        lengths: Q int64.

    Returns:
        Q int64: 0 for none, then 1 to len(LENGTHS).
    """
    return np.searchsorted(np.array(LENGTHS), lengths, side="right")


@dataclass(frozen=True)
class ProfileScores(RunArtifact):
    """The profile's scores of the candidates."""

    data: Artifact[Dataset]
    request: RetrievalRequest
    first: Artifact[Run]
    profile: Profile
    made: tuple[Artifact[Any], ...]
    learnt: Artifact[Dataset]
    depth: int
    candidates: str

    def answer(self, runtime: Runtime) -> Run:
        data, first = runtime.get(self.data), runtime.get(self.first)
        asked = self.request.queries(data)
        texts = self.request.processed(data, runtime).texts
        histories = history_rows(asked.frame, data.catalogue, self.profile.longest)
        taste = self.profile.taste(self.learnt, runtime)
        kept = Run(first.split, first.frame.filter(pl.col("rank") <= self.depth))
        pairs = numbered_pairs(kept, asked.ids, data.catalogue.ids).select("query", "row")
        place = pairs["query"].to_numpy(), pairs["row"].to_numpy()
        frames = []
        with runtime.progressing("histories", len(texts)) as done:
            for start in range(0, len(texts), BLOCK):
                part = slice(start, start + BLOCK)
                scores = taste.scores(texts[part], histories[part])
                inside = (place[0] >= start) & (place[0] < start + BLOCK)
                query, row = place[0][inside], place[1][inside]
                if self.candidates == "both":
                    query, row = self._widened(scores, start, query, row, len(data.catalogue))
                values = scores[query - start, row].astype(np.float64)
                frames.append(pl.DataFrame({"query": query, "row": row, "score": values}))
                done(len(texts[part]))
        whole = pl.concat(frames)
        frame = whole.select(
            query_id=asked.ids.gather(whole["query"]),
            product_id=data.catalogue.ids.gather(whole["row"]),
            score="score",
        )
        return Run.from_frame(frame, asked)

    def _widened(
        self, scores: np.ndarray, start: int, query: np.ndarray, row: np.ndarray, products: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The candidates, and the profile's own best products."""
        best = np.argsort(-scores, axis=1, kind="stable")[:, : self.depth]
        own = start + np.repeat(np.arange(len(scores)), best.shape[1])
        keys = np.unique(np.concatenate([query * products + row, own * products + best.ravel()]))
        return keys // products, keys % products


@dataclass(frozen=True)
class DevWeights(Artifact[tuple[float, ...]]):
    """weights.json: the weight with the best dev nDCG@10, for each range of lengths."""

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
        tried = []
        for weight in GRID:
            run = mixed(first, scored, np.full(len(queries), weight), queries)
            metrics = per_query(run, queries, judgments, self.gain, ("nDCG@10",))
            joined = queries.frame.select("query_id").join(
                metrics, on="query_id", how="left", maintain_order="left"
            )
            tried.append(joined["nDCG@10"].fill_null(0.0).to_numpy())
        values = np.array(tried)  # weights×queries
        lengths = queries.frame["history"].list.len().to_numpy().astype(np.int64)
        ranges = ranges_of(lengths)
        chosen = []
        for number in range(1, len(LENGTHS) + 1):
            mine = ranges == number
            if mine.sum() < LEAST:  # too few to choose by: all that have a history
                mine = ranges > 0
            means = values[:, mine].mean(axis=1) if mine.any() else np.zeros(len(GRID))
            chosen.append(GRID[int(means.argmax())])
        facts = {"weights": chosen, "lengths": list(LENGTHS)}
        (folder / "weights.json").write_text(json.dumps(facts), encoding="utf-8")
        names = {
            f"weight from {least}": weight for least, weight in zip(LENGTHS, chosen, strict=True)
        }
        return {"chosen": names}

    def load(self, folder: Path) -> tuple[float, ...]:
        return tuple(json.loads((folder / "weights.json").read_text("utf-8"))["weights"])


@dataclass(frozen=True)
class PersonalRun(RunArtifact):
    data: Artifact[Dataset]
    request: RetrievalRequest
    first: Artifact[Run]
    scored: Artifact[Run]
    weights: Any  # numbers, or the artifact that chooses them

    def answer(self, runtime: Runtime) -> Run:
        weights = runtime.get(self.weights) if isinstance(self.weights, Artifact) else self.weights
        queries = self.request.queries(runtime.get(self.data))
        lengths = queries.frame["history"].list.len().to_numpy().astype(np.int64)
        of_query = np.array([0.0, *weights])[ranges_of(lengths)]
        return mixed(runtime.get(self.first), runtime.get(self.scored), of_query, queries,
                     self.request.depth)  # fmt: skip


def mixed(
    first: Run, scored: Run, weights: np.ndarray, queries: Queries, depth: int | None = None
) -> Run:
    """Runs that are interpolated with a weight for each query.

    Args:
        first: what queries found.
        scored: the profile's scores.
        weights: Q float64, of the profile; 0 leaves a query's list as it is.
        queries: Q.
        depth: results of a query; None for all.

    Returns:
        One run.
    """
    by_query = pl.DataFrame({"query_id": queries.ids, "weight": weights})
    parts = []
    for weight in np.unique(weights):
        ids = by_query.filter(pl.col("weight") == weight).select("query_id")
        own = first.frame.join(ids, on="query_id", how="semi", maintain_order="left")
        if weight == 0:
            parts.append(own.select("query_id", "product_id", "score"))
            continue
        theirs = scored.frame.join(ids, on="query_id", how="semi", maintain_order="left")
        widened = with_missing(own, theirs)
        run = interpolated(
            Run(first.split, widened), Run(scored.split, theirs), float(weight), queries
        )
        parts.append(run.frame.select("query_id", "product_id", "score"))
    return Run.from_frame(pl.concat(parts), queries, depth)


def with_missing(own: pl.DataFrame, theirs: pl.DataFrame) -> pl.DataFrame:
    """The base's lists, with candidates that it did not find at its least score.

    Args:
        own: a run's frame.
        theirs: the profile's.

    Returns:
        A run's frame.
    """
    keys = ["query_id", "product_id"]
    missing = theirs.join(own, on=keys, how="anti")
    least = own.group_by("query_id").agg(pl.col("score").min())
    added = missing.select(keys).join(least, on="query_id", how="left")
    added = added.with_columns(pl.col("score").fill_null(0.0), rank=pl.lit(10**6, pl.Int32))
    columns = [*keys, "score", "rank"]
    return pl.concat([own.select(columns), added.select(columns)], how="vertical_relaxed")


@dataclass(frozen=True)
class PersonalSearcher:
    """Live results; without histories they are the base's."""

    first: Searcher
    taste: Taste
    weights: tuple[float, ...]
    depth: int
    read: Any

    def search(
        self, texts: Sequence[str], k: int, histories: Sequence[Sequence[int]] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Q×k rows and scores.

        Args:
            texts: Q query texts, as typed.
            k: results of each query.
            histories: product rows of each caller, oldest first; None where nobody is known.

        Returns:
            Rows of the catalogue (-1 padded) and scores, best first.
        """
        rows, scores = self.first.search(texts, max(k, self.depth))
        known = np.array([len(one) for one in histories] if histories else [0] * len(texts))
        weights = np.array([0.0, *self.weights])[ranges_of(known)]
        mine = [int(number) for number in np.flatnonzero(weights > 0)]
        if not mine or histories is None:
            return rows[:, :k], scores[:, :k]
        width = max(len(histories[number]) for number in mine)
        past = np.full((len(mine), width), -1, dtype=np.int64)
        for place, number in enumerate(mine):
            one = histories[number]
            past[place, width - len(one) :] = one
        liked = self.taste.scores(self.read([texts[number] for number in mine]), past)
        rows, scores = rows.copy(), scores.astype(np.float64)
        for place, number in enumerate(mine):
            head = rows[number, : self.depth]
            there = head >= 0
            own = np.where(there, scores[number, : self.depth], -np.inf)
            theirs = np.where(there, liked[place][np.maximum(head, 0)], -np.inf)
            weight = weights[number]
            both = (1 - weight) * scaled(own[None])[0] + weight * scaled(theirs[None])[0]
            order = np.argsort(-both, kind="stable")
            rows[number, : self.depth] = head[order]
            scores[number, : self.depth] = 2 + both[order]
            below = scores[number, self.depth :]
            if len(below):
                scores[number, self.depth :] = scaled(below[None])[0]
        return rows[:, :k], scores[:, :k].astype(np.float32)
