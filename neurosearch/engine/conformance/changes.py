"""Checks of products that are replaced and removed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neurosearch.core.filters import Range
from neurosearch.engine.base import Asked, Batch, Collection
from neurosearch.engine.conformance.checks import check, expect, same
from neurosearch.engine.conformance.world import TERMS, Bench, recall

SOME = np.arange(200)
GONE = np.array([3, 50, 199])


def _replaced(bench: Bench, number: int, by: int) -> Collection:
    """A collection in which a product has become what another one is, fields included."""
    made = bench.fresh(SOME, finished=True)
    other = bench.world.batch(np.array([by]))
    made.add(Batch(np.array([number]), other.words, other.vectors, other.fields))
    return made


@check
def a_replaced_product_has_its_new_words(bench: Bench) -> None:
    made = _replaced(bench, 100, 7)
    found, _ = made.search(Asked(5, words=[{TERMS - 1: 1.0}]))  # a term of product 7 alone
    expect(sorted(found[0].tolist()) == [-1, -1, -1, 7, 100], str(found[0]))


@check
def a_replaced_product_has_lost_its_old_words(bench: Bench) -> None:
    made = _replaced(bench, 7, 100)
    found, _ = made.search(Asked(5, words=[{TERMS - 1: 1.0}]))
    expect(bool((found == -1).all()), str(found[0]))


@check
def a_replaced_product_has_its_new_vector(bench: Bench) -> None:
    made = _replaced(bench, 100, 7)
    found, scores = made.search(Asked(200, vectors=bench.world.vectors[[7]]))
    pair = scores[0][np.isin(found[0], (7, 100))]
    expect(len(pair) == 2 and bool(np.isclose(pair[0], pair[1], rtol=1e-4)), str(pair))


@check
def a_replaced_product_has_its_new_fields(bench: Bench) -> None:
    made = _replaced(bench, 102, 7)  # red before, green now
    asked = bench.vectors(200, filters={"colour": ["red"]})
    expect(102 not in made.search(asked)[0], "found under its old value")
    asked = bench.vectors(200, filters={"colour": ["green"]})
    expect(102 in made.search(asked)[0], "not found under its new value")


@check
def a_field_that_a_product_lost_is_gone(bench: Bench) -> None:
    made = bench.fresh(SOME, finished=True)
    one = bench.world.batch(np.array([101]))
    made.add(replace(one, fields=[{"colour": "blue"}]))
    found, _ = made.search(bench.vectors(5, filters={"price": Range(101, 101)}))
    expect(bool((found == -1).all()), "found by its old price")


@check
def replacing_keeps_the_count(bench: Bench) -> None:
    expect(_replaced(bench, 100, 7).count() == len(SOME), "another count")


@check
def replacing_leaves_the_others(bench: Bench) -> None:
    made = _replaced(bench, 100, 7)
    scores = bench.world.hits[:, SOME].copy()
    scores[:, 100] = scores[:, 7]
    share = recall(made.search(bench.words())[0], scores, 10)
    expect(share >= 0.99, f"recall {share:.3f}")


def _without(bench: Bench) -> Collection:
    made = bench.fresh(SOME, finished=True)
    made.remove(GONE)
    return made


@check
def removed_products_are_not_counted(bench: Bench) -> None:
    made = _without(bench)
    expect(made.count() == len(SOME) - len(GONE), str(made.count()))
    expect(not made.has(GONE).any(), "still there")


@check
def removed_products_are_not_found_by_words(bench: Bench) -> None:
    found, _ = _without(bench).search(bench.words(200))
    expect(not np.isin(found, GONE).any(), "found")


@check
def removed_products_are_not_found_by_vectors(bench: Bench) -> None:
    found, _ = _without(bench).search(bench.vectors(200))
    expect(not np.isin(found, GONE).any(), "found")
    expect(bool((found[:, : len(SOME) - len(GONE)] >= 0).all()), "others are missing")


@check
def removed_products_are_not_found_by_both(bench: Bench) -> None:
    found, _ = _without(bench).search(bench.both(100, filters={"category": ["a", "d"]}))
    expect(not np.isin(found, GONE).any(), "found")


@check
def removing_leaves_the_order_of_the_others(bench: Bench) -> None:
    made = bench.fresh(SOME, finished=True)
    before, _ = made.search(bench.words(20))
    made.remove(GONE)
    after, _ = made.search(bench.words(20))
    for first, second in zip(before, after, strict=True):
        kept = [n for n in first.tolist() if n not in GONE]
        expect(second.tolist()[: len(kept)] == kept, f"{second} for {kept}")


@check
def removing_again_is_no_error(bench: Bench) -> None:
    made = _without(bench)
    made.remove(GONE)
    made.remove(np.array([10_000]))
    expect(made.count() == len(SOME) - len(GONE), str(made.count()))


@check
def a_removed_product_can_come_back(bench: Bench) -> None:
    made = bench.fresh(SOME, finished=True)
    before = made.search(bench.words(50))
    made.remove(GONE)
    made.add(bench.world.batch(GONE))
    expect(made.count() == len(SOME), str(made.count()))
    expect(same(before, made.search(bench.words(50))), "other results")


@check
def added_products_are_found_at_once(bench: Bench) -> None:
    made = bench.fresh(SOME, finished=True)
    made.add(bench.world.batch(np.arange(200, 260)))
    share = recall(made.search(bench.vectors())[0], bench.world.vector_scores[:, :260], 10)
    expect(share >= 0.95, f"recall by vectors {share:.3f}")
    share = recall(made.search(bench.words())[0], bench.world.hits[:, :260], 10)
    expect(share >= 0.99, f"recall by words {share:.3f}")


@check
def many_changes_one_after_another(bench: Bench) -> None:
    made = bench.fresh(SOME, finished=True)
    for step in range(10):
        made.remove(np.arange(10 * step, 10 * step + 5))
        made.add(bench.world.batch(np.arange(10 * step, 10 * step + 10)))
    expect(made.count() == len(SOME), str(made.count()))
    whole = bench.fresh(SOME, finished=True)
    expect(same(made.search(bench.words(50)), whole.search(bench.words(50))), "other results")


@check
def indexing_after_changes(bench: Bench) -> None:
    made = _without(bench)
    before = made.search(bench.words(50))
    made.finish()
    expect(same(before, made.search(bench.words(50))), "other results")
    left = np.setdiff1d(SOME, GONE)
    scores = np.full((len(bench.world.queries), len(SOME)), -np.inf)
    scores[:, left] = bench.world.vector_scores[:, left]
    share = recall(made.search(bench.vectors())[0], scores, 10)
    expect(share >= 0.95, f"recall {share:.3f}")
