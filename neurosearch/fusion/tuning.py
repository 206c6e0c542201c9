"""Mean nDCG@10 of weighted sums of scores, for many weightings of the same lists.

A grid over four members has hundreds of points. The lists are pooled and their gains looked up
once; a weighting then costs a sum and the ten best of each query. The values are those of
`evaluation.metrics` (ties in descending order of product ids).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from neurosearch.core.ragged import offsets_of
from neurosearch.core.types import places_of
from neurosearch.evaluation.metrics import graded_values
from neurosearch.fusion.base import DevSet

K = 10
BLOCK = 256  # queries of an array; those of similar pools lie together, so little is padded
TIE = 1e-13  # between neighbours of equal scores; normalised scores are of the order of 1


@dataclass(frozen=True)
class Block:
    """`scores` R×Q×M float64, `there` Q×M bool, `gains` Q×M, `ideal` Q, `queries` Q numbers."""

    scores: np.ndarray
    there: np.ndarray
    gains: np.ndarray
    ideal: np.ndarray
    queries: np.ndarray


@dataclass(frozen=True)
class Pooled:
    """What all members found. `queries`: how many there are, those without a list too."""

    blocks: tuple[Block, ...]
    queries: int

    @classmethod
    def of(cls, frames: Sequence[pl.DataFrame], dev: DevSet) -> Pooled:
        """Pool normalised lists.

        Args:
            frames: of each member `query_id`, `product_id`, `score`.
            dev: the queries and their judgments.

        Returns:
            The lists as arrays.
        """
        keys = ["query_id", "product_id"]
        pool = pl.concat([frame.select(keys) for frame in frames]).unique()
        for number, frame in enumerate(frames):
            scores = frame.select(*keys, pl.col("score").alias(str(number)))
            pool = pool.join(scores, on=keys, how="left")
        judged = graded_values(dev.judgments, dev.gain)
        pool = pool.join(judged.select(*keys, "gain"), on=keys, how="left")
        pool = pool.join(places_of(dev.queries.ids, "query_id", "query"), on="query_id")
        # Equal scores: the greater product id comes first, as in every run.
        pool = pool.sort("query", "product_id", descending=[False, True])
        best = judged.filter(pl.col("gain") > 0).sort("gain", descending=True)
        best = best.with_columns(place=pl.int_range(pl.len()).over("query_id"))
        ideal = (
            best.filter(pl.col("place") < K)
            .group_by("query_id")
            .agg(ideal=(pl.col("gain") / (pl.col("place") + 2).log(2)).sum())
        )
        known = pl.DataFrame({"query_id": dev.queries.ids}).join(
            ideal, on="query_id", how="left", maintain_order="left"
        )
        return cls(_blocks(pool, known["ideal"].fill_null(0.0).to_numpy(), len(frames)), len(known))

    def ndcg(self, weights: Sequence[float]) -> float:
        """Mean nDCG@10 over all queries.

        Args:
            weights: one a member.

        Returns:
            0 to 1.
        """
        shared = np.asarray(weights)[:, None]
        return sum(float(_ndcg(block, shared).sum()) for block in self.blocks) / self.queries

    def each(self, weights: np.ndarray) -> np.ndarray:
        """nDCG@10 of each query.

        Args:
            weights: R, of all queries, or Q×R, of each one.

        Returns:
            Q float64.
        """
        values = np.zeros(self.queries)
        for block in self.blocks:
            own = weights[block.queries].T if weights.ndim == 2 else weights[:, None]
            values[block.queries] = _ndcg(block, own)
        return values


def _blocks(pool: pl.DataFrame, ideal: np.ndarray, members: int) -> tuple[Block, ...]:
    columns = pool.select(str(n) for n in range(members)).fill_null(0.0).to_numpy().T
    gains = pool["gain"].fill_null(0.0).to_numpy()
    counts = np.bincount(pool["query"].to_numpy(), minlength=len(ideal))
    begin = offsets_of(counts)[:-1]
    order = np.argsort(-counts, kind="stable")
    order = order[(counts[order] > 0) & (ideal[order] > 0)]  # the others have 0
    blocks = []
    for start in range(0, len(order), BLOCK):
        some = order[start : start + BLOCK]
        places = np.arange(counts[some[0]])
        there = places < counts[some, None]
        at = np.where(there, begin[some, None] + places, begin[some, None])
        blocks.append(Block(columns[:, at], there, gains[at], ideal[some], some))
    return tuple(blocks)


def _ndcg(block: Block, weights: np.ndarray) -> np.ndarray:
    """nDCG@10 of a block's queries; `weights`: R×1, or R×Q."""
    if weights.shape[1] == 1:
        scores = np.einsum("r,rqm->qm", weights[:, 0], block.scores)
    else:
        scores = np.einsum("rq,rqm->qm", weights, block.scores)
    scores -= TIE * np.arange(scores.shape[1])
    scores[~block.there] = -np.inf
    count = min(K, scores.shape[1])
    if count < scores.shape[1]:
        best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    else:
        best = np.broadcast_to(np.arange(count), scores.shape)
    order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
    first = np.take_along_axis(best, order, axis=1)
    found = np.take_along_axis(np.where(block.there, block.gains, 0.0), first, axis=1)
    values: np.ndarray = (found / np.log2(2 + np.arange(count))).sum(axis=1) / block.ideal
    return values
