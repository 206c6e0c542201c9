"""A retriever of a user's own that breaks the rules is refused by name, not tabulated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pytest

import neurosearch as ns
from neurosearch.core.artifact import Artifact
from neurosearch.core.retrieval import RetrievalRequest, Retriever, RunArtifact
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.evaluation.judged import JudgedProtocol
from neurosearch.evaluation.latency import LatencyProtocol
from neurosearch.query.none import NoProcessing


@dataclass(frozen=True)
class Mine(Retriever):
    fault: str = ""

    def run(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Run]:
        return MineRun(request.view(data), request, self.fault)


@dataclass(frozen=True)
class MineRun(RunArtifact):
    data: Artifact[Dataset]
    request: RetrievalRequest
    fault: str

    def answer(self, runtime: Runtime) -> Any:
        data = runtime.get(self.data)
        queries = self.request.queries(data)
        rows = np.tile(np.arange(5), (len(queries), 1))
        if self.fault == "nothing":
            return None
        if self.fault == "negative":
            rows[0, 0] = -5
        if self.fault == "beyond":
            rows[0, 0] = 10**6
        if self.fault == "twice":
            rows[0, 0] = 1
        if self.fault == "short":
            rows = rows[1:]
        return Run.from_arrays(rows, -rows.astype(float), queries, data.catalogue)


@pytest.mark.parametrize(
    "fault, message",
    [
        ("nothing", r"MineRun\.answer must return a Run, not NoneType"),
        ("negative", "names row -5 of 500 products"),
        ("beyond", "names row 1000000 of 500 products"),
        ("twice", "MineRun: product '.*' is twice in the list of query"),
        ("short", "a run of 24 queries was given rows"),
    ],
)
def test_broken_answers(fault: str, message: str, shop: Any, shop_runtime: Runtime) -> None:
    request = RetrievalRequest(NoProcessing(), "test", 10)
    with pytest.raises(ns.InputError, match=message):
        shop_runtime.get(Mine(fault).run(shop, request))


def test_a_judged_pool_is_kept_to(shop: Any, shop_runtime: Runtime) -> None:
    protocol = JudgedProtocol(gain=ns.gain("shop"), latency=LatencyProtocol(queries=0))
    metrics = protocol.metrics(Mine(), shop, NoProcessing())
    with pytest.raises(ns.InputError, match="ignores the request's pool"):
        shop_runtime.get(metrics)
    assert isinstance(shop_runtime.get(protocol.metrics(ns.Oracle(ns.gain("shop")), shop,
                                                        NoProcessing())), pl.DataFrame)  # fmt: skip
