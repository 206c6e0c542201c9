"""Fast tuning gives the metric that tables give, and refinement climbs."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from neurosearch.core.run import Run
from neurosearch.core.types import Judgments, Queries
from neurosearch.evaluation.gain import NumericGain
from neurosearch.evaluation.metrics import per_query
from neurosearch.fusion.base import DevSet, combine
from neurosearch.fusion.convex import Convex, refined, scale, weighted
from neurosearch.fusion.tuning import Pooled

GAIN = NumericGain("graded")


def dev_set(seed: int, queries: int = 30, members: int = 3) -> DevSet:
    """Members of different lengths, few distinct scores (ties), queries without lists or gain."""
    rng = np.random.default_rng(seed)
    ids = [f"q{n}" for n in range(queries)]
    frame = Queries("dev", pl.DataFrame({"query_id": ids, "text": ids}))
    runs = {}
    for member in range(members):
        rows = []
        for query in ids[member:]:
            found = rng.choice(60, rng.integers(1, 40), replace=False)
            rows += [(query, f"d{n:02}", float(rng.integers(0, 5))) for n in found]
        lists = pl.DataFrame(rows, ["query_id", "product_id", "score"], orient="row")
        runs[f"m{member}"] = Run.from_frame(lists, frame)
    judged = [
        (query, f"d{n:02}", str(rng.integers(0, 4) if number % 7 else 0))
        for number, query in enumerate(ids)
        for n in rng.choice(60, 8, replace=False)
    ]
    labels = pl.DataFrame(judged, ["query_id", "product_id", "label"], orient="row")
    return DevSet(runs, frame, Judgments("dev", labels), GAIN)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("norm", ["min-max", "zmuv", "none"])
def test_pooled_ndcg_is_that_of_the_fused_run(seed: int, norm: str) -> None:
    dev = dev_set(seed)
    pooled = Pooled.of(scale(dev.runs, norm), dev)
    for weights in [(1.0, 0.0, 0.0), (0.2, 0.3, 0.5), (0.5, 0.5, 0.0)]:
        fused = combine(weighted(scale(dev.runs, norm), weights), dev.queries)
        expected = per_query(fused, dev.queries, dev.judgments, dev.gain, ("nDCG@10",))
        mean = expected["nDCG@10"].to_numpy().mean()
        # Sums of the same parts in another order may break ties otherwise in the last bit.
        assert pooled.ndcg(weights) == pytest.approx(mean, abs=2e-3)
        if norm == "none":  # integers: sums are exact
            assert pooled.ndcg((1.0, 2.0, 0.0)) == pytest.approx(
                per_query(
                    combine(weighted(scale(dev.runs, norm), (1.0, 2.0, 0.0)), dev.queries),
                    dev.queries,
                    dev.judgments,
                    dev.gain,
                    ("nDCG@10",),
                )["nDCG@10"]
                .to_numpy()
                .mean(),
                abs=1e-9,
            )


def test_refinement_climbs_to_the_top_of_a_hill() -> None:
    top = (0.46, 0.3, 0.24)

    def score(point: tuple[float, ...]) -> float:
        return -sum((x - y) ** 2 for x, y in zip(point, top, strict=True))

    tried = refined(score, (score((0.5, 0.5, 0.0)), "none", (0.5, 0.5, 0.0)), 0.02)
    best = max(tried, key=lambda trial: trial[0])
    assert best[2] == pytest.approx(top)
    assert all(abs(sum(point) - 1) < 1e-6 and min(point) >= 0 for _, _, point in tried)


def test_a_refined_fit_is_no_worse_than_its_grid() -> None:
    dev = dev_set(11)
    coarse = Convex(step=0.5).fit(dev)
    fine = Convex(step=0.5, refine=0.05).fit(dev)
    assert fine["dev nDCG@10"] >= coarse["dev nDCG@10"]
    assert len(fine["tried"]) > len(coarse["tried"])
