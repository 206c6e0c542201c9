"""Recall of products that train queries had as relevant, and of the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.evaluation.base import PerQueryMetrics
from neurosearch.evaluation.catalogue import CatalogueProtocol
from neurosearch.evaluation.gain import LabelGain
from neurosearch.evaluation.opened import opened
from neurosearch.evaluation.seen import METRICS, seen_metrics
from neurosearch.query.none import NoProcessing
from neurosearch.retriever.bm25 import BM25
from tests.explainer.test_grounded import shop_of

GAIN = LabelGain(
    "esci", {"E": 1, "S": 0.1, "C": 0.01, "I": 0}, {"E": 3, "S": 2, "C": 1, "I": 0}, ("E",)
)
PROTOCOL = CatalogueProtocol(GAIN, resamples=10, seen=True)


def test_values_by_hand() -> None:
    run = pl.DataFrame(
        {
            "query_id": ["a"] * 3 + ["b"] * 2,
            "product_id": ["p1", "p2", "p3", "p1", "p4"],
            "rank": [1, 10, 11, 1, 2],
        }
    )
    graded = pl.DataFrame(
        {
            "query_id": ["a", "a", "a", "a", "b", "b", "c"],
            "product_id": ["p1", "p2", "p3", "p9", "p4", "p1", "p1"],
            "relevant": [True, True, True, True, True, False, False],
        }
    )
    # p2 was judged in train, and not relevant; p1 is, and p3 for one query of two.
    trained = pl.DataFrame(
        {"product_id": ["p1", "p2", "p3", "p3"], "relevant": [True, False, True, False]}
    )
    found = seen_metrics(run, graded, trained).rows()
    # a: of p1 and p3 the first is within ten; of p2 and p9 p2 is. b has p4 alone; c has none.
    assert found == [("a", 0.5, 0.5), ("b", None, 1.0)]


def test_any_system_has_them(shop_runtime: Runtime, shop: Artifact) -> None:
    system = BM25(engine="bm25s")
    metrics = PROTOCOL.metrics(system, shop, NoProcessing())
    assert isinstance(metrics, PerQueryMetrics)
    plain = replace(PROTOCOL, seen=False).metrics(system, shop, NoProcessing())
    frame, without = shop_runtime.get(metrics), shop_runtime.get(plain)
    assert frame.select(without.columns).equals(without) and not set(METRICS) & set(without.columns)
    data = shop_runtime.get(shop)
    relevant = pl.read_parquet(shop_runtime.store.folder(metrics) / "judged.parquet")
    relevant = relevant.filter("relevant")
    train = set(GAIN.graded(data.judgments("train")).filter("relevant")["product_id"])
    top = shop_runtime.get(metrics.run).frame.filter(pl.col("rank") <= 10)
    for row in frame.iter_rows(named=True):
        shown = set(top.filter(query_id=row["query_id"])["product_id"])
        names = set(relevant.filter(query_id=row["query_id"])["product_id"])
        for name, those in zip(METRICS, (names & train, names - train), strict=True):
            assert row[name] == (len(those & shown) / len(those) if those else None)
    assert 0 < frame[METRICS[0]].null_count() < frame.height


def test_without_train_queries_it_is_refused(tmp_path: Path, runtime: Runtime) -> None:
    data: Any = shop_of(tmp_path / "mugs", "")
    loaded = opened(runtime.get(data.data.bound(runtime)))
    labels = LabelGain("two", {"1": 1, "0": 0}, {"1": 1, "0": 0}, ("1",))
    with pytest.raises(InputError, match=r"evaluation\.seen: the data has no train queries"):
        replace(PROTOCOL, gain=labels).check(loaded)
