"""Hybrid retrieval: named member retrievers and a fusion of their runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.exportable import Exportable, below
from neurosearch.core.recipe import Recipe, remembered
from neurosearch.core.retrieval import RetrievalRequest, Retriever, RunArtifact, Searcher
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.stages import stage
from neurosearch.core.types import Catalogue, Dataset, Queries
from neurosearch.evaluation.gain import Gain
from neurosearch.fusion.base import DevSet, Fusion, HeldSet
from neurosearch.reranker.base import Fold


@dataclass(frozen=True)
class Hybrid(Retriever):
    """Attributes:
    members: retrievers by name.
    fusion: of their lists.
    gain: that a learnt fusion is tuned with on dev.
    depth: products of each member's list; None for as many as are asked for.
    """

    members: Mapping[str, Retriever]
    fusion: Fusion
    gain: Gain
    depth: int | None = setting(None, least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.members) < 2:
            raise self.error("members", f"has {len(self.members)}, two or more are needed")

    def run(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Run]:
        runs = self.legs(data, request)
        return HybridRun(
            request.view(data), request, runs, self.fusion, self._fitted(data, request)
        )

    def held(
        self, data: Artifact[Dataset], fold: Artifact[Dataset], request: RetrievalRequest
    ) -> Artifact[Run]:
        runs, fitted = self.legs(fold, request), self._fitted(data, request)
        return HybridRun(request.view(fold), request, runs, self.fusion, fitted)

    @remembered
    def legs(
        self, data: Artifact[Dataset], request: RetrievalRequest
    ) -> Mapping[str, Artifact[Run]]:
        deep = self._deep(request)
        return {name: member.run(data, deep) for name, member in self.members.items()}

    def _deep(self, request: RetrievalRequest) -> RetrievalRequest:
        """The members' request: lists may be deeper than what comes out of the fusion."""
        return replace(request, depth=max(self.depth or 1, request.depth))

    def _fitted(self, data: Artifact[Dataset], request: RetrievalRequest) -> FittedFusion | None:
        if not self.fusion.learns:
            return None
        data, dev = request.learning(data)
        dev = self._deep(dev)
        runs, folds = self.legs(data, dev), []
        for number in range(self.fusion.held_folds):
            fold = Fold.of(data, self.fusion.held_folds, number)
            # Nobody's judgments are in a fold: lists of held-out queries are of the catalogue.
            query = request.query.fitted(fold)
            asked = replace(dev, query=query, split="test", pool="catalogue")
            folds.append(HeldRuns(fold, asked, self.legs(fold, asked)))
        parts = self.fusion, self.gain, tuple(folds)
        return FittedFusion(view.learning(data, "dev"), dev, runs, *parts)

    def serving(self, data: Artifact[Dataset], request: RetrievalRequest) -> list[Artifact[Any]]:
        members = self.members.values()
        needed = [part for member in members for part in member.serving(data, request)]
        fitted = self._fitted(data, request)
        return needed if fitted is None else [*needed, fitted]

    def exports(
        self, data: Artifact[Dataset], request: RetrievalRequest
    ) -> Mapping[str, Exportable]:
        parts: dict[str, Exportable] = {}
        for name, member in self.members.items():
            parts |= below(f"members.{name}", member.exports(data, request))
        return parts

    @property
    def is_live(self) -> bool:
        return all(member.is_live for member in self.members.values())

    @contextmanager
    def searcher(
        self, data: Artifact[Dataset], request: RetrievalRequest, runtime: Runtime
    ) -> Iterator[Searcher]:
        fitted = self._fitted(data, request)
        learnt = None if fitted is None else runtime.get(fitted)
        catalogue = runtime.get(data).catalogue
        with ExitStack() as stack:
            deep = self._deep(request)
            members = {
                name: stack.enter_context(member.searcher(data, deep, runtime))
                for name, member in self.members.items()
            }
            floors = {name: member.floor for name, member in self.members.items()}
            yield HybridSearcher(members, floors, self.fusion, learnt, catalogue, deep.depth)

    def label(self) -> str:
        return f"Hybrid {self.fusion.label()}"


@dataclass(frozen=True)
class HeldRuns(Recipe):
    """The members' lists of a fold's own queries, whose models never saw them."""

    fold: Fold
    request: RetrievalRequest
    runs: Mapping[str, Artifact[Run]]

    def opened(self, runtime: Runtime, gain: Gain) -> HeldSet:
        """The lists as a part of the train split.

        Args:
            runtime: devices, threads, progress and the store of artifacts.
            gain: of the labels.

        Returns:
            What a fusion learns from.
        """
        queries = Queries("train", self.request.queries(runtime.get(self.fold)).frame)
        runs = {name: replace(runtime.get(run), split="train") for name, run in self.runs.items()}
        judgments = runtime.get(self.fold.whole).judgments("train")
        return HeldSet(runs, queries, judgments, gain)


