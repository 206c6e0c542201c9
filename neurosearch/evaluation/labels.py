"""Protocol `labels`: which class a judged pair belongs to (ESCI's second and third task).

For single labels micro-F1 is accuracy, so the row of a constant answer belongs into every table.
Per-query columns of `micro-F1` are scaled so that their mean over queries is the share of all pairs
that are right, and tests are over queries.
`macro-F1`, `F1` of a class, and `ECE` (calibration: |confidence - accuracy| over ten bins of the
largest probability) are of all pairs and no means over queries: the first query carries the value,
the others none, and they have neither intervals nor tests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import polars as pl

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.query import QueryProcessor
from neurosearch.core.retrieval import Retriever
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, Judgments
from neurosearch.evaluation.base import Evaluation, PerQueryMetrics
from neurosearch.evaluation.classes import Classes

MICRO, MACRO, ECE = "micro-F1", "macro-F1", "ECE"
METRICS = (MICRO, MACRO, ECE)
BY_CLASS = "F1 "  # and the class
BINS = 10
PAIR = ["query_id", "product_id"]


@dataclass(frozen=True)
class LabelsProtocol(Evaluation):
    """Attributes:
    classes: of the labels.
    positive: a class that is told from all others (ESCI's substitutes: S); None for all classes.
    The rest: see `Evaluation`.
    """

    pool: ClassVar[str] = "judged"
    classes: Classes = field(default_factory=Classes)
    positive: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.positive is not None and self.positive not in self.classes.names:
            known = ", ".join(self.classes.names)
            raise self.error("positive", f"is {self.positive!r}, no class of {known}")

    @property
    def protocol(self) -> str:
        return "labels" if self.positive is None else f"labels {self.positive}"

    def metrics(
        self, retriever: Retriever, data: Artifact[Dataset], query: QueryProcessor
    ) -> Artifact[pl.DataFrame]:
        found = retriever.probabilities(data, self.request(query))
        if found is None:
            how = "retriever=classified classifier@retriever.classifier=…"
            raise InputError(f"{retriever.label()} gives no class a probability: {how}")
        measured = self.measured(retriever, data, query)
        return LabelMetrics(*measured, found, self.classes, self.positive)


@dataclass(frozen=True)
class LabelMetrics(PerQueryMetrics):
    """As `PerQueryMetrics`, with the columns of this protocol."""

    probabilities: Artifact[pl.DataFrame]
    classes: Classes
    positive: str | None

    def with_own(self, frame: pl.DataFrame, judgments: Judgments, runtime: Runtime) -> pl.DataFrame:
        truth = judgments.frame
        names = [f"p {name}" for name in self.classes.names]
        found = truth.join(
            runtime.get(self.probabilities), on=PAIR, how="left", maintain_order="left"
        )
        shares = found.select(names).to_numpy()
        check_shares(found, shares)
        wanted, shown = self.classes.of(truth["label"]), list(self.classes.names)
        if self.positive is not None:
            place = shown.index(self.positive)
            wanted = (wanted == place).astype(np.int64)
            shares = np.stack([1 - shares[:, place], shares[:, place]], axis=1)
            shown = [f"not {self.positive}", self.positive]
        said = shares.argmax(axis=1)
        right = found.select("query_id", right=pl.Series((said == wanted).astype(np.float64)))
        by_query = right.group_by("query_id").agg(pl.col("right").sum() * frame.height / len(said))
        frame = frame.join(by_query, on="query_id", how="left", maintain_order="left")
        scores = f1_by_class(wanted, said, len(shown))
        whole = {MACRO: float(np.mean(scores)), ECE: calibration_error(shares, wanted)}
        whole |= {BY_CLASS + name: score for name, score in zip(shown, scores, strict=True)}
        first = pl.int_range(pl.len()) == 0
        return frame.rename({"right": MICRO}).with_columns(
            pl.col(MICRO).fill_null(0.0),
            *(pl.when(first).then(pl.lit(v)).alias(k) for k, v in whole.items()),
        )


def check_shares(pairs: pl.DataFrame, shares: np.ndarray) -> None:
    """Raise InputError where a pair has no probabilities, or they don't sum to one.

    Args:
        pairs: `query_id`, `product_id` of the rows.
        shares: P×C.
    """
    wrong = np.flatnonzero(~(np.abs(shares.sum(axis=1) - 1) < 1e-4))  # nan is wrong too
    if len(wrong):
        query, product = pairs[int(wrong[0]), "query_id"], pairs[int(wrong[0]), "product_id"]
        raise InputError(
            f"probabilities of product {product!r} for query {query!r} sum to "
            f"{shares[wrong[0]].sum():g}, not to 1"
        )


def f1_by_class(wanted: np.ndarray, said: np.ndarray, classes: int) -> list[float]:
    """F1 of each class; 0 where a class is never said right.

    Args:
        wanted, said: P numbers of classes.
        classes: how many there are.

    Returns:
        One number a class.
    """
    table = np.bincount(wanted * classes + said, minlength=classes**2).reshape(classes, classes)
    right, total = table.diagonal(), table.sum(axis=0) + table.sum(axis=1)
    return [float(2 * r / t) if t else 0.0 for r, t in zip(right, total, strict=True)]


def calibration_error(shares: np.ndarray, wanted: np.ndarray) -> float:
    """Expected calibration error (Naeini et al. 2015): bins of the largest probability.

    Args:
        shares: P×C probabilities.
        wanted: P numbers of classes.

    Returns:
        Mean |confidence - accuracy|, weighted by the bins' sizes.
    """
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == wanted
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    gaps = np.abs(
        np.bincount(place, confidence, BINS) - np.bincount(place, right.astype(float), BINS)
    )
    return float(gaps.sum() / max(1, counts.sum()))
