"""The suite, unchanged, against every engine; and that it notices engines that err."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurosearch.core.runtime import Runtime
from neurosearch.engine.base import Asked, Batch, Engine
from neurosearch.engine.conformance.checks import FailedError
from neurosearch.engine.conformance.suite import all_checks
from neurosearch.engine.conformance.world import Bench
from neurosearch.engine.local import Local, LocalCollection
from neurosearch.engine.opensearch import OpenSearch
from neurosearch.engine.postgres import Postgres
from neurosearch.engine.qdrant import Qdrant
from neurosearch.engine.qdrant_edge import QdrantEdge
from neurosearch.index.hnsw import HNSW
from tests.engine.opensearch_imitation import imitation

ENGINES: dict[str, Engine] = {
    "local": Local(),
    "local with a graph": Local(index=HNSW()),
    "qdrant_edge": QdrantEdge(),
    "postgres": Postgres(),
    "postgres with half vectors": Postgres(stored="half"),
    "qdrant (local mode)": Qdrant(),
    "opensearch (imitation)": OpenSearch(),
}


@pytest.fixture(scope="module", params=ENGINES)
def bench(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Bench]:
    engine = ENGINES[request.param]
    with ExitStack() as stack:
        if isinstance(engine, OpenSearch):
            address, _ = stack.enter_context(imitation())
            engine = replace(engine, url=address)
        runtime = Runtime(tmp_path_factory.mktemp("engine"), progress=False)
        yield stack.enter_context(Bench.opened(engine, runtime))


@pytest.mark.parametrize("name", all_checks())
def test_engine_keeps_the_protocol(bench: Bench, name: str) -> None:
    all_checks()[name](bench)


def test_there_are_many_checks() -> None:
    assert len(all_checks()) >= 60


@pytest.mark.parametrize(
    ("fault", "noticed"),
    [
        ("loses a product", "all products are there"),
        ("ignores filters", "words among 10 percent"),
        ("ignores the weights of a query", "weights of query terms count"),
        ("reverses lists", "words find the ten best"),
        ("forgets no product", "removed products are not found by words"),
        ("keeps old words", "a replaced product has lost its old words"),
        ("another constant", "both lists are fused by ranks"),
    ],
)
def test_suite_notices(fault: str, noticed: str, tmp_path: Path, monkeypatch: Any) -> None:
    """Each check of a list fails for an engine that errs in this way."""
    search, add, remove = LocalCollection.search, LocalCollection.add, LocalCollection.remove

    def searched(self: Any, asked: Asked) -> Any:
        if fault == "ignores filters":
            asked = replace(asked, filters={})
        if fault == "ignores the weights of a query" and asked.words is not None:
            asked = replace(asked, words=[dict.fromkeys(one, 1.0) for one in asked.words])
        if fault == "another constant":
            asked = replace(asked, rank_constant=2)
        numbers, scores = search(self, asked)
        if fault == "reverses lists":
            numbers = numbers[:, ::-1] + 1
        return numbers, scores

    def added(self: Any, batch: Batch) -> None:
        if fault == "loses a product":
            batch = batch.only(np.arange(len(batch.numbers)) > 0)
        if fault == "keeps old words" and len(batch.numbers) == 1:
            return
        add(self, batch)

    def removed(self: Any, numbers: np.ndarray) -> None:
        if fault != "forgets no product":
            remove(self, numbers)

    monkeypatch.setattr(LocalCollection, "search", searched)
    monkeypatch.setattr(LocalCollection, "add", added)
    monkeypatch.setattr(LocalCollection, "remove", removed)
    runtime = Runtime(tmp_path, progress=False)
    with Bench.opened(Local(), runtime) as bench, pytest.raises(FailedError):
        all_checks()[noticed](bench)
