"""A teacher is asked only about queries that it was trained without."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.retrieval import RetrievalRequest, Retriever, RunArtifact
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.query.none import NoProcessing
from neurosearch.reranker.base import Fold
from neurosearch.retriever.out_of_fold import OutOfFold


@dataclass(frozen=True)
class Learner(Retriever):
    """Finds the first products; a query that it was trained on gets the last ones."""

    def run(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Run]:
        return Answers(request.view(data), view.learning(data, "train"), request)


@dataclass(frozen=True)
class Answers(RunArtifact):
    data: Artifact[Dataset]
    learnt: Artifact[Dataset]
    request: RetrievalRequest

    def answer(self, runtime: Runtime) -> Run:
        data, seen = runtime.get(self.data), runtime.get(self.learnt).queries("train").ids
        queries = self.request.queries(data)
        known = queries.ids.is_in(seen.implode()).to_numpy()
        rows = np.where(known[:, None], np.arange(490, 500), np.arange(10))
        scores = np.tile(np.arange(10, 0, -1, dtype=np.float32), (len(queries), 1))
        return Run.from_arrays(rows, scores, queries, data.catalogue, 10)


def test_folds_of_a_fold_are_dealt_anew(shop_runtime: Runtime, shop) -> None:
    outer = [Fold.of(shop, 2, number) for number in range(2)]
    train = set(shop_runtime.get(shop).queries("train").ids)
    held = [set(shop_runtime.get(fold).queries("test").ids) for fold in outer]
    assert held[0] | held[1] == train and not held[0] & held[1]
    for fold in outer:
        left = set(shop_runtime.get(fold).queries("train").ids)
        inner = [set(shop_runtime.get(Fold.of(fold, 2, n)).queries("test").ids) for n in range(2)]
        assert inner[0] | inner[1] == left and not inner[0] & inner[1]
        assert min(map(len, inner)) > len(left) / 5


def test_no_query_is_answered_by_what_saw_it(shop_runtime: Runtime, shop) -> None:
    request = RetrievalRequest(NoProcessing(), "train", 200)
    data = shop_runtime.get(shop)
    first = set(data.catalogue.ids[:10])
    seen = shop_runtime.get(Learner().run(shop, request)).frame
    assert not set(seen["product_id"]) & first
    run = shop_runtime.get(OutOfFold(retriever=Learner(), folds=3, depth=4).run(shop, request))
    assert run.split == "train" and set(run.frame["query_id"]) == set(data.queries("train").ids)
    assert set(run.frame["product_id"]) <= first
    one = run.frame.filter(pl.col("query_id") == data.queries("train").ids[0]).sort("rank")
    # 10, 9, 8, 7 standardised.
    expected = np.array([1.5, 0.5, -0.5, -1.5]) / np.sqrt(1.25)
    assert one["score"].to_numpy() == pytest.approx(expected)
    dev = RetrievalRequest(NoProcessing(), "dev", 200)
    plain = shop_runtime.get(OutOfFold(retriever=Learner()).run(shop, dev))
    assert plain.split == "dev" and set(plain.frame["product_id"]) == first
