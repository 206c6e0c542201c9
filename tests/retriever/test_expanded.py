"""Written queries as a field: the same as a field of the products where they say the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from neurosearch.core.errors import InputError
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.hashing import Hashing
from neurosearch.retriever.bm25 import BM25
from neurosearch.retriever.expanded import Expanded, Expansion, best
from neurosearch.writer.template import Template
from tests.requests import ask

TITLES = Expansion(Template(), Hashing(), samples=1, kept=1.0)


@pytest.mark.parametrize("engine", ["lucene", "bm25s"])
def test_titles_written_again_are_the_field_title(
    engine: str, shop: Any, shop_runtime: Runtime
) -> None:
    written = Expanded(engine=engine, boost=0.25, expansion=TITLES)
    known = BM25(engine=engine, boosts={"contents": 1.0, "title": 0.25})
    request = ask(depth=20)
    runs = [shop_runtime.get(system.run(shop, request)).frame for system in (written, known)]
    assert runs[0]["product_id"].equals(runs[1]["product_id"])
    scores = [run["score"].to_numpy() for run in runs]
    np.testing.assert_allclose(*scores, rtol=1e-5)
    data = shop_runtime.get(shop)
    queries = data.queries("test")
    with written.searcher(shop, request, shop_runtime) as live:
        rows, found = live.search(queries.texts, 20)
    again = Run.from_arrays(rows, found, queries, data.catalogue, 20, floor=0.0).frame
    np.testing.assert_allclose(again["score"].to_numpy(), scores[0], rtol=1e-5)


def test_the_best_of_each_product_or_of_all() -> None:
    queries = pl.DataFrame({"row": [0, 0, 0, 1, 1], "text": list("abcde"), "count": [1] * 5})
    likeness = np.array([0.1, 0.9, 0.5, 0.8, 0.2], np.float32)
    # Of three, half is two; of two, one. Of all five, three.
    assert best(queries, likeness, 0.5, "product")["text"].to_list() == ["b", "c", "d"]
    assert best(queries, likeness, 0.4, "catalogue")["text"].to_list() == ["b", "d"]
    assert best(queries, likeness, 0.01, "product")["text"].to_list() == ["b", "d"]
    assert best(queries, likeness, 1.0, "product").equals(queries)


def test_a_query_counts_as_often_as_it_was_drawn(shop: Any, shop_runtime: Runtime) -> None:
    twice = Expansion(Template(), Hashing(), samples=2, kept=0.5)
    once, both = (shop_runtime.get(part.written(shop)) for part in (TITLES, twice))
    assert both == [f"{text} {text}" for text in once]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"prompt": "a title"}, "does not say where {product} goes"),
        ({"fields": ("name",)}, "retriever.expansion.fields"),
        ({"kept": 0.0}, "Expansion.kept must be"),
        ({"among": "brand"}, "Expansion.among must be one of"),
    ],
)
def test_bad_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        Expansion(**{"writer": Template(), "filter": Hashing(), **options})
    assert message in str(refused.value)


def test_a_writer_that_writes_nothing_is_refused(shop: Any, shop_runtime: Runtime) -> None:
    class Silent(Template):
        def write(self, prompts: Any, runtime: Any, samples: int = 1, *_: Any) -> Any:
            return [[" "] * samples for _ in prompts]

    with pytest.raises(InputError, match="wrote nothing for any product"):
        shop_runtime.get(Expansion(Silent(), Hashing(), kept=1.0).written(shop))
