"""What members of a first stage say, judgedness, drawn candidates; live lists are the batch's."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from neurosearch.core import view
from neurosearch.core.retrieval import RetrievalRequest
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.hashing import Hashing
from neurosearch.evaluation.gain import LabelGain
from neurosearch.fusion.convex import Convex
from neurosearch.query.none import NoProcessing
from neurosearch.reranker.features import agreement, of_leg
from neurosearch.reranker.judgedness import AUC, JudgedAUC
from neurosearch.reranker.lambdamart import LambdaMART, TrainedTrees
from neurosearch.retriever.bm25 import BM25
from neurosearch.retriever.dense import Dense
from neurosearch.retriever.hybrid import Hybrid
from neurosearch.retriever.reranked import Reranked

GAIN = LabelGain(
    "esci", {"E": 1, "S": 0.1, "C": 0.01, "I": 0}, {"E": 3, "S": 2, "C": 1, "I": 0}, ("E",)
)
REQUEST = RetrievalRequest(NoProcessing(), "test", 100)
FIRST = Hybrid(
    members={"words": BM25(engine="bm25s"), "vectors": Dense(encoder=Hashing(dimensions=64))},
    fusion=Convex(step=0.25),
    gain=GAIN,
    depth=150,
)


def test_a_leg_by_hand() -> None:
    pairs = pl.DataFrame({"query": [0, 0, 1], "row": [4, 9, 4]})
    found = pl.DataFrame(
        {"query": [0, 0, 1], "row": [4, 5, 7], "score": [3.0, 1.0, 2.0], "rank": [1, 2, 1]}
    )
    columns = of_leg("a", pairs, found)
    assert columns["leg a score"][0] == 3.0 and columns["leg a rank"][0] == 1
    assert columns["leg a z"][0] == pytest.approx(1.0)  # 3 and 1: mean 2, deviation 1
    assert np.isnan(columns["leg a score"][1]) and np.isnan(columns["leg a rank"][2])
    other = of_leg("b", pairs, found.with_columns(rank=pl.col("rank") + 10))
    both = agreement(["a", "b"], columns | other)
    assert both["legs agree"].tolist() == [1.0, 0.0, 0.0]
    assert both["legs best rank"][0] == 1.0 and np.isnan(both["legs best rank"][1])
    assert agreement([], {}) == {}


def test_members_are_as_deep_as_the_fusion_wants(shop_runtime: Runtime, shop) -> None:
    legs = FIRST.legs(shop, REQUEST)
    sizes = shop_runtime.get(legs["vectors"]).frame.group_by("query_id").len()["len"]
    assert set(sizes) == {150}
    fused = shop_runtime.get(FIRST.run(shop, REQUEST)).frame.group_by("query_id").len()["len"]
    assert max(fused) == 100


def test_auc_of_judged_by_counting_pairs(shop_runtime: Runtime, shop) -> None:
    run = Dense(encoder=Hashing(dimensions=64)).run(shop, REQUEST)
    pool = view.with_queries(shop, "test", pool=True)
    found = shop_runtime.get(JudgedAUC(pool, run))
    frame: pl.DataFrame = shop_runtime.get(run).frame
    judged = set(shop_runtime.get(pool).pool("test").select("query_id", "product_id").rows())
    for query, auc in found.iter_rows():
        mine = frame.filter(pl.col("query_id") == query)
        good, bad = [], []
        for product, score in mine.select("product_id", "score").iter_rows():
            (good if (query, product) in judged else bad).append(score)
        if not good or not bad:
            assert auc is None
            continue
        wins = [(g > b) + 0.5 * (g == b) for g in good for b in bad]
        assert auc == pytest.approx(np.mean(wins))


def learner(**changes) -> LambdaMART:
    small = {"trees": 15, "leaves": 5, "min_data": 5, "pool_depth": 30, "legs": True}
    return LambdaMART(gain=GAIN, **{**small, **changes})


def test_every_member_is_a_feature_and_live_is_the_batch(shop_runtime: Runtime, shop) -> None:
    system = Reranked(retriever=FIRST, reranker=learner(), gain=GAIN, depth=20, weight=0.7)
    run = shop_runtime.get(system.run(shop, REQUEST))
    trained = system.reranker.trained(shop, NoProcessing(), FIRST)
    names = shop_runtime.store.manifest(trained)["details"]["importance"]
    for name in ("leg words z", "leg vectors rank", "legs agree", "legs best rank"):
        assert name in names
    data = shop_runtime.get(shop)
    with system.searcher(shop, REQUEST, shop_runtime) as live:
        rows, _ = live.search(data.queries("test").texts[:6], 20)
    for query, found in zip(data.queries("test").ids[:6], rows, strict=True):
        mine = run.frame.filter(run.frame["query_id"] == query)["product_id"].to_list()[:20]
        assert [data.catalogue.ids[int(row)] for row in found if row >= 0] == mine


def test_unjudged_candidates_are_drawn_and_weigh_less(shop_runtime: Runtime, shop) -> None:
    recipe = learner(unjudged=3, unjudged_weight=0.3)
    trees = recipe.trained(shop, NoProcessing(), FIRST)
    assert isinstance(trees, TrainedTrees)
    known = pl.DataFrame(
        {
            "query_id": ["a"] * 10 + ["b"] * 4,
            "product_id": [str(n) for n in range(14)],
            "label": [5, 0, *[None] * 8, 7, *[None] * 3],
        }
    )
    kept = trees._weighed(known, "train")
    assert kept.group_by("query_id", maintain_order=True).len()["len"].to_list() == [5, 4]
    unjudged = kept.filter(~pl.col("product_id").is_in(["0", "1", "10"]))
    assert set(unjudged["weight"]) == {0.3} and set(unjudged["label"]) == {0}
    assert set(kept.filter(pl.col("product_id").is_in(["0", "1", "10"]))["weight"]) == {1.0}
    dev = trees._weighed(known, "dev")
    assert dev.height == 14 and set(dev["weight"]) == {1.0}  # it stops the training, unweighted
    plain = learner().trained(shop, NoProcessing(), FIRST)._weighed(known, "train")
    assert plain.height == 14 and set(plain["weight"]) == {1.0}


def test_an_empty_run_has_no_auc(shop_runtime: Runtime, shop) -> None:
    queries = shop_runtime.get(shop).queries("test")
    empty = pl.DataFrame(schema={"query_id": pl.String, "product_id": pl.String, "score": float})
    run = Run.from_frame(empty, queries)
    assert run.frame.is_empty() and AUC == "AUC judged"
