"""Checks of filters, from a half to a thousandth of the products, and of what fields may hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from neurosearch.core.filters import Filters, Range
from neurosearch.engine.base import Asked, Batch, Shape
from neurosearch.engine.conformance.checks import check, expect, refused
from neurosearch.engine.conformance.world import SHARES, Bench, recall

Test = Callable[[Mapping[str, Any]], bool]


def _narrowed(bench: Bench, filters: Filters, test: Test, by: str, least: float) -> None:
    """A filtered list holds only products that pass, and the best of these."""
    allowed = bench.world.passing(test)
    expect(bool(allowed.any()), "the check itself is wrong: nothing passes")
    asked = bench.words(filters=filters) if by == "words" else bench.vectors(filters=filters)
    found, _ = bench.shared.search(asked)
    given = found[found >= 0]
    expect(bool(allowed[given].all()), "products that do not pass")
    exact = bench.world.hits if by == "words" else bench.world.vector_scores
    share = recall(found, exact, 10, allowed)
    expect(share >= least, f"recall {share:.3f}")


def _planted(name: str, by: str) -> None:
    """A check of one share, registered under its name."""

    def narrowed(bench: Bench) -> None:
        least = 0.99 if by == "words" else 0.95
        _narrowed(bench, {name: ["yes"]}, lambda one: one.get(name) == "yes", by, least)

    narrowed.__name__ = f"{by}_among_{100 * SHARES[name]:g}_percent"
    check(narrowed)


for _name in SHARES:
    for _by in ("words", "vectors"):
        _planted(_name, _by)


@check
def both_with_a_filter(bench: Bench) -> None:
    allowed = bench.world.passing(lambda one: one.get("tenth") == "yes")
    found, _ = bench.shared.search(bench.both(20, filters={"tenth": ["yes"]}))
    expect(bool(allowed[found[found >= 0]].all()), "products that do not pass")
    expect(bool((found >= 0).all()), "short lists")


@check
def one_of_several_values(bench: Bench) -> None:
    wanted = {"colour": ["red", "blue", "no such colour"]}
    _narrowed(bench, wanted, lambda one: one["colour"] in ("red", "blue"), "vectors", 0.95)


@check
def two_fields_at_once(bench: Bench) -> None:
    wanted = {"colour": ["red"], "half": ["yes"]}

    def test(one: Mapping[str, Any]) -> bool:
        return one["colour"] == "red" and one.get("half") == "yes"

    _narrowed(bench, wanted, test, "vectors", 0.95)
    _narrowed(bench, wanted, test, "words", 0.99)


@check
def a_range_includes_both_ends(bench: Bench) -> None:
    found, _ = bench.shared.search(bench.vectors(9, filters={"price": Range(101, 107)}))
    expect(
        set(found[0].tolist()) == {101, 102, 103, 104, 106, 107, -1}, str(sorted(found[0].tolist()))
    )


@check
def a_range_may_be_open(bench: Bench) -> None:
    _narrowed(bench, {"price": Range(1900)}, lambda x: x.get("price", 0) >= 1900, "vectors", 0.95)
    _narrowed(
        bench, {"price": Range(None, 99)}, lambda x: x.get("price", 1e9) <= 99, "vectors", 0.95
    )


@check
def a_category_holds_what_lies_below(bench: Bench) -> None:
    wanted = {"category": ["a > b"]}
    _narrowed(bench, wanted, lambda one: "a > b" in one["category"], "vectors", 0.95)
    _narrowed(bench, wanted, lambda one: "a > b" in one["category"], "words", 0.99)


@check
def a_filter_that_nothing_passes(bench: Bench) -> None:
    for asked in (bench.words(), bench.vectors(), bench.both()):
        found, _ = bench.shared.search(
            Asked(10, asked.words, asked.vectors, {"colour": ["no such colour"]})
        )
        expect(bool((found == -1).all()), str(found[0]))


@check
def no_known_words_with_a_filter(bench: Bench) -> None:
    found, _ = bench.shared.search(Asked(10, words=[{}], filters={"colour": ["red"]}))
    expect(bool((found == -1).all()), str(found[0]))


@check
def a_product_without_the_field_does_not_pass(bench: Bench) -> None:
    found, _ = bench.shared.search(bench.vectors(50, filters={"price": Range(None, None)}))
    given = found[found >= 0]
    expect(bool((given % 5 != 0).all()) and len(given) > 0, "products without a price")


@check
def an_unknown_field_is_refused(bench: Bench) -> None:
    refused(lambda: bench.shared.search(bench.words(filters={"weight": ["1"]})), "weight", "price")


@check
def a_range_of_texts_is_refused(bench: Bench) -> None:
    refused(lambda: bench.shared.search(bench.words(filters={"colour": Range(1)})), "colour")


@check
def values_of_numbers_are_refused(bench: Bench) -> None:
    refused(lambda: bench.shared.search(bench.words(filters={"price": ["5"]})), "price")


def _holding(bench: Bench, values: list[str], name: str = "brand") -> None:
    """Each value finds its own product and no other."""
    count = len(values)
    made = bench.empty(Shape(None, 2, {name: "text"}))
    fields = [{name: value} for value in values]
    made.add(Batch(np.arange(count), None, np.ones((count, 2), np.float32), fields))
    made.finish()
    for place, value in enumerate(values):
        asked = Asked(5, vectors=np.ones((1, 2), np.float32), filters={name: [value]})
        found, _ = made.search(asked)
        expect(found[0].tolist() == [place, -1, -1, -1, -1], f"{value[:40]!r}: {found[0]}")


@check
def values_in_any_script(bench: Bench) -> None:
    _holding(bench, ["Ärmel", "日本語", "🛋️", "עברית", "e\u0301", "é", "ﬁ", "\u200b", " x ", "x"])


@check
def values_with_quotes_and_code(bench: Bench) -> None:
    values = ["O'Neill", '"', "\\", "a\tb", "'; DROP TABLE products; --", "%s", "{}", "${x}", "*"]
    _holding(bench, values)


@check
def values_that_differ_in_case(bench: Bench) -> None:
    _holding(bench, ["Bosch", "bosch", "BOSCH"])


@check
def long_values(bench: Bench) -> None:
    _holding(bench, ["x" * 5_000, "x" * 4_999, "x" * 5_000 + "y"])


@check
def fields_with_any_name(bench: Bench) -> None:
    for name in ("price.max", "select", "größe (cm)", 'a"b', "number", "vector", "x" * 200):
        _holding(bench, ["a", "b"], name)


@check
def products_without_any_field(bench: Bench) -> None:
    made = bench.empty()
    whole = bench.world.batch(np.arange(20))
    made.add(Batch(whole.numbers, whole.words, whole.vectors, [{}] * 20))
    made.finish()
    found, _ = made.search(bench.vectors(20))
    expect(bool((found >= 0).all()), "not found")
    none, _ = made.search(bench.vectors(20, filters={"colour": ["red"]}))
    expect(bool((none == -1).all()), "passes a filter")


@check
def products_without_any_word(bench: Bench) -> None:
    made = bench.empty()
    whole = bench.world.batch(np.arange(20))
    words = whole.words.copy().tolil()
    words[5] = 0
    made.add(Batch(whole.numbers, words.tocsr(), whole.vectors, whole.fields))
    made.finish()
    found, _ = made.search(Asked(20, words=[dict.fromkeys(range(300), 1.0)]))
    expect(5 not in found[0].tolist() and (found[0] >= 0).sum() == 19, str(found[0]))
    near, _ = made.search(bench.vectors(20))
    expect(5 in near[0].tolist(), "nor by its vector")
