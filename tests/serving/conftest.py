"""Fixtures of the service: asked through ASGI, without a port."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from neurosearch.core.artifact import Artifact
from neurosearch.core.retrieval import RetrievalRequest, Retriever
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.query.none import NoProcessing
from neurosearch.serving.server import ServerSettings, opened_service
from neurosearch.serving.systems import Composed
from tests.served import ADMIN, Served, systems


@pytest.fixture
def served(
    shop: Artifact[Dataset],
    shop_runtime: Runtime,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Served:
    """A function that serves systems: `named` recipes, and fields of `ServerSettings`."""
    monkeypatch.setenv("ADMIN_KEY", ADMIN["X-API-Key"])

    @contextmanager
    def serve(
        named: Mapping[str, Retriever] | None = None,
        data: Artifact[Dataset] = shop,
        **fields: Any,
    ) -> Iterator[TestClient]:
        recipes = dict(named or systems())

        def compose(overrides: Mapping[str, list[str]]) -> dict[str, Composed]:
            """An override `k1=…` changes a BM25; a stand-in for Hydra's."""
            runtime = replace(shop_runtime)
            request = RetrievalRequest(NoProcessing(), depth=200)
            composed = {}
            for name, recipe in recipes.items():
                changes = dict(one.split("=") for one in overrides.get(name, []))
                made: Any = recipe
                if changes:
                    made = replace(made, **{key: float(value) for key, value in changes.items()})
                composed[name] = Composed(made, data, request, runtime)
            return composed

        settings = ServerSettings(**{"admin_keys": ("ADMIN_KEY",), **fields})
        folder = tmp_path / "serving"
        with (
            opened_service(settings, compose, "test: shop", folder) as app,
            TestClient(app, raise_server_exceptions=False) as client,
        ):
            yield client

    return serve


@pytest.fixture
def client(served: Served) -> Iterator[TestClient]:
    """The two systems, by default settings."""
    with served() as client:
        yield client
