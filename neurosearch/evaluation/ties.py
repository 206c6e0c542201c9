"""Metrics over all orders of equal scores (McSherry and Najork, ECIR 2008).

Where products have equal scores, their order is a convention (`types.Run`: trec_eval's), and
another convention gives other numbers. `expected_per_query` gives the mean of each metric over all
orders of the ties, in closed form; `tie_range` what the worst and the best order would give.

In a group of n products with equal scores, of which r are relevant, at ranks c + 1 to c + n, with s
relevant ones above it:

* nDCG, precision, recall: each rank has the group's mean gain (or r / n relevant products);
* MAP: rank c + t adds r / n · (s + 1 + (t - 1)(r - 1) / (n - 1)) / (c + t);
* MRR, Hits: in the first group with r > 0 the first relevant product is at rank c + t with
  probability C(n - t, r - 1) / C(n, r).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from neurosearch.core.run import Run
from neurosearch.core.types import Judgments, Queries, places_of
from neurosearch.evaluation.gain import Gain
from neurosearch.evaluation.metrics import METRICS, by_query, condensed, graded_values

TIES = ("trec_eval", "expected")
WORST, BEST = "nDCG@10 (worst ties)", "nDCG@10 (best ties)"


def expected_per_query(
    run: Run,
    queries: Queries,
    judgments: Judgments,
    gain: Gain,
    metrics: Sequence[str] = tuple(METRICS),
) -> pl.DataFrame:
    """As `metrics.per_query`: `query_id` and a Float64 column a metric, in the split's order."""
    judged = graded_values(judgments, gain)
    lists = {
        "run": _Lists.of(run.frame, judged, queries),
        "condensed": _Lists.of(condensed(run.frame, judgments.frame), judged, queries),
    }

    def expected(documents: str, judged_as: str, metric: str) -> np.ndarray:
        kind, _, cut = metric.partition("@")
        return _RULES[kind](lists[documents], judged_as, int(cut) if cut else None)

    return by_query(queries, judged, metrics, (expected(*METRICS[name]) for name in metrics))


def tie_range(run: Run, queries: Queries, judgments: Judgments, gain: Gain) -> pl.DataFrame:
    """How far the order of tied products could move a query's nDCG@10.

    Returns:
        nDCG@10 of each query with its ties in the worst and in the best order: two Float64 columns,
        in the split's order of queries.
    """
    lists = _Lists.of(run.frame, graded_values(judgments, gain), queries)
    gains = lists.values["gain"]
    ranges = {}
    for name, sign in ((WORST, 1.0), (BEST, -1.0)):
        order = np.lexsort((sign * gains, lists.group))
        alone = np.arange(len(order))  # no ties are left
        ordered = replace(lists, group=alone, values={"gain": gains[order]})
        ranges[name] = _ndcg(ordered, "gain", 10)
    return pl.DataFrame(ranges)


