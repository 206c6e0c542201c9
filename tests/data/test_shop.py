"""The simulated shop: deterministic, streamed, labelled by its own rules."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from PIL import Image

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.data.shop import Shop
from neurosearch.data.simulation import products, queries
from neurosearch.data.simulation.products import draw_codes
from neurosearch.data.simulation.queries import LABELS, Intent, label
from neurosearch.data.simulation.world import build_world

SMALL = Shop(n_products=600, n_queries=80, n_sessions=100, images=True)


def tables(runtime: Runtime, shop: Shop) -> dict[str, pl.DataFrame]:
    folder = runtime.store.ensure(shop.dataset())
    return {path.stem: pl.read_parquet(path) for path in folder.glob("*.parquet")}


def test_it_is_deterministic_and_its_seed_matters(runtime: Runtime, tmp_path) -> None:
    other = Runtime(outputs=tmp_path / "other", progress=False)
    one, two = tables(runtime, SMALL), tables(other, SMALL)
    assert sorted(one) == ["behaviour", "judgments", "products", "queries"]
    assert all(one[name].equals(two[name]) for name in one)
    reseeded = tables(runtime, replace(SMALL, seed=14))
    assert not reseeded["products"].equals(one["products"])


def test_products_don_t_depend_on_how_many_there_are(runtime: Runtime) -> None:
    small, large = tables(runtime, SMALL), tables(runtime, replace(SMALL, n_products=700))
    assert large["products"].head(600).equals(small["products"])


def test_chunks_are_independent() -> None:
    world = build_world(13)
    whole = draw_codes(world, 13, 1, 1000)
    part = draw_codes(world, 13, 1, 10)
    assert np.array_equal(whole.model[:10], part.model)
    assert not np.array_equal(draw_codes(world, 13, 0, 10).model, part.model)


def test_every_query_has_an_answer_and_splits_are_by_query(runtime: Runtime) -> None:
    found = tables(runtime, SMALL)
    exact = found["judgments"].filter(pl.col("label") == "E")["query_id"].unique()
    assert set(exact) == set(found["queries"]["query_id"])
    assert found["queries"]["text"].is_unique().all()
    assert set(found["queries"]["split"]) == {"train", "dev", "test"}


def test_labels_follow_the_rules() -> None:
    world = build_world(13)
    codes = draw_codes(world, 13, 0, 20_000)
    names = [t.concept.words[0] for t in world.types]
    sofa, cover, shears = (names.index(n) for n in ("sofa", "sofa cover", "pruning shears"))
    intent = Intent("attribute", sofa, {"colour": 5, "size": 2}, -1, 0)
    got = LABELS[label(world, codes, np.arange(len(codes)), intent)]
    colour, size = codes.colour == 5, codes.size == 2
    is_sofa = codes.type == sofa
    assert set(got[is_sofa & colour & size]) == {"E"}
    assert set(got[is_sofa & (colour ^ size)]) == {"S"}
    assert set(got[is_sofa & ~colour & ~size]) == {"I"}
    assert set(got[codes.type == cover]) == {"C"}
    assert set(got[codes.type == shears]) == {"I"}


def test_negation_and_compatibility_labels() -> None:
    world = build_world(13)
    codes = draw_codes(world, 13, 0, 20_000)
    rows = np.arange(len(codes))
    names = [t.concept.words[0] for t in world.types]
    phone, case = names.index("smartphone"), names.index("phone case")
    without = LABELS[label(world, codes, rows, Intent("negation", phone, {}, 3, 0))]
    assert set(without[(codes.type == phone) & (codes.colour == 3)]) == {"S"}
    assert set(without[(codes.type == phone) & (codes.colour != 3)]) == {"E"}
    fits = LABELS[label(world, codes, rows, Intent("compatible", case, {"device": 2}, -1, 0))]
    assert set(fits[(codes.type == case) & (codes.device == 2)]) == {"E"}
    assert set(fits[(codes.type == case) & (codes.device != 2)]) == {"S"}
    assert set(fits[(codes.type == phone) & (codes.device == 2)]) == {"C"}
    assert set(fits[(codes.type == phone) & (codes.device != 2)]) == {"I"}


def test_judgments_have_holes(runtime: Runtime) -> None:
    """Pooling leaves products unjudged that the rule would call E."""
    shop = Shop(n_products=5000, n_queries=60, n_sessions=0, images=False)
    judged = tables(runtime, shop)["judgments"]
    world = build_world(shop.seed)
    codes = draw_codes(world, shop.seed, 0, 5000)
    _, intents = queries.draw_queries(world, codes, shop.seed, shop.n_queries)
    exact = sum(int((label(world, codes, np.arange(5000), i) == 3).sum()) for i in intents)
    pooled = judged.filter(pl.col("label") == "E").height
    assert 0.2 * exact < pooled < 0.95 * exact


def test_titles_leave_attributes_to_the_bullets(runtime: Runtime) -> None:
    frame = tables(runtime, SMALL)["products"].filter(pl.col("colour").is_not_null())
    said = frame.select(pl.col("title").str.contains(pl.col("colour")))["title"]
    assert 0.2 < said.mean() < 0.8
    assert frame.select(pl.col("bullets").str.contains(pl.col("colour")))["bullets"].all()


def test_pictures_show_the_colour(runtime: Runtime) -> None:
    frame = tables(runtime, SMALL)["products"].head(200)
    world = build_world(SMALL.seed)
    names = [c.words[0] for c in world.colours]
    for colour, image in frame.select("colour", "image").drop_nulls().iter_rows():
        picture = np.asarray(Image.open(io.BytesIO(image)))
        assert picture.shape == (48, 48, 3)
        paint = world.rgb[names.index(colour)].astype(int)
        nearest = np.abs(picture.reshape(-1, 3).astype(int) - paint).sum(axis=1).min()
        assert nearest <= 3


def test_sessions_are_of_train_queries_and_biased_by_position(runtime: Runtime) -> None:
    found = tables(runtime, replace(SMALL, n_sessions=2000))
    events = found["behaviour"]
    asked = set(events["query_id"].drop_nulls())
    train = set(found["queries"].filter(pl.col("split") == "train")["query_id"])
    assert asked <= train
    clicks = events.filter(pl.col("event") == "click").group_by("position").len()
    by_position = dict(clicks.iter_rows())
    assert by_position[1] > 2 * by_position[8]
    bought = events.filter((pl.col("event") == "purchase") & pl.col("query_id").is_null())
    assert bought.height > 0


def test_popularity_is_heavy_tailed() -> None:
    codes = draw_codes(build_world(13), 13, 0, products.CHUNK)
    ordered = np.sort(codes.popularity)[::-1]
    assert ordered[: len(ordered) // 100].sum() > 0.1 * ordered.sum()


@pytest.mark.parametrize("size", [10, 10_000_001])
def test_sizes_out_of_range_are_refused(runtime: Runtime, size: int) -> None:
    with pytest.raises(InputError, match=r"n_products must be 500 to 10000000"):
        runtime.get(Shop(n_products=size).dataset())


def test_slips_and_synonyms_are_planted_in_queries_alone(runtime: Runtime) -> None:
    plain = tables(runtime, replace(SMALL, images=False, n_queries=300))
    slips = tables(runtime, replace(SMALL, images=False, n_queries=300, typos=0.5))
    gaps = tables(runtime, replace(SMALL, images=False, n_queries=300, synonyms=1.0))
    for other in (slips, gaps):
        for name in ("products", "judgments", "behaviour"):
            assert other[name].equals(plain[name])
        assert other["queries"]["text"].n_unique() == other["queries"].height
    before, after = plain["queries"], slips["queries"]
    free = before.filter(~pl.col("typo"), pl.col("kind") != "model")["query_id"]
    now = after.filter(pl.col("query_id").is_in(free.implode()))["typo"]
    assert now.mean() == pytest.approx(0.5, abs=0.08)
    changed = before["text"] != after["text"]
    assert not changed.filter(~after["typo"] | before["typo"]).any()
    # Every word that has a synonym, and stands in no slip or model number, became one.
    world = build_world(SMALL.seed)
    concepts = [each.concept for each in world.types]
    concepts += [*world.colours, *world.materials, *world.sizes, *world.patterns]
    known = {word.lower() for c in concepts if c.gap for word in c.words}
    theirs = {word.lower() for c in concepts for word in c.gap}
    reached = gaps["queries"].filter(~pl.col("typo"), pl.col("kind") != "model")
    old = before.join(reached, on="query_id", how="semi", maintain_order="left")["text"]
    new = reached.filter(pl.col("text") != old)
    same = reached.filter(pl.col("text") == old)["text"]
    kept = [text for text in same if any(f" {word} " in f" {text} " for word in known)]
    assert new.height > 50 and len(kept) < 0.2 * reached.height  # it would be another query
    assert all(any(f" {word} " in f" {text} " for word in theirs) for text in new["text"])
