"""What a retriever of somebody else's gets without asking for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.retrieval import RetrievalRequest, Retriever
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.evaluation.catalogue import CatalogueProtocol
from neurosearch.evaluation.gain import NumericGain
from neurosearch.query.none import NoProcessing
from neurosearch.retriever.random import RandomRun
from neurosearch.task.base import build
from tests.data.test_beir import write
from tests.requests import ask
from tests.test_conf import composed


@dataclass(frozen=True)
class Mine(Retriever):
    """The README's recipe: a run, and nothing else."""

    def run(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Run]:
        return RandomRun(data, request, 3)


def test_it_is_ranked_and_tested_and_has_no_latency(shop_runtime: Runtime, shop) -> None:
    assert not Mine().is_reference and not Mine().is_live
    evaluation = CatalogueProtocol(NumericGain("graded"))
    assert evaluation.latency_of(Mine(), shop, NoProcessing()) is None
    with pytest.raises(InputError, match="Mine has no live searcher"):
        Mine().searcher(shop, ask(), shop_runtime)
    assert shop_runtime.get(Mine().run(shop, ask(depth=5))).frame["rank"].max() == 5


def test_requests_are_checked() -> None:
    with pytest.raises(InputError, match="pool must be one of catalogue, judged"):
        ask(pool="everything")
    with pytest.raises(InputError, match="depth must be at least 1"):
        ask(depth=0)


@pytest.mark.parametrize(
    "retriever, missing",
    [
        ("hybrid/convex", "dev"),
        ("bm25_tuned", "dev"),
        ("reranked/bm25_cross", "train"),
        ("reranked/lambdamart", "train"),
        ("dense/finetuned", "train"),
        ("dense/distilled_kl", "train"),
        ("late_interaction", "train"),
        ("generative", "train"),
        ("hybrid/late_fusion", "train"),
    ],
)
def test_a_missing_split_is_told_before_anything_is_built(
    retriever: str, missing: str, runtime: Runtime, tmp_path: Path
) -> None:
    """Many BEIR folders have a test split only, and a first stage may take an hour."""
    data = write(tmp_path).dataset()
    system = build(composed(f"retriever={retriever}"), "retriever")
    with pytest.raises(InputError, match=f"has no {missing} queries"):
        runtime.store.ensure(system.run(data, ask()))
    assert {event["kind"] for event in runtime.store.events} == {"data"}
