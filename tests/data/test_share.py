"""A share of a catalogue: nested, and consistent with its judgments."""

from __future__ import annotations

import polars as pl
import pytest

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import SPLITS, Dataset
from neurosearch.data.reading import hashed_fraction
from neurosearch.data.shop import Shop
from neurosearch.evaluation.opened import opened


def test_smaller_catalogues_lie_within_larger_ones(runtime: Runtime) -> None:
    small = {"n_products": 500, "n_queries": 60, "n_sessions": 20, "images": False}
    kept = {}
    for share in (0.25, 0.5, 1.0):
        data = runtime.get(Shop(share=share, **small).dataset())
        kept[share] = set(data.catalogue.ids)
        for split in ("train", "dev", "test"):
            judged = opened(data).judgments(split).frame
            assert set(judged["product_id"]) <= kept[share]
            assert set(judged["query_id"]) == set(data.queries(split).ids)
        behaviour = data.behaviour
        assert behaviour is not None and set(behaviour["product_id"]) <= kept[share]
    assert kept[0.25] < kept[0.5] < kept[1.0] and len(kept[1.0]) == 500
    assert len(kept[0.5]) == pytest.approx(250, abs=45)  # four standard deviations


def test_a_share_is_a_share() -> None:
    for share in (0.0, 1.5):
        with pytest.raises(InputError, match=r"share must be above 0 and at most 1"):
            Shop(share=share)


def test_a_toy_keeps_few_judged_products_and_few_queries(runtime: Runtime) -> None:
    size = {"n_products": 500, "n_queries": 40, "n_sessions": 50, "images": False}
    whole = runtime.get(Shop(**size).dataset())
    toy = runtime.get(Shop(**size, most_products=30, most_queries=10).dataset())

    def judged(data: Dataset) -> pl.DataFrame:
        parts = [split for split in SPLITS if data.has(split)]
        return pl.concat([opened(data).judgments(split).frame for split in parts])

    by_hash = sorted(set(judged(whole)["product_id"]), key=hashed_fraction)
    assert set(toy.catalogue.ids) == set(by_hash[:30])
    near = judged(whole).filter(pl.col("product_id").is_in(by_hash[:30]))
    queries = sorted(set(near["query_id"]), key=hashed_fraction)[:10]
    expected = near.filter(pl.col("query_id").is_in(queries))
    assert set(judged(toy).rows()) == set(expected.rows()) and len(queries) == 10


def test_distractors_change_neither_queries_nor_judgments(runtime: Runtime) -> None:
    size = {"n_products": 500, "n_queries": 40, "n_sessions": 50, "images": False}
    sizes = {}
    for share in (0.0, 0.3, 1.0):
        data = runtime.get(Shop(**size, most_queries=8, distractors=share).dataset())
        sizes[share] = set(data.catalogue.ids)
        parts = [split for split in SPLITS if data.has(split)]
        judged = pl.concat([opened(data).judgments(split).frame for split in parts])
        assert set(judged["product_id"]) <= sizes[share]
        if share == 0.0:
            only, labels = set(judged["product_id"]), judged
            assert sizes[share] == only
        assert labels.equals(judged)
    assert sizes[0.0] < sizes[0.3] < sizes[1.0] and len(sizes[1.0]) == 500
    kept = (len(sizes[0.3]) - len(sizes[0.0])) / (500 - len(sizes[0.0]))
    assert kept == pytest.approx(0.3, abs=0.08)


def test_a_train_share_leaves_test_as_it_is(runtime: Runtime) -> None:
    size = {"n_products": 500, "n_queries": 60, "n_sessions": 50, "images": False}
    whole = opened(runtime.get(Shop(**size).dataset()))
    some = opened(runtime.get(Shop(**size, train_share=0.4).dataset()))
    assert some.queries("test").frame.equals(whole.queries("test").frame)
    assert some.judgments("dev").frame.equals(whole.judgments("dev").frame)
    expected = [q for q in whole.queries("train").ids if hashed_fraction(q) < 0.4]
    assert some.queries("train").ids.to_list() == expected
    assert some.catalogue.ids.equals(whole.catalogue.ids)
