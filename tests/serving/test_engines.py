"""A server over an engine: filters are the engine's own."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from neurosearch.core.artifact import Artifact
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.engine.local import Local
from neurosearch.retriever.engine import EngineSearcher, EngineWords


def test_filters_are_the_engines(
    served: Any,
    shop: Artifact[Dataset],
    shop_runtime: Runtime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same products as filtering the whole list, in the same order; asked of the engine."""
    catalogue = pl.read_parquet(shop_runtime.get(shop).catalogue.path)
    asked: list[Any] = []
    filtered = EngineSearcher.filtered

    def noted(self: Any, texts: Any, k: int, filters: Any) -> Any:
        asked.append(dict(filters))
        return filtered(self, texts, k, filters)

    monkeypatch.setattr(EngineSearcher, "filtered", noted)
    recipe = EngineWords(Local(), fields=("colour", "category"))
    with served({"words": recipe}) as client:

        def search(**body: Any) -> list[str]:
            answer = client.post("/v1/search", json={"query": "red mixer", "k": 100, **body})
            assert answer.status_code == 200, answer.text
            return [one["product_id"] for one in answer.json()["results"]]

        whole = search()
        red = set(catalogue.filter(pl.col("colour") == "red")["product_id"])
        wanted = [one for one in whole if one in red]
        assert wanted
        asked.clear()
        assert search(filters={"colour": ["red"]})[: len(wanted)] == wanted
        assert asked == [{"colour": ["red"]}]
        asked.clear()  # the engine does not hold brands: more of the list is looked through
        brand = catalogue["brand"].drop_nulls()[0]
        found = search(filters={"brand": [brand]})
        assert asked and not any(asked)
        assert set(catalogue.filter(pl.col("product_id").is_in(found))["brand"]) <= {brand}
