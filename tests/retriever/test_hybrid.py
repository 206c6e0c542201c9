"""Hybrids: fusion of members' runs, learning on dev, live answers."""

from __future__ import annotations

import numpy as np
import pytest

from neurosearch.core.errors import InputError
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.hashing import Hashing
from neurosearch.evaluation.gain import LabelGain
from neurosearch.fusion.convex import Convex
from neurosearch.fusion.rrf import RRF
from neurosearch.query.none import NoProcessing
from neurosearch.retriever.bm25 import BM25
from neurosearch.retriever.dense import Dense
from neurosearch.retriever.hybrid import Hybrid
from neurosearch.retriever.oracle import Oracle
from neurosearch.retriever.random import Random
from tests.requests import ask

GAIN = LabelGain(
    "esci", {"E": 1, "S": 0.1, "C": 0.01, "I": 0}, {"E": 3, "S": 2, "C": 1, "I": 0}, ("E",)
)
MEMBERS = {"sparse": BM25(engine="bm25s"), "dense": Dense(encoder=Hashing(dimensions=64))}


@pytest.mark.parametrize("k", [10, 100])
@pytest.mark.parametrize("fusion", [RRF(), Convex(step=0.5)])
def test_live_answers_are_the_evaluated_ones(fusion, k: int, shop_runtime: Runtime, shop) -> None:
    """A page of ten too fuses the members' whole lists, or it would be another system."""
    hybrid = Hybrid(MEMBERS, fusion, GAIN)
    run = shop_runtime.get(hybrid.run(shop, ask(depth=100)))
    data = shop_runtime.get(shop)
    queries = data.queries("test")
    with hybrid.searcher(shop, ask(depth=100), shop_runtime) as live:
        rows, scores = live.search(queries.texts, k)
    again = Run.from_arrays(rows, scores, queries, data.catalogue)
    top = run.frame.filter(run.frame["rank"] <= k)
    assert again.frame["score"].to_numpy() == pytest.approx(top["score"].to_numpy(), abs=1e-5)


def test_everything_that_serving_needs_is_declared(shop_runtime: Runtime, shop) -> None:
    hybrid = Hybrid(MEMBERS, Convex(step=0.5), GAIN)
    needed = hybrid.serving(shop, ask(pool="judged"))
    assert "fusion" in {artifact.kind for artifact in needed}
    assert hybrid._fitted(shop, ask(pool="judged")).request.pool == "judged"


def test_only_the_fusion_is_built_anew_when_its_parameter_changes(
    shop_runtime: Runtime, shop, tmp_path
) -> None:
    shop_runtime.get(Hybrid(MEMBERS, RRF(k=60), GAIN).run(shop, ask()))
    later = Runtime(outputs=shop_runtime.outputs, progress=False)
    later.get(Hybrid(MEMBERS, RRF(k=33), GAIN).run(shop, ask()))
    built = [e["kind"] for e in later.store.events if e["event"] == "built"]
    assert built == ["run"]


def test_learning_never_touches_the_test_judgments(shop_runtime: Runtime, shop) -> None:
    hybrid = Hybrid(MEMBERS, Convex(step=0.5), GAIN)
    fitted = hybrid._fitted(shop, ask(split="test"))
    assert fitted is not None
    assert fitted.request.split == "dev"
    assert {shop_runtime.get(run).split for run in fitted.runs.values()} == {"dev"}


def test_a_hybrid_of_hybrids(shop_runtime: Runtime, shop) -> None:
    inner = Hybrid(MEMBERS, RRF(), GAIN)
    outer = Hybrid({"inner": inner, "sparse": MEMBERS["sparse"]}, RRF(), GAIN)
    run = shop_runtime.get(outer.run(shop, ask(depth=50)))
    assert run.frame["rank"].max() == 50


def test_one_member_is_refused() -> None:
    with pytest.raises(InputError, match=r"members has 1, two or more are needed"):
        Hybrid({"sparse": BM25()}, RRF(), GAIN)


def test_floors_bound_every_system(shop_runtime: Runtime, shop) -> None:
    from neurosearch.evaluation.catalogue import CatalogueProtocol

    evaluation = CatalogueProtocol(GAIN)
    systems = {"random": Random(), "oracle": Oracle(GAIN), "bm25": MEMBERS["sparse"]}
    means = {}
    for name, system in systems.items():
        metrics = evaluation.metrics(system, shop, NoProcessing())
        means[name] = shop_runtime.get(metrics)["nDCG@10"].mean()
    assert means["oracle"] == pytest.approx(1.0)
    assert means["random"] < means["bm25"] < means["oracle"]
    assert Random.is_reference and Oracle.is_reference and not Hybrid.is_reference


def test_random_depends_on_its_seed_only(shop_runtime: Runtime, shop) -> None:
    runs = [shop_runtime.get(Random(seed).run(shop, ask())).frame for seed in (0, 0, 1)]
    assert runs[0].equals(runs[1])
    assert not np.array_equal(runs[0]["product_id"], runs[2]["product_id"])
