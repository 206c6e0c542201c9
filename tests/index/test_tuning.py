"""The tuner's parts: recall by brute force, the least effort by trying all, words that compose."""

from __future__ import annotations

import itertools
from dataclasses import replace

import faiss
import numpy as np
import pytest
from hydra import compose, initialize_config_module

from neurosearch.index import tuning
from neurosearch.index.base import Index
from neurosearch.index.exact import Exact
from neurosearch.index.fastscan import FastScan
from neurosearch.index.flat import Flat
from neurosearch.index.hnsw import HNSW
from neurosearch.index.ivf import IVF
from neurosearch.index.ivfpq import IVFPQ
from neurosearch.index.refine import Refine
from neurosearch.index.sq import SQ
from neurosearch.task.base import build
from neurosearch.task.tune import overrides_of

RNG = np.random.default_rng(0)
PRODUCTS = RNG.normal(size=(3_000, 24)).astype(np.float32)
PRODUCTS /= np.linalg.norm(PRODUCTS, axis=1, keepdims=True)
QUERIES = PRODUCTS[:90] + RNG.normal(scale=0.1, size=(90, 24)).astype(np.float32)


def test_recall_is_that_of_brute_force_and_ties_count() -> None:
    twice = np.concatenate([PRODUCTS, PRODUCTS[:50]])  # equal vectors: either one counts
    exact = Exact.of(QUERIES, twice, 10)
    rows = np.argsort(-(QUERIES @ PRODUCTS.T), axis=1)[:, :10]
    best = np.sort(QUERIES @ twice.T, axis=1)[:, ::-1][:, :10]
    shown = np.take_along_axis(QUERIES @ PRODUCTS.T, rows, axis=1)
    wanted = (shown >= best[:, -1:] - 1e-6).mean(axis=1)
    np.testing.assert_allclose(exact.recall(rows), wanted)
    missing = rows.copy()
    missing[:, 5:] = -1
    assert (exact.recall(missing) <= 0.5).all()


@pytest.mark.parametrize("target", [0.3, 0.6, 0.9, 0.99])
def test_the_least_effort_is_what_trying_all_finds(target: float) -> None:
    faiss.omp_set_num_threads(1)
    recipe = IVF(cells=32, probes=1)
    live = recipe.live(recipe.filled(PRODUCTS), "encoder")
    exact = Exact.of(QUERIES, PRODUCTS, 10)
    (ladder,) = tuning.efforts(recipe)
    best, tried = tuning.least_effort(ladder, live, exact, target, 0)
    all_seen = [tuning.seen(one, live, exact, 0) for one in ladder]
    wanted = next((one for one in all_seen if one.low >= target), None)
    assert best == wanted and len(tried) <= 1 + np.ceil(np.log2(len(ladder)))
    assert all(a.compared <= b.compared for a, b in itertools.pairwise(all_seen))


def test_a_target_that_is_out_of_reach_is_given_up() -> None:
    recipe = SQ(bits=4)
    live = recipe.live(recipe.filled(PRODUCTS), "encoder")
    exact = Exact.of(QUERIES, PRODUCTS, 10)
    best, tried = tuning.least_effort([recipe], live, exact, 0.999, 0)
    assert best is None and len(tried) == 1


@pytest.mark.parametrize(
    "recipe",
    [
        Flat(),
        SQ(bits=16),
        IVF(cells=64, probes=4, code="half"),
        HNSW(neighbours=16, search=128),
        Refine(coarse=FastScan(cells=64, probes=8, parts=48), code="half", candidates=200),
        Refine(coarse=IVFPQ(cells=64, probes=8, rotation="opq"), code="half"),
    ],
    ids=lambda recipe: recipe.label(),
)
def test_the_words_compose_the_index(recipe: Index) -> None:
    words = ["retriever=dense", *overrides_of(recipe).split()]
    with initialize_config_module("neurosearch.conf", version_base="1.3"):
        config = compose("config", overrides=words)
    assert build(config, "retriever").index == recipe


def test_variants_fit_the_catalogue() -> None:
    for family in tuning.FAMILIES:
        for recipe in tuning.variants(family, 2_000, 24, 0):
            assert recipe.filled(PRODUCTS[:2_000]).ntotal == 2_000
            for ladder in tuning.efforts(recipe):
                if not isinstance(recipe, Refine):  # whose coarse index has fields of its own
                    assert len({replace(one, **one.searching) for one in ladder}) == 1


def test_timings_are_in_turns_and_against_the_first() -> None:
    live = Flat().live(Flat().filled(PRODUCTS), "encoder")
    found = tuning.timings([live, replace(live)], QUERIES, 10, 0)
    assert found[0]["times flat"] == 1.0 and found[1]["times flat"] > 0
    assert all(one["p50 ms"] <= one["p99 ms"] for one in found)
