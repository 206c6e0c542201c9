"""What a retriever of somebody else's gets without asking for it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from neurosearch.artifact import Artifact
from neurosearch.errors import InputError
from neurosearch.evaluation.catalogue import CatalogueProtocol
from neurosearch.evaluation.gain import NumericGain
from neurosearch.query.none import NoProcessing
from neurosearch.retriever.base import Retriever, Topics
from neurosearch.retriever.random import RandomRun
from neurosearch.runtime import Runtime
from neurosearch.types import Dataset, Run


@dataclass(frozen=True)
class Mine(Retriever):
    """The README's recipe: a run, and nothing else."""

    def run(self, data: Artifact[Dataset], topics: Topics) -> Artifact[Run]:
        return RandomRun(data, topics, 3)


def test_it_is_ranked_and_tested_and_has_no_latency(shop_runtime: Runtime, shop) -> None:
    assert not Mine().is_bound and not Mine().is_live
    evaluation = CatalogueProtocol(NumericGain("graded"))
    assert evaluation.latency_of(Mine(), shop, NoProcessing()) is None
    with pytest.raises(InputError, match="Mine has no live searcher"):
        Mine().searcher(shop, Topics(), shop_runtime)
    assert shop_runtime.get(Mine().run(shop, Topics(depth=5))).frame["rank"].max() == 5


def test_topics_are_checked() -> None:
    with pytest.raises(InputError, match="the protocol must be one of catalogue, judged"):
        Topics(pool="everything")
    with pytest.raises(InputError, match="depth must be at least 1"):
        Topics(depth=0)