@dataclass(frozen=True)
class _Lists:
    """Ranked lists of all queries, one after another.

    Attributes:
        query: number of each entry's query, ascending; rank: from 1, ascending within a query.
        group: number of each entry's tie, ascending over all lists.
        values: of the entries, by what is judged (`gain`, `exponential`, `relevant`, `judged`).
        judged: the same values of all that is judged, with `query`, for ideals and totals.
        count: of queries.
    """

    query: np.ndarray
    rank: np.ndarray
    group: np.ndarray
    values: dict[str, np.ndarray]
    judged: pl.DataFrame
    count: int

    @classmethod
    def of(cls, frame: pl.DataFrame, judged: pl.DataFrame, queries: Queries) -> _Lists:
        numbers = places_of(queries.ids, "query_id", "query")
        known = judged.join(numbers, on="query_id", how="inner")
        names = ["gain", "exponential", "relevant", "judged"]
        rows = (
            frame.join(numbers, on="query_id", how="inner")
            .join(judged, on=["query_id", "product_id"], how="left")
            .with_columns(pl.col(names).fill_null(0.0))
            .sort("query", "rank")
        )
        query, score = rows["query"].to_numpy().astype(np.int64), rows["score"].to_numpy()
        begins = np.ones(len(query), dtype=bool)
        begins[1:] = (query[1:] != query[:-1]) | (score[1:] != score[:-1])
        values = {name: rows[name].to_numpy() for name in names}
        rank = rows["rank"].to_numpy().astype(np.int64)
        return cls(query, rank, begins.cumsum() - 1, values, known, len(queries))

    def summed(self, entries: np.ndarray) -> np.ndarray:
        """Sum of a number an entry, for each query."""
        sums: np.ndarray = np.bincount(self.query, weights=entries, minlength=self.count)
        return sums

    def means(self, judged_as: str) -> np.ndarray:
        """Each entry's value, as the mean of its tie."""
        sums = np.bincount(self.group, weights=self.values[judged_as])
        sizes = np.bincount(self.group)
        means: np.ndarray = (sums / np.maximum(sizes, 1))[self.group]
        return means

    def ties(self, judged_as: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Of each entry's tie: size, relevant entries, those above it; the entry's place in it."""
        relevant = (self.values[judged_as] > 0).astype(float)
        size = np.bincount(self.group)[self.group].astype(float)
        inside = np.bincount(self.group, weights=relevant)[self.group]
        first = np.searchsorted(self.group, self.group)  # the tie's first entry
        begins = np.searchsorted(self.query, self.query)  # the query's first entry
        before = np.concatenate([[0.0], np.cumsum(relevant)])
        place = np.arange(len(first)) - first + 1.0
        return size, inside, before[first] - before[begins], place

    def total(self, judged_as: str) -> np.ndarray:
        """Sum of what is judged, for each query."""
        query = self.judged["query"].to_numpy().astype(np.int64)
        weights = self.judged[judged_as].to_numpy()
        sums: np.ndarray = np.bincount(query, weights=weights, minlength=self.count)
        return sums


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """0 where nothing is below."""
    ratio: np.ndarray = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return ratio


def _ndcg(lists: _Lists, judged_as: str, cut: int | None) -> np.ndarray:
    reached = lists.rank <= (cut or np.inf)
    gains = lists.means(judged_as) * reached / np.log2(lists.rank + 1)
    ideal = lists.judged.sort("query", judged_as, descending=[False, True])
    query = ideal["query"].to_numpy().astype(np.int64)
    place = np.arange(len(query)) - np.searchsorted(query, query) + 1
    worth = ideal[judged_as].to_numpy() * (place <= (cut or np.inf)) / np.log2(place + 1)
    best = np.bincount(query, weights=worth, minlength=lists.count)
    return _ratio(lists.summed(gains), best)


def _recall(lists: _Lists, judged_as: str, cut: int | None) -> np.ndarray:
    reached = lists.rank <= (cut or np.inf)
    return _ratio(lists.summed(lists.means(judged_as) * reached), lists.total(judged_as))


def _precision(lists: _Lists, judged_as: str, cut: int | None) -> np.ndarray:
    assert cut is not None
    precision: np.ndarray = lists.summed(lists.means(judged_as) * (lists.rank <= cut)) / cut
    return precision


def _map(lists: _Lists, judged_as: str, cut: int | None) -> np.ndarray:
    size, inside, above, place = lists.ties(judged_as)
    others = np.where(size > 1, (place - 1) * (inside - 1) / np.maximum(size - 1, 1), 0.0)
    terms = inside / size * (above + 1 + others) / lists.rank
    return _ratio(lists.summed(terms), lists.total("relevant"))


def _first_relevant(lists: _Lists, judged_as: str) -> np.ndarray:
    """For each entry the probability that its rank has the query's first relevant product."""
    from scipy.special import gammaln

    size, inside, above, place = lists.ties(judged_as)
    possible = (inside > 0) & (above == 0) & (size - place >= inside - 1)
    n, r, t = size[possible], inside[possible], place[possible]

    def log_choose(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        value: np.ndarray = gammaln(a + 1) - gammaln(b + 1) - gammaln(a - b + 1)
        return value

    chances = np.zeros(len(place))
    chances[possible] = np.exp(log_choose(n - t, r - 1) - log_choose(n, r))
    return chances


def _mrr(lists: _Lists, judged_as: str, cut: int | None) -> np.ndarray:
    reached = lists.rank <= (cut or np.inf)
    return lists.summed(_first_relevant(lists, judged_as) * reached / lists.rank)


def _hits(lists: _Lists, judged_as: str, cut: int | None) -> np.ndarray:
    reached = lists.rank <= (cut or np.inf)
    return lists.summed(_first_relevant(lists, judged_as) * reached)


_RULES = {
    "ndcg": _ndcg,
    "recall": _recall,
    "precision": _precision,
    "map": _map,
    "mrr": _mrr,
    "hit_rate": _hits,
}
