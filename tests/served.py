"""A served shop: BM25 and a hybrid with an encoder without weights."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from starlette.testclient import TestClient

from neurosearch.core.retrieval import Retriever
from neurosearch.encoder.hashing import Hashing
from neurosearch.fusion.rrf import RRF
from neurosearch.retriever.bm25 import BM25
from neurosearch.retriever.dense import Dense
from neurosearch.retriever.hybrid import Hybrid

Served = Callable[..., AbstractContextManager[TestClient]]
ADMIN = {"X-API-Key": "the administrator's key"}


def systems() -> dict[str, Retriever]:
    """The two systems."""
    from neurosearch.comparison import gain

    members = {"words": BM25(engine="bm25s"), "vectors": Dense(Hashing())}
    return {"words": BM25(engine="bm25s"), "both": Hybrid(members, RRF(), gain("shop"))}
