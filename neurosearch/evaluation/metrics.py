"""Per-query metrics, all through ranx, over integer document numbers.

trec_eval's conventions: ties broken by descending document id (done when the run was made),
unjudged documents worth nothing, IDCG over all judged documents. A query without any relevant
document has no recall: the binary metrics are null there and their means leave it out; nDCG
and the judged share are 0 and stay in. `condensed` metrics drop unjudged documents first;
`judged@k` is the share of the top k that was judged, divided by k.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl

from neurosearch.core.run import Run
from neurosearch.core.types import Judgments, Queries, places_of
from neurosearch.evaluation.gain import SCALE, Gain

# Name in tables -> (whose documents, which judgments, metric of ranx).
METRICS: dict[str, tuple[str, str, str]] = {
    "nDCG@10": ("run", "gain", "ndcg@10"),
    "nDCG@10 (exp)": ("run", "exponential", "ndcg@10"),
    "nDCG@5": ("run", "gain", "ndcg@5"),
    "nDCG": ("run", "gain", "ndcg"),
    "Recall@5": ("run", "relevant", "recall@5"),
    "Recall@10": ("run", "relevant", "recall@10"),
    "Recall@100": ("run", "relevant", "recall@100"),
    "MRR@10": ("run", "relevant", "mrr@10"),
    "MAP": ("run", "relevant", "map"),
    "P@10": ("run", "relevant", "precision@10"),
    "Hits@10": ("run", "relevant", "hit_rate@10"),
    "judged@10": ("run", "judged", "precision@10"),
    "condensed nDCG@10": ("condensed", "gain", "ndcg@10"),
}


def condensed_name(depth: int) -> str:
    """The condensed metric's name where a table says how deep its lists are.

    Args:
        depth: of the lists.

    Returns:
        A column's name.
    """
    return f"condensed nDCG@10 of {depth}"


def per_query(
    run: Run,
    queries: Queries,
    judgments: Judgments,
    gain: Gain,
    metrics: Sequence[str] = tuple(METRICS),
) -> pl.DataFrame:
    """Metrics of a run, query by query.

    Args:
        run: of the split.
        queries: of the split, in the order of the rows that are returned.
        judgments: of the split.
        gain: what labels are worth.
        metrics: names of `METRICS`.

    Returns:
        `query_id` and one Float64 column a metric, in the split's order of queries.
    """
    judged = graded_values(judgments, gain)
    numbers = _document_numbers(run.frame, judged)
    wanted = [METRICS[name] for name in metrics]
    lists = {}
    for documents in {documents for documents, _, _ in wanted}:
        frame = run.frame
        if documents == "condensed":
            frame = condensed(frame, judgments.frame)
        ranked = frame.with_columns(value=-pl.col("rank").cast(pl.Float64))
        lists[documents] = _typed_lists(ranked, queries, numbers)
    qrels = {
        name: _typed_lists(judged.with_columns(value=pl.col(name)), queries, numbers)
        for name in {name for _, name, _ in wanted}
    }
    scores = (
        _evaluate(qrels[judged_as], lists[documents], metric)
        for documents, judged_as, metric in wanted
    )
    return by_query(queries, judged, metrics, scores)


def by_query(
    queries: Queries, judged: pl.DataFrame, metrics: Sequence[str], scores: Iterable[np.ndarray]
) -> pl.DataFrame:
    """`query_id` and a column a metric; null where a binary metric has nothing to find."""
    answerable = queries.ids.is_in(judged.filter(pl.col("relevant") > 0)["query_id"].implode())
    columns = {"query_id": queries.ids}
    for name, values in zip(metrics, scores, strict=True):
        column = pl.Series(name, values, pl.Float64)
        binary = METRICS[name][1] == "relevant"
        columns[name] = column.set(~answerable, None) if binary else column
    return pl.DataFrame(columns)


def graded_values(judgments: Judgments, gain: Gain) -> pl.DataFrame:
    """`query_id`, `product_id`, and what a judgment is worth: Float64 columns `gain`,
    `exponential` (both integers, times SCALE), `relevant` and `judged` (0 or 1)."""
    return gain.graded(judgments).select(
        "query_id",
        "product_id",
        pl.col("gain").mul(SCALE).round(),
        exponential=(pl.lit(2.0).pow("level") - 1).mul(SCALE).round(),
        relevant=pl.col("relevant").cast(pl.Float64),
        judged=pl.lit(1.0),
    )


def condensed(frame: pl.DataFrame, judged: pl.DataFrame) -> pl.DataFrame:
    """The run without unjudged documents, ranks closed up (Sakai 2007)."""
    kept = frame.join(judged, on=["query_id", "product_id"], how="semi", maintain_order="left")
    return kept.with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("query_id"))


def _evaluate(qrels: Any, run: Any, metric: str) -> np.ndarray:
    """One metric of ranx for every query."""
    import ranx

    # Asked for one metric only, ranx 0.3.21 looks its per-query scores up under another name.
    scores = ranx.evaluate(qrels, run, [metric, "hits@1"], return_mean=False)
    return np.asarray(scores[metric], dtype=np.float64)


def _document_numbers(*frames: pl.DataFrame) -> pl.DataFrame:
    ids = pl.concat([frame["product_id"] for frame in frames]).unique().sort()
    return pl.DataFrame({"product_id": ids}).with_row_index("number")


def _typed_lists(frame: pl.DataFrame, queries: Queries, numbers: pl.DataFrame) -> Any:
    """numba list: for each query an n×2 float64 array (document number, value), best first."""
    from numba.typed import List

    order = places_of(queries.ids, "query_id", "query")
    rows = (
        frame.select("query_id", "product_id", "value")
        .join(order, on="query_id")
        .join(numbers, on="product_id")
        .sort("query", "value", descending=[False, True], maintain_order=True)
    )
    pairs = rows.select("number", "value").cast(pl.Float64).to_numpy()
    ends = np.searchsorted(rows["query"].to_numpy(), np.arange(len(queries)), side="right")
    return List(_split(np.ascontiguousarray(pairs), ends))


def _split(pairs: np.ndarray, ends: np.ndarray) -> Sequence[np.ndarray]:
    return [np.ascontiguousarray(part) for part in np.split(pairs, ends[:-1])]
