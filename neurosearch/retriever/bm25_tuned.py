"""BM25 with k1, b and field boosts chosen on the dev split.

Coordinate ascent on dev nDCG@10: the grid of k1 and b for the first boosts, then each field's
boost in turn, then k1 and b again for the boosts that won. Every trial is kept.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.retrieval import RetrievalRequest, Retriever, RunArtifact, Searcher
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.evaluation.gain import Gain
from neurosearch.evaluation.metrics import per_query
from neurosearch.retriever import bm25, lucene, lucene_search
from neurosearch.retriever.bm25 import BM25

TUNING_DEPTH = 10


@dataclass(frozen=True)
class TunedBM25(Retriever):
    """Attributes:
    base: the BM25 to start from; its engine must be lucene (parameters are search-time there).
    boosts: values to try for each field; 0 leaves the field out.
    rounds: of coordinate ascent over the fields.
    """

    base: BM25
    gain: Gain
    k1: tuple[float, ...] = (0.3, 0.6, 0.9, 1.2, 1.6, 2.0)
    b: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.75, 1.0)
    boosts: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    rounds: int = 2

    floor: ClassVar[float | None] = bm25.FLOOR

    def __post_init__(self) -> None:
        super().__post_init__()
        bm25.check_fields({**self.base.boosts, **self.boosts})
        if self.base.engine != "lucene":
            raise InputError(
                "retriever.base.engine must be lucene: bm25s fixes k1 and b at indexing"
            )

    def tuned(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[BM25]:
        """The chosen BM25, as an artifact of the dev split; always by retrieval.

        Args:
            data: the data set, or a view of it.
            request: which queries, how they are processed, how deep, and from which pool.

        Returns:
            The chosen parameters, as an artifact.
        """
        data, dev = request.learning(data)
        dev = replace(dev, depth=TUNING_DEPTH, pool="catalogue")
        return TunedParameters(view.learning(data, "dev"), dev, self, self._index(data))

    def _index(self, data: Artifact[Dataset]) -> Artifact[Path]:
        """One index with every field that may get a boost."""
        names = {*self.base.boosts, *self.boosts} - {lucene_search.CONTENTS}
        return lucene.LuceneIndex(view.products(data), self.base.analyzer, tuple(sorted(names)))

    def run(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Run]:
        return TunedRun(request.view(data), request, self.tuned(data, request), self._index(data))

    def serving(self, data: Artifact[Dataset], request: RetrievalRequest) -> list[Artifact[Any]]:
        return [self._index(data), self.tuned(data, request)]

    @contextmanager
    def searcher(
        self, data: Artifact[Dataset], request: RetrievalRequest, runtime: Runtime
    ) -> Iterator[Searcher]:
        chosen, index = runtime.get(self.tuned(data, request)), runtime.get(self._index(data))
        with bm25.lucene_searcher(chosen, index, request.query.reader(runtime), runtime) as live:
            yield live

    def label(self) -> str:
        return f"BM25 {'fields ' if self.boosts else ''}tuned on dev"


@dataclass(frozen=True)
class TunedParameters(Artifact[BM25]):
    """parameters.json: the chosen k1, b and boosts, and every trial with its dev nDCG@10."""

    kind: ClassVar[str] = "bm25_parameters"
    data: Artifact[Dataset]
    request: RetrievalRequest
    recipe: TunedBM25
    index: Artifact[Path]

    def check(self, runtime: Runtime) -> None:
        self.request.queries(runtime.get(self.data))

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        with lucene_search.LuceneWorkers(runtime.get(self.index), runtime) as workers:
            best, trials = self._chosen(workers, runtime)
        chosen = {"k1": best.k1, "b": best.b, "boosts": dict(best.boosts)}
        result = {"chosen": chosen, "dev nDCG@10": trials[_name(best)], "trials": trials}
        (folder / "parameters.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
        score = trials[_name(best)]
        return {"chosen": chosen, "dev nDCG@10": score, "trials": len(trials)}

    def _chosen(
        self, workers: lucene_search.LuceneWorkers, runtime: Runtime
    ) -> tuple[BM25, dict[str, float]]:
        """The best parameters, and the dev nDCG@10 of all that were tried."""
        trials: dict[str, float] = {}
        score = partial(self._best_of, trials=trials, workers=workers, runtime=runtime)
        best = score(self._grid(self.recipe.base))
        for _ in range(self.recipe.rounds if self.recipe.boosts else 0):
            for name, values in self.recipe.boosts.items():
                candidates = [_with_boost(best, name, value) for value in values]
                usable = [candidate for candidate in candidates if candidate is not None]
                best = score([best, *usable])
        if self.recipe.boosts:
            best = score([best, *self._grid(best)])
        return best, trials

    def load(self, folder: Path) -> BM25:
        chosen = json.loads((folder / "parameters.json").read_text(encoding="utf-8"))["chosen"]
        return replace(self.recipe.base, engine="lucene", **chosen)

    def _grid(self, start: BM25) -> list[BM25]:
        pairs = itertools.product(self.recipe.k1, self.recipe.b)
        return [replace(start, k1=k1, b=b) for k1, b in pairs]

    def _best_of(
        self,
        candidates: Sequence[BM25],
        trials: dict[str, float],
        workers: lucene_search.LuceneWorkers,
        runtime: Runtime,
    ) -> BM25:
        """The candidate with the highest dev nDCG@10, the first of equals."""
        data = runtime.get(self.data)
        queries = self.request.queries(data)
        judgments = data.judgments(queries.split)
        new = {_name(c): c for c in candidates if _name(c) not in trials}
        tokens = bm25.looked_up(self.recipe.base.analyzer, self.request, queries, runtime)
        scorings = [bm25.scoring(candidate) for candidate in new.values()]
        lists = workers.search(tokens, self.request.depth, scorings)
        for name, hits in zip(new, lists, strict=True):
            run = bm25.to_run(hits, queries, data, self.request.depth)
            scores = per_query(run, queries, judgments, self.recipe.gain, ("nDCG@10",))
            trials[name] = float(scores["nDCG@10"].to_numpy().mean())
        return max(candidates, key=lambda candidate: trials[_name(candidate)])


def _with_boost(recipe: BM25, name: str, value: float) -> BM25 | None:
    boosts = {key: weight for key, weight in recipe.boosts.items() if key != name}
    if value > 0:
        boosts[name] = float(value)
    return replace(recipe, boosts=dict(sorted(boosts.items()))) if boosts else None


def _name(recipe: BM25) -> str:
    boosts = " ".join(f"{name}^{weight}" for name, weight in sorted(recipe.boosts.items()))
    return f"k1={recipe.k1} b={recipe.b} {boosts}"


@dataclass(frozen=True)
class TunedRun(RunArtifact):
    data: Artifact[Dataset]
    request: RetrievalRequest
    tuned: Artifact[BM25]
    index: Artifact[Path]

    def answer(self, runtime: Runtime) -> Run:
        data = runtime.get(self.data)
        chosen = runtime.get(self.tuned)
        return bm25.search(chosen, [self.index], data, self.request, runtime)
