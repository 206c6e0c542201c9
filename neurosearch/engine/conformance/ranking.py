"""Checks of lists by words, by vectors and by both, against exact answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neurosearch.engine.base import Asked, Batch, Shape
from neurosearch.engine.conformance.checks import check, expect, same
from neurosearch.engine.conformance.world import PRODUCTS, TERMS, WIDTH, Bench, recall
from neurosearch.engine.lists import fused

ROUNDED = 4e-3  # of weights that are kept in nine significant bits, relative


def _words_recall(bench: Bench, k: int) -> None:
    found, _ = bench.shared.search(bench.words(k))
    share = recall(found, bench.world.hits, k, rounding=ROUNDED)
    expect(share >= 0.99, f"recall@{k} {share:.4f}")


@check
def words_find_the_ten_best(bench: Bench) -> None:
    _words_recall(bench, 10)


@check
def words_find_the_hundred_best(bench: Bench) -> None:
    _words_recall(bench, 100)


@check
def words_find_the_thousand_best(bench: Bench) -> None:
    _words_recall(bench, 1000)


@check
def scores_of_words_are_sums_of_weights(bench: Bench) -> None:
    found, scores = bench.shared.search(bench.words(50))
    exact = np.take_along_axis(bench.world.word_scores, np.maximum(found, 0), axis=1)
    worst = np.abs(np.where(found >= 0, scores - exact, 0) / np.maximum(exact, 1e-9)).max()
    expect(worst <= ROUNDED, f"relative error {worst:.5f}")


@check
def lists_of_words_descend(bench: Bench) -> None:
    _, scores = bench.shared.search(bench.words(100))
    expect(bool((np.diff(scores[np.isfinite(scores).all(1)], axis=1) <= 0).all()), "not sorted")


@check
def a_products_stands_once_in_a_list(bench: Bench) -> None:
    for asked in (bench.words(200), bench.vectors(200), bench.both(200)):
        for numbers in bench.shared.search(asked)[0]:
            given = numbers[numbers >= 0]
            expect(len(np.unique(given)) == len(given), "twice")


@check
def weights_of_query_terms_count(bench: Bench) -> None:
    _, once = bench.shared.search(bench.words())
    doubled = [{term: 2 * w for term, w in one.items()} for one in bench.world.asked]
    _, twice = bench.shared.search(replace(bench.words(), words=doubled))
    expect(bool(np.allclose(twice, 2 * once, rtol=1e-4)), "not twice the scores")


@check
def a_query_without_known_words_finds_nothing(bench: Bench) -> None:
    found, _ = bench.shared.search(Asked(10, words=[{}]))
    expect(bool((found == -1).all()), str(found))


@check
def only_products_with_a_term_are_found(bench: Bench) -> None:
    found, scores = bench.shared.search(Asked(10, words=[{TERMS - 1: 1.0}]))
    expect(found[0].tolist() == [7] + [-1] * 9, str(found))
    expect(bool(np.isclose(scores[0, 0], 2.5, rtol=ROUNDED)), str(scores[0]))


@check
def a_term_of_most_products(bench: Bench) -> None:
    held = (bench.world.words[:, 0] > 0).toarray().ravel()
    found, _ = bench.shared.search(Asked(PRODUCTS, words=[{0: 1.0}]))
    given = found[found >= 0]
    expect(set(given.tolist()) == set(np.flatnonzero(held).tolist()), f"{len(given)} products")


@check
def a_long_query(bench: Bench) -> None:
    words = dict.fromkeys(range(200), 1.0)
    exact = np.asarray(bench.world.words[:, :200].sum(axis=1)).reshape(1, -1)
    share = recall(bench.shared.search(Asked(50, words=[words]))[0], exact, 50)
    expect(share >= 0.99, f"recall {share:.4f}")


@check
def a_list_may_be_longer_than_the_catalogue(bench: Bench) -> None:
    made = bench.fresh(np.arange(20), finished=True)
    found, scores = made.search(bench.vectors(50))
    expect(found.shape == (len(bench.world.queries), 50), str(found.shape))
    expect(bool((found[:, :20] >= 0).all() and (found[:, 20:] == -1).all()), str(found[0]))
    expect(bool(np.isneginf(scores[:, 20:]).all()), "padding has scores")


@check
def ties_are_broken_by_number(bench: Bench) -> None:
    made = bench.empty(Shape(TERMS, None, {}))
    numbers = np.random.default_rng(3).permutation(50)
    made.add(Batch(numbers, bench.world.words[[0] * 50], None, [{}] * 50))
    made.finish()
    term = int(bench.world.words[0].indices[0])
    found, scores = made.search(Asked(50, words=[{term: 1.0}]))
    expect(found[0].tolist() == list(range(50)), str(found[0]))
    expect(len(np.unique(scores)) == 1, "scores differ")


@check
def one_query_is_answered_as_in_a_batch(bench: Bench) -> None:
    for whole in (bench.words(), bench.vectors(), bench.both()):
        numbers, scores = bench.shared.search(whole)
        for place in (0, 7):
            words = None if whole.words is None else whole.words[place : place + 1]
            vectors = None if whole.vectors is None else whole.vectors[place : place + 1]
            one = bench.shared.search(replace(whole, words=words, vectors=vectors))
            expect(same(one, (numbers[[place]], scores[[place]])), "another list")


@check
def the_same_question_has_the_same_answer(bench: Bench) -> None:
    for asked in (bench.words(100), bench.vectors(100), bench.both(100)):
        expect(same(bench.shared.search(asked), bench.shared.search(asked)), "another list")


def _vectors_recall(bench: Bench, k: int) -> None:
    share = recall(bench.shared.search(bench.vectors(k))[0], bench.world.vector_scores, k)
    expect(share >= 0.95, f"recall@{k} {share:.4f}")


@check
def vectors_find_the_ten_nearest(bench: Bench) -> None:
    _vectors_recall(bench, 10)


@check
def vectors_find_the_hundred_nearest(bench: Bench) -> None:
    _vectors_recall(bench, 100)


@check
def vectors_find_the_fifteen_hundred_nearest(bench: Bench) -> None:
    _vectors_recall(bench, 1500)


@check
def scores_of_vectors_are_inner_products(bench: Bench) -> None:
    found, scores = bench.shared.search(bench.vectors(50))
    exact = np.take_along_axis(bench.world.vector_scores, found, axis=1)
    expect(
        bool(np.allclose(scores, exact, rtol=1e-3, atol=1e-2)), str(np.abs(scores - exact).max())
    )


@check
def lists_of_vectors_descend(bench: Bench) -> None:
    _, scores = bench.shared.search(bench.vectors(100))
    expect(bool((np.diff(scores, axis=1) <= 0).all()), "not sorted")


@check
def negative_inner_products_are_ranked(bench: Bench) -> None:
    away = -1.5 * bench.world.vectors.mean(axis=0, keepdims=True)
    made = bench.fresh(np.arange(50), finished=True)
    found, scores = made.search(Asked(50, vectors=away))
    exact = (away @ bench.world.vectors[:50].T)[0]
    expect(bool((exact < 0).any()), "the check itself is wrong")
    given = exact[found[0]]
    expect(bool(np.allclose(scores[0], given, rtol=1e-3, atol=1e-2)), "scores")
    expect(bool((np.diff(given) <= 1e-2).all()), "not sorted")


@check
def length_of_a_vector_counts(bench: Bench) -> None:
    vectors = bench.world.vectors[[1] * 4] * np.array([[1.0], [3.0], [0.5], [2.0]], np.float32)
    made = bench.empty(Shape(None, WIDTH, {}))
    made.add(Batch(np.arange(4), None, vectors, [{}] * 4))
    made.finish()
    found, _ = made.search(Asked(4, vectors=bench.world.vectors[[1]]))
    expect(found[0].tolist() == [1, 3, 0, 2], str(found[0]))


@check
def a_product_without_a_vector_is_not_found_by_one(bench: Bench) -> None:
    vectors = bench.world.vectors[:30].copy()
    vectors[4] = 0
    whole = bench.world.batch(np.arange(30))
    made = bench.empty()
    made.add(replace(whole, vectors=vectors))
    made.finish()
    found, _ = made.search(bench.vectors(30))
    expect(bool((found != 4).all() and (found[:, 28] >= 0).all()), str(found[0]))
    term = int(bench.world.words[4].indices[0])
    by_words, _ = made.search(Asked(30, words=[{term: 1.0}]))
    expect(4 in by_words[0].tolist(), "nor by words")


@check
def both_lists_are_fused_by_ranks(bench: Bench) -> None:
    depth = 50
    words = bench.shared.search(bench.words(depth))
    vectors = bench.shared.search(bench.vectors(depth))
    found, scores = bench.shared.search(bench.both(20, candidates=depth))
    for place in range(len(found)):
        lists = [(n[place][n[place] >= 0], s[place]) for n, s in (words, vectors)]
        _, exact = fused(lists[0], lists[1], 60, 20)
        expect(bool(np.allclose(scores[place], exact, rtol=1e-4)), f"query {place}: scores")


@check
def the_best_of_both_lists_is_first(bench: Bench) -> None:
    words, _ = bench.shared.search(bench.words(10))
    place = 3
    vectors = bench.world.vectors[words[:, 0]] * 3  # whose nearest product is the first by words
    near, _ = bench.shared.search(Asked(1, vectors=vectors[[place]]))
    found, scores = bench.shared.search(
        Asked(5, words=bench.world.asked[place : place + 1], vectors=vectors[[place]])
    )
    if near[0, 0] == words[place, 0]:
        expect(found[0, 0] == words[place, 0], str(found[0]))
        expect(bool(np.isclose(scores[0, 0], 2 / 61, rtol=1e-4)), str(scores[0, 0]))


@check
def the_constant_of_the_fusion_counts(bench: Bench) -> None:
    _, usual = bench.shared.search(bench.both(1))
    _, small = bench.shared.search(bench.both(1, rank_constant=5))
    expect(bool((small > 2 * usual).all()), f"{small[0]} for {usual[0]}")


@check
def a_product_of_one_list_is_found_by_both(bench: Bench) -> None:
    far = -bench.world.vectors[[7]]
    asked = Asked(50, words=[{TERMS - 1: 1.0}], vectors=far, candidates=30)
    found, _ = bench.shared.search(asked)
    expect(7 in found[0].tolist(), "the only product with the term")


@check
def without_known_words_both_is_vectors(bench: Bench) -> None:
    queries = bench.world.queries[:1]
    near, _ = bench.shared.search(Asked(10, vectors=queries))
    found, _ = bench.shared.search(Asked(10, words=[{}], vectors=queries, candidates=10))
    expect(found.tolist() == near.tolist(), f"{found[0]} for {near[0]}")
