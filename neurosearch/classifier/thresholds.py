"""Classes by a retriever's score: thresholds between them are chosen on dev.

With `average: micro` they are the best there are: the labels of dev's pairs, in the order of their
scores, are cut where most of them end up right (dynamic programming over classes). With `macro`
each threshold in turn takes the value, among quantiles of the scores, of the best macro-F1.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from neurosearch.classifier.base import Classifier, Probabilities
from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.retrieval import RetrievalRequest, Retriever
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.evaluation.classes import Classes
from neurosearch.evaluation.labels import f1_by_class

AVERAGES = ("micro", "macro")
PAIR = ["query_id", "product_id"]
QUANTILES, ROUNDS = 64, 4


@dataclass(frozen=True)
class Thresholds(Classifier):
    """Attributes:
    retriever: whose scores of judged products.
    average: which F1 the thresholds are chosen by.
    """

    retriever: Retriever = field(kw_only=True)
    average: str = setting("micro", choices=AVERAGES)

    def probabilities(
        self, data: Artifact[Dataset], request: RetrievalRequest
    ) -> Artifact[pl.DataFrame]:
        earlier, dev = request.learning(data)
        scored = self.retriever.run(earlier, replace(dev, pool="judged"))
        cuts = Cuts(view.learning(earlier, "dev"), scored, self.classes, self.average)
        run = self.retriever.run(data, replace(request, pool="judged"))
        return ByScore(request.view(data), request, self.classes, run, cuts)

    def label(self) -> str:
        return f"thresholds of {self.retriever.label()} ({self.average})"


@dataclass(frozen=True)
class Cuts(Artifact[list[float]]):
    """cuts.json: C - 1 scores, ascending; a score above cut i is in class i + 1 or better."""

    kind: ClassVar[str] = "cuts"
    data: Artifact[Dataset]
    run: Artifact[Run]
    classes: Classes
    average: str

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        judged = runtime.get(self.data).judgments("dev").frame
        known = judged.join(runtime.get(self.run).frame, on=PAIR).sort("score", *PAIR)
        wanted, scores = self.classes.of(known["label"]), known["score"].to_numpy()
        count = len(self.classes.names)
        cuts = best_cuts(scores, wanted, count)
        if self.average == "macro":
            cuts = climbed(scores, wanted, cuts)
        (folder / "cuts.json").write_text(json.dumps(cuts), encoding="utf-8")
        said = np.searchsorted(cuts, scores)
        return {"chosen": {"cuts": cuts}, "dev accuracy": round(float((said == wanted).mean()), 4)}

    def load(self, folder: Path) -> list[float]:
        cuts: list[float] = json.loads((folder / "cuts.json").read_text("utf-8"))
        return cuts


def best_cuts(scores: np.ndarray, wanted: np.ndarray, classes: int) -> list[float]:
    """Thresholds with the most pairs on the right side.

    Args:
        scores: P, ascending.
        wanted: P numbers of classes.
        classes: how many there are.

    Returns:
        classes - 1 scores, ascending: a pair is in the class of the number of cuts below it.
    """
    pairs = len(scores)
    # right[c, n]: pairs of class c among the first n.
    right = np.zeros((classes, pairs + 1), dtype=np.int64)
    for c in range(classes):
        right[c, 1:] = np.cumsum(wanted == c)
    # A cut may lie only where scores differ.
    free = np.ones(pairs + 1, dtype=bool)
    free[1:pairs] = scores[1:] > scores[:-1]
    best, source = right[0].copy(), []
    for c in range(1, classes):
        gain = np.where(free, best - right[c], np.iinfo(np.int64).min // 2)
        place = np.maximum.accumulate(gain)
        first = np.where(gain == place, np.arange(pairs + 1), 0)
        source.append(np.maximum.accumulate(first))
        best = place + right[c]
    end, ends = pairs, []
    for where in reversed(source):
        end = int(where[end])
        ends.append(end)
    padded = np.concatenate([[-np.inf], scores, [np.inf]])
    return [_between(padded[e], padded[e + 1]) for e in reversed(ends)]


def _between(low: float, high: float) -> float:
    """A finite number that separates two neighbours."""
    if not np.isfinite(low):
        return float(high - 1) if np.isfinite(high) else 0.0
    return float((low + high) / 2) if np.isfinite(high) else float(low + 1)


def climbed(scores: np.ndarray, wanted: np.ndarray, cuts: list[float]) -> list[float]:
    """Thresholds moved one by one to where macro-F1 is best.

    Args:
        scores: P, ascending.
        wanted: P numbers of classes.
        cuts: to begin with.

    Returns:
        As many scores, ascending.
    """
    tried = np.unique(np.quantile(scores, np.linspace(0, 1, QUANTILES))).tolist()

    def macro(some: list[float]) -> float:
        said = np.searchsorted(some, scores)
        return float(np.mean(f1_by_class(wanted, said, len(cuts) + 1)))

    for _ in range(ROUNDS):
        before = list(cuts)
        for place in range(len(cuts)):
            low = cuts[place - 1] if place else -np.inf
            high = cuts[place + 1] if place + 1 < len(cuts) else np.inf
            options = [cuts[place], *(value for value in tried if low <= value <= high)]
            cuts = max(([*cuts[:place], v, *cuts[place + 1 :]] for v in options), key=macro)
        if cuts == before:
            break
    return cuts


@dataclass(frozen=True)
class ByScore(Probabilities):
    """Certainty of the class that a score falls into."""

    run: Artifact[Run]
    cuts: Artifact[list[float]]

    def shares(self, pairs: pl.DataFrame, runtime: Runtime) -> np.ndarray:
        scored = runtime.get(self.run).frame.select(*PAIR, "score")
        known = pairs.join(scored, on=PAIR, how="left", maintain_order="left")
        scores = known["score"].fill_null(-np.inf).to_numpy()  # found nowhere: the worst class
        said = np.searchsorted(runtime.get(self.cuts), scores)
        return np.eye(len(self.classes.names))[said]