@dataclass(frozen=True)
class FittedFusion(Artifact[Mapping[str, Any]]):
    """What a fusion learnt from dev runs: fusion.json."""

    kind: ClassVar[str] = "fusion"
    data: Artifact[Dataset]
    request: RetrievalRequest
    runs: Mapping[str, Artifact[Run]]
    fusion: Fusion
    gain: Gain
    folds: tuple[HeldRuns, ...] = ()

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        data = runtime.get(self.data)
        split = self.request.split
        runs = {name: runtime.get(run) for name, run in self.runs.items()}
        dev = DevSet(runs, self.request.queries(data), data.judgments(split), self.gain)
        held = [part.opened(runtime, self.gain) for part in self.folds]
        learnt = dict(self.fusion.fit(dev, held))
        (folder / "fusion.json").write_text(json.dumps(learnt, indent=1), encoding="utf-8")
        unshown = ("tried", "dev nDCG@10", "inputs", "layers")
        chosen = {key: learnt[key] for key in learnt if key not in unshown}
        return {"chosen": chosen, "dev nDCG@10": learnt.get("dev nDCG@10")}

    def load(self, folder: Path) -> Mapping[str, Any]:
        learnt: Mapping[str, Any] = json.loads((folder / "fusion.json").read_text("utf-8"))
        return learnt


@dataclass(frozen=True)
class HybridRun(RunArtifact):
    data: Artifact[Dataset]
    request: RetrievalRequest
    runs: Mapping[str, Artifact[Run]]
    fusion: Fusion
    fitted: FittedFusion | None

    def answer(self, runtime: Runtime) -> Run:
        queries = self.request.queries(runtime.get(self.data))
        runs = {name: runtime.get(run) for name, run in self.runs.items()}
        learnt = None if self.fitted is None else runtime.get(self.fitted)
        fused = self.fusion.fuse(runs, queries, learnt)
        depth = self.request.depth if self.request.pool == "catalogue" else None
        return Run.from_frame(fused.frame, queries, depth)


@dataclass(frozen=True)
class HybridSearcher:
    """The live members and their fusion."""

    members: Mapping[str, Searcher]
    floors: Mapping[str, float | None]
    fusion: Fusion
    learnt: Mapping[str, Any] | None
    catalogue: Catalogue
    depth: int  # of the members' lists, as in the batch: shorter lists would give another fusion

    def search(self, texts: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        return self.with_legs(texts, k)[:2]

    def with_legs(
        self, texts: Sequence[str], k: int
    ) -> tuple[np.ndarray, np.ndarray, dict[str, tuple[np.ndarray, np.ndarray]]]:
        """What `search` finds, and what each member found for it.

        Args:
            texts: Q query texts, as typed.
            k: results of each query.

        Returns:
            Q×k rows and scores, and by member the rows and scores of its own list.
        """
        ids = [str(number) for number in range(len(texts))]
        queries = Queries("live", pl.DataFrame({"query_id": ids, "text": list(texts)}))
        runs, legs = {}, {}
        for name, member in self.members.items():
            rows, scores = legs[name] = member.search(texts, self.depth)
            floor = self.floors[name]
            runs[name] = numbered_run(rows, scores, queries, floor, self.catalogue.id_order)
        with stage("fuse"):
            fused = self.fusion.fuse(runs, queries, self.learnt).frame.filter(pl.col("rank") <= k)
        rows = np.full((len(texts), k), -1, dtype=np.int64)
        scores = np.full((len(texts), k), -np.inf, dtype=np.float32)
        at = fused["query_id"].cast(pl.Int64).to_numpy(), fused["rank"].to_numpy() - 1
        places = fused["product_id"].cast(pl.Int64).to_numpy()
        rows[at] = self.catalogue.rows_by_id[places]
        scores[at] = fused["score"].to_numpy()
        return rows, scores, legs


def numbered_run(
    rows: np.ndarray,
    scores: np.ndarray,
    queries: Queries,
    floor: float | None,
    id_order: np.ndarray,
) -> Run:
    """A run whose products are numbered by their ids' order, so that ties break as in batches."""
    keep = rows.ravel() >= 0
    query = np.repeat(np.arange(len(queries)), rows.shape[1])[keep]
    frame = pl.DataFrame(
        {
            "query_id": queries.ids.gather(query),
            "product_id": pl.Series(id_order[rows.ravel()[keep]]).cast(pl.String).str.zfill(9),
            "score": scores.ravel()[keep].astype(np.float64),
        }
    )
    return Run.from_frame(frame, queries, floor=floor)
