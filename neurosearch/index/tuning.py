"""Which index is the cheapest that finds enough: families, efforts, measurements.

Accuracy is counted in exact nearest products found, effort in distances that are computed: both are
the same on every machine. Only what is accurate enough is timed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neurosearch.index.base import Index
from neurosearch.index.exact import Exact
from neurosearch.index.fastscan import FastScan
from neurosearch.index.flat import Flat
from neurosearch.index.hnsw import HNSW
from neurosearch.index.ivf import IVF, LEAST, Lists
from neurosearch.index.ivfpq import IVFPQ
from neurosearch.index.live import LiveIndex
from neurosearch.index.rabitq import RaBitQ
from neurosearch.index.refine import Refine
from neurosearch.index.scann import Scann
from neurosearch.index.sq import SQ

FAMILIES = ("flat", "sq", "ivf", "hnsw", "opq", "fastscan", "rabitq", "scann")
CANDIDATES = (50, 100, 200, 400)
EFFORTS = (16, 32, 64, 128, 256, 512, 1024)  # of HNSW
RESAMPLES = 1_000
PART = 4  # of so many queries, one finds where to look
BLOCKS = 7  # of a timing; systems take turns, in another order each time


def variants(family: str, count: int, width: int, seed: int) -> list[Index]:
    """Indexes of a family that are worth building.

    Args:
        family: one of FAMILIES.
        count: products.
        width: dimensions.
        seed: of k-means and rotations.

    Returns:
        Recipes; their efforts come from `efforts`.
    """
    root = 2 ** round(float(np.log2(4 * max(1.0, count**0.5))))
    cells = max(1, min(root, count // LEAST))
    lists: dict[str, Any] = {"cells": cells, "probes": 1, "seed": seed}
    parts = [n for n in (width // 8, width // 4) if n and width % n == 0]
    if family == "flat":
        return [Flat()]
    if family == "sq":
        return [SQ(bits=16), SQ(bits=8)]
    if family == "ivf":
        return [IVF(**lists), IVF(**lists, code="half")]
    if family == "hnsw":
        return [HNSW(neighbours=m, construction=200) for m in (16, 32)]
    if family == "scann":
        return [Scann(**lists)]
    coarse: list[Index]
    if family == "opq":
        coarse = [IVFPQ(**lists, parts=n, rotation="opq") for n in parts[:1]]
    elif family == "fastscan":
        coarse = [FastScan(**lists, parts=n) for n in parts]
    else:
        coarse = [RaBitQ(**lists)]
    return [Refine(coarse=one, code="half") for one in coarse]


def efforts(recipe: Index) -> list[list[Index]]:
    """The same built index, searched with more and more effort.

    Args:
        recipe: of `variants`.

    Returns:
        Ladders; along each one accuracy and work grow.
    """
    if isinstance(recipe, HNSW):
        return [[replace(recipe, search=n) for n in EFFORTS]]
    if isinstance(recipe, Scann):
        return [[replace(one, candidates=n) for one in _probed(recipe)] for n in CANDIDATES]
    if isinstance(recipe, Refine) and isinstance(recipe.coarse, Lists):
        return [
            [replace(recipe, coarse=coarse, candidates=n) for coarse in _probed(recipe.coarse)]
            for n in CANDIDATES
        ]
    if isinstance(recipe, Lists):
        return [_probed(recipe)]
    return [[recipe]]


def _probed(lists: Lists) -> list[Any]:
    powers = [2**n for n in range(int(np.log2(lists.cells)) + 1)]
    return [replace(lists, probes=n) for n in dict.fromkeys([*powers, lists.cells])]


@dataclass(frozen=True)
class Seen:
    """A point that was tried.

    Attributes:
        recipe: built and searched so.
        recall: mean over the queries.
        low: 5 % of bootstrap means lie below.
        compared: distances a query, on average.
    """

    recipe: Index
    recall: float
    low: float
    compared: float


def seen(recipe: Index, live: LiveIndex, exact: Exact, seed: int) -> Seen:
    """Try a point.

    Args:
        recipe: searched so.
        live: the index, built by any recipe with the same built fields.
        exact: queries and what they should find.
        seed: of the bootstrap.

    Returns:
        Recall and work.
    """
    searched = recipe.live(live.index, live.encoder, live.rows)
    rows, _ = searched.nearest(exact.queries, exact.k)
    shares = exact.recall(rows)
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(shares), size=(RESAMPLES, len(shares)))
    low = float(np.quantile(shares[draws].mean(axis=1), 0.05))
    some = exact.queries[:: max(1, len(exact.queries) // 200)]
    return Seen(recipe, float(shares.mean()), low, float(searched.compared(some).mean()))


def least_effort(
    ladder: Sequence[Index],
    live: LiveIndex,
    exact: Exact,
    target: float,
    seed: int,
    by_mean: bool = False,
) -> tuple[Seen | None, list[Seen]]:
    """The first step of a ladder that is accurate enough, by bisection.

    Args:
        ladder: ever more effort.
        live: the built index.
        exact: queries and what they should find.
        target: that the lower bound of recall must reach.
        seed: of the bootstrap.
        by_mean: let the mean reach the target, not its lower bound.

    Returns:
        The step, or None where none is, and all that were tried.
    """
    tried: list[Seen] = []

    def good(place: int) -> bool:
        tried.append(seen(ladder[place], live, exact, seed))
        return (tried[-1].recall if by_mean else tried[-1].low) >= target

    low, high = 0, len(ladder) - 1
    if not good(high):
        return None, tried
    best = tried[-1]
    while low < high:
        middle = (low + high) // 2
        if good(middle):
            high, best = middle, tried[-1]
        else:
            low = middle + 1
    return best, tried


@dataclass(frozen=True)
class Least:
    """Attributes:
    found: of each ladder of a recipe, the first step that is accurate enough.
    tried: all steps that were tried on all queries.
    """

    found: list[Seen]
    tried: list[Seen]


def least_of(recipe: Index, live: LiveIndex, exact: Exact, target: float, seed: int) -> Least:
    """The first steps of all ladders that are accurate enough.

    A quarter of the queries finds the step, and all of them confirm it, or the next ones.

    Args:
        recipe: of `variants`.
        live: the built index.
        exact: queries and what they should find.
        target: that the lower bound of recall must reach.
        seed: of the bootstrap.

    Returns:
        What was found, and what was tried.
    """
    part = exact.part(PART)
    least = Least([], [])
    for ladder in efforts(recipe):
        # The bound of fewer queries is lower: their mean says where to look.
        rough, _ = least_effort(ladder, live, part, target, seed, by_mean=True)
        place = len(ladder) - 1 if rough is None else ladder.index(rough.recipe)
        while place < len(ladder):
            least.tried.append(seen(ladder[place], live, exact, seed))
            if least.tried[-1].low >= target:
                least.found.append(least.tried[-1])
                break
            place += 1
    return least


def growth(recipe: Index, some: int, count: int) -> float:
    """How much longer a search takes in a larger catalogue, at the same recall, by rule of thumb.

    Args:
        recipe: of `variants`.
        some: vectors of the smaller catalogue.
        count: of the larger one.

    Returns:
        The ratio of logarithms for graphs, of roots for lists (of which there are as many as the
        root says), of sizes for scans.
    """
    if isinstance(recipe, HNSW):
        return float(np.log(count) / np.log(some))
    whole = count / some
    return float(whole**0.5 if isinstance(recipe, Lists | Refine) else whole)


def quick(recipe: Index) -> Index:
    """A recipe that is built faster and searched alike, to be screened in place of another.

    Args:
        recipe: of `variants`.

    Returns:
        With a random rotation in place of OPQ's and 4-bit codes; others as they are.
    """
    if isinstance(recipe, Refine) and isinstance(recipe.coarse, IVFPQ):
        coarse = replace(
            recipe.coarse, rotation="random", bits=4, parts=2 * (recipe.coarse.parts or 1)
        )
        return replace(recipe, coarse=coarse)
    return recipe


def timings(
    lives: Sequence[LiveIndex], queries: np.ndarray, k: int, seed: int
) -> list[dict[str, float]]:
    """Milliseconds of single queries, and queries a second in batches, on one thread.

    Args:
        lives: indexes, the first of which the others are compared with.
        queries: Q×D float32.
        k: products of a query.
        seed: of the turns.

    Returns:
        For each index p50, p95 and p99 of all blocks, batched queries a second, and the median over
        the blocks of the first index's time over its own.
    """
    import faiss

    faiss.omp_set_num_threads(1)
    rng = np.random.default_rng(seed)
    size = max(1, len(queries) // BLOCKS)
    times: list[list[np.ndarray]] = [[] for _ in lives]
    batches: list[list[float]] = [[] for _ in lives]
    for live in lives:
        live.nearest(queries[:50], k)
    for block in range(BLOCKS):
        part = queries[block * size : (block + 1) * size]
        if not len(part):
            continue
        for place in rng.permutation(len(lives)):
            taken = np.empty(len(part))
            for number in range(len(part)):
                start = time.perf_counter()
                lives[place].nearest(part[number : number + 1], k)
                taken[number] = time.perf_counter() - start
            start = time.perf_counter()
            lives[place].nearest(part, k)
            batches[place].append(len(part) / (time.perf_counter() - start))
            times[place].append(taken)
    found = []
    for place in range(len(lives)):
        whole = 1000 * np.concatenate(times[place])
        own, first = ([float(np.median(b)) for b in times[n]] for n in (place, 0))
        ratio = float(np.median([a / b for a, b in zip(first, own, strict=True)]))
        p50, p95, p99 = map(float, np.percentile(whole, [50, 95, 99]))
        batch = float(np.median(batches[place]))
        found.append({"p50 ms": p50, "p95 ms": p95, "p99 ms": p99, "batch q/s": batch})
        found[-1]["times flat"] = ratio
    return found
