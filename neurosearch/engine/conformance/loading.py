"""Checks of loading, names, aliases, and of what survives."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from neurosearch.engine.base import Asked, Batch, Shape
from neurosearch.engine.conformance.checks import check, expect, refused, same
from neurosearch.engine.conformance.world import (
    BATCH,
    FIELDS,
    PRODUCTS,
    TERMS,
    WIDTH,
    Bench,
    recall,
)
from neurosearch.engine.generation import load

SOME = np.arange(300)


@check
def all_products_are_there(bench: Bench) -> None:
    count = bench.shared.count()
    expect(count == PRODUCTS, f"{count} of {PRODUCTS}")


@check
def it_knows_what_it_holds(bench: Bench) -> None:
    asked = np.array([0, PRODUCTS - 1, PRODUCTS, 10 * PRODUCTS])
    found = bench.shared.has(asked)
    expect(found.tolist() == [True, True, False, False], str(found))


@check
def creating_again_loses_nothing(bench: Bench) -> None:
    made = bench.fresh(SOME)
    made.create()
    expect(made.count() == len(SOME), str(made.count()))


@check
def loading_again_changes_nothing(bench: Bench) -> None:
    made = bench.fresh(SOME, finished=True)
    before = made.search(bench.words())
    load(made, bench.world.batch(SOME))
    made.finish()
    expect(made.count() == len(SOME), str(made.count()))
    expect(same(before, made.search(bench.words())), "other results")


@check
def a_partial_load_is_completed(bench: Bench) -> None:
    made = bench.fresh(SOME[::2])
    load(made, bench.world.batch(SOME))
    made.finish()
    whole = bench.fresh(SOME, finished=True)
    expect(made.count() == len(SOME), str(made.count()))
    expect(same(made.search(bench.words()), whole.search(bench.words())), "other results")


@check
def one_product_is_a_batch(bench: Bench) -> None:
    made = bench.fresh(np.array([5]), finished=True)
    found, _ = made.search(bench.vectors())
    expect(bool((found[:, 0] == 5).all() and (found[:, 1:] == -1).all()), str(found[0]))


@check
def numbers_need_not_be_consecutive(bench: Bench) -> None:
    made = bench.empty()
    whole = bench.world.batch(SOME)
    numbers = SOME * 1000 + 17
    made.add(Batch(numbers, whole.words, whole.vectors, whole.fields))
    made.finish()
    found, _ = made.search(bench.vectors(5))
    expect(bool(np.isin(found, numbers).all()), str(found[0]))


@check
def products_in_any_order(bench: Bench) -> None:
    made = bench.fresh(np.random.default_rng(1).permutation(SOME), finished=True)
    share = recall(made.search(bench.words())[0], bench.world.hits[:, SOME], 10)
    expect(share >= 0.99, f"recall {share:.3f}")


@check
def a_generation_without_words(bench: Bench) -> None:
    made = bench.empty(Shape(None, WIDTH, {}))
    made.add(Batch(SOME, None, bench.world.vectors[SOME], [{}] * len(SOME)))
    made.finish()
    share = recall(made.search(bench.vectors())[0], bench.world.vector_scores[:, SOME], 10)
    expect(share >= 0.95, f"recall {share:.3f}")


@check
def a_generation_without_vectors(bench: Bench) -> None:
    made = bench.empty(Shape(TERMS, None, {}))
    made.add(Batch(SOME, bench.world.words[SOME], None, [{}] * len(SOME)))
    made.finish()
    share = recall(made.search(bench.words())[0], bench.world.hits[:, SOME], 10)
    expect(share >= 0.99, f"recall {share:.3f}")


@check
def what_is_not_there_has_no_products(bench: Bench) -> None:
    made = bench.session.collection(bench.name(), Shape(TERMS, WIDTH, FIELDS))
    expect(made.count() == 0, str(made.count()))


@check
def what_is_not_there_is_not_searched(bench: Bench) -> None:
    made = bench.session.collection(bench.name(), Shape(TERMS, WIDTH, FIELDS))
    refused(lambda: made.search(bench.words()), "not there")


@check
def an_empty_generation_finds_nothing(bench: Bench) -> None:
    made = bench.fresh(SOME[:1])
    made.remove(SOME[:1])
    found, _ = made.search(bench.words())
    expect(bool((found == -1).all()), str(found[0]))


@check
def it_says_how_large_it_is(bench: Bench) -> None:
    least = 4 * WIDTH * PRODUCTS
    size = bench.shared.size()
    expect(size >= least, f"{size} bytes for vectors of {least}")


@check
def generations_are_listed(bench: Bench) -> None:
    before = set(bench.names())
    bench.fresh(SOME[:5])
    expect(len(set(bench.names()) - before) == 1, "not listed")


@check
def a_dropped_generation_is_gone(bench: Bench) -> None:
    before = set(bench.names())
    made = bench.fresh(SOME[:5])
    (name,) = set(bench.names()) - before
    bench.session.drop(name)
    expect(name not in bench.session.names(), "still listed")
    expect(made.count() == 0, "still has products")
    expect(bench.shared.count() == PRODUCTS, "another one lost products")


@check
def dropping_twice_is_no_error(bench: Bench) -> None:
    bench.session.drop(bench.name())


@check
def an_alias_points_to_a_generation(bench: Bench) -> None:
    before = set(bench.names())
    bench.fresh(SOME[:5])
    (name,) = set(bench.names()) - before
    bench.session.switch("conformance", name)
    expect(bench.session.aliases().get("conformance") == name, str(bench.session.aliases()))


@check
def an_alias_is_switched(bench: Bench) -> None:
    names: list[str] = []
    for _ in range(2):
        before = set(bench.names())
        bench.fresh(SOME[:5])
        names += set(bench.names()) - before
        bench.session.switch("conformance", names[-1])
    expect(bench.session.aliases().get("conformance") == names[1], str(bench.session.aliases()))


@check
def an_alias_goes_with_its_generation(bench: Bench) -> None:
    before = set(bench.names())
    bench.fresh(SOME[:5])
    (name,) = set(bench.names()) - before
    bench.session.switch("conformance", name)
    bench.session.drop(name)
    expect("conformance" not in bench.session.aliases(), "it points to nothing")


@check
def an_alias_to_nothing_is_refused(bench: Bench) -> None:
    refused(lambda: bench.session.switch("conformance", bench.name()), "no generation")


@check
def a_bad_alias_is_refused(bench: Bench) -> None:
    name = bench.names()[0]
    for alias in ("", "A b", "x; DROP SCHEMA neurosearch", "neurosearch_x", "aliases", "x" * 60):
        refused(lambda alias=alias: bench.session.switch(alias, name), "alias")  # type: ignore[misc]


@check
def another_session_sees_the_same(bench: Bench) -> None:
    made = bench.fresh(SOME, finished=True)
    (name,) = [n for n in bench.names() if n.endswith(f"{bench.count:08x}")]
    with bench.engine.session(bench.runtime) as other:
        again = other.collection(name, Shape(TERMS, WIDTH, FIELDS))
        expect(again.count() == len(SOME), str(again.count()))
        expect(same(made.search(bench.words()), again.search(bench.words())), "other results")


@check
def two_writers_of_different_products(bench: Bench) -> None:
    made = bench.empty()
    parts = [bench.world.batch(np.arange(n, n + 50)) for n in range(0, 600, 50)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(made.add, parts))
    made.finish()
    expect(made.count() == 600, str(made.count()))
    scores = bench.world.hits[:, :600]
    share = recall(made.search(bench.words())[0], scores, 10)
    expect(share >= 0.99, f"recall {share:.3f}")


@check
def two_writers_of_the_same_products(bench: Bench) -> None:
    made = bench.empty()
    parts = [bench.world.batch(np.arange(n % 200, n % 200 + 50)) for n in range(0, 400, 50)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(made.add, parts))
    made.finish()
    expect(made.count() == 200, str(made.count()))
    whole = bench.fresh(np.arange(200), finished=True)
    expect(same(made.search(bench.words()), whole.search(bench.words())), "other results")


@check
def searches_while_products_are_added(bench: Bench) -> None:
    made = bench.fresh(SOME, finished=True)
    batches = [bench.world.batch(np.arange(n, n + 50)) for n in range(300, 900, 50)]
    with ThreadPoolExecutor(2) as pool:
        writing = pool.submit(lambda: [made.add(batch) for batch in batches])
        answers = [made.search(bench.both())[0] for _ in range(10)]
        writing.result()
    for found in answers:
        expect(bool((found < 900).all() and (found[:, 0] >= 0).all()), str(found[0]))


@check
def many_threads_get_the_same_answers(bench: Bench) -> None:
    expected = bench.shared.search(bench.both())
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: bench.shared.search(bench.both()), range(8)))
    expect(all(same(one, expected) for one in answers), "other results")


@check
def large_batches_are_taken(bench: Bench) -> None:
    made = bench.empty()
    made.add(bench.world.batch(np.arange(PRODUCTS)))
    expect(made.count() == PRODUCTS, f"{made.count()} after one batch; {BATCH} at a time went well")


@check
def a_search_before_indexing_finds_all(bench: Bench) -> None:
    made = bench.fresh(SOME)
    share = recall(made.search(bench.vectors())[0], bench.world.vector_scores[:, SOME], 10)
    expect(share >= 0.95, f"recall {share:.3f}")
    found, _ = made.search(Asked(len(SOME), vectors=bench.world.queries[:1]))
    expect(len(np.unique(found[found >= 0])) == len(SOME), "not all products")
