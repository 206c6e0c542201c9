"""Shared fixtures: a small shop with an encoder that needs no weights, and a store to build in."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurosearch.artifact import Artifact
from neurosearch.data.shop import Shop
from neurosearch.runtime import Runtime
from neurosearch.types import Dataset


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    """An empty store of its own."""
    return Runtime(outputs=tmp_path / "outputs", device="cpu", progress=False)


@pytest.fixture(scope="session")
def shop_runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    """One store for the whole session: what is slow to build is built once."""
    return Runtime(outputs=tmp_path_factory.mktemp("shop"), device="cpu", progress=False)


@pytest.fixture(scope="session")
def shop() -> Artifact[Dataset]:
    """500 products, 60 queries."""
    return Shop(n_products=500, n_queries=60, n_sessions=50, images=False).dataset()
