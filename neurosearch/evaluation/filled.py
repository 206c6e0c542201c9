"""Protocol `filled`: as `catalogue`, with a model's labels for first products that nobody judged.

A table of its own, whose title names the model; a column says how many of a query's first labels
are the model's. It is refused where the judge has not agreed with people well enough on dev, and
for systems that use the judge's model themselves. It is never a claim's only ground.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.query import QueryProcessor
from neurosearch.core.retrieval import Retriever
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, Judgments
from neurosearch.evaluation.agreement import confusion, kappa, kappa_interval, nearest_grades
from neurosearch.evaluation.base import PerQueryMetrics
from neurosearch.evaluation.catalogue import CatalogueProtocol
from neurosearch.evaluation.gain import Gain

if TYPE_CHECKING:
    from neurosearch.judge.base import Judge

BY_MODEL = "labels by model %"
GRADES = 4  # 0 to 3
PAIR = ("query_id", "product_id")


@dataclass(frozen=True)
class FilledProtocol(CatalogueProtocol):
    """Attributes:
    judge: of pairs that nobody judged.
    first: of each list, how many products get a label.
    The rest: see `Evaluation`.
    """

    judge: Judge = field(kw_only=True)
    first: int = setting(10, least=1)

    @property
    def protocol(self) -> str:
        return f"filled by {self.judge.label()}"

    def metrics(
        self, retriever: Retriever, data: Artifact[Dataset], query: QueryProcessor
    ) -> Artifact[pl.DataFrame]:
        shared = self.judge.models_of(retriever) | self.judge.models_of(query)
        if shared:
            raise InputError(
                f"evaluation.judge: {', '.join(sorted(shared))} is a part of the system: "
                "a model does not judge itself"
            )
        measured = self.measured(retriever, data, query)
        pool = view.with_queries(data, self.split, pool=True)
        holes = Holes(pool, measured[1], self.split, self.first)
        grades = self.judge.graded(holes, data, self.split)
        agreed = agreement(self.judge, data, self.gain)
        return FilledMetrics(*measured, grades, agreed, self.judge.labels)


@dataclass(frozen=True)
class Holes(Artifact[pl.DataFrame]):
    """pairs.parquet: first products of a run that nobody judged; `query_id`, `product_id`."""

    kind: ClassVar[str] = "holes"
    data: Artifact[Dataset]
    run: Artifact[Run]
    split: str
    first: int

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        run, pool = runtime.get(self.run), runtime.get(self.data).pool(self.split)
        top = run.frame.filter(pl.col("rank") <= self.first).select(PAIR)
        holes = top.join(pool, on=PAIR, how="anti", maintain_order="left")
        holes.write_parquet(folder / "pairs.parquet")
        return {"pairs": holes.height, "of": top.height}

    def load(self, folder: Path) -> pl.DataFrame:
        return pl.read_parquet(folder / "pairs.parquet", glob=False)


def agreement(judge: Judge, data: Artifact[Dataset], gain: Gain) -> Agreement:
    """How a judge agrees with people on pairs of dev, drawn evenly over people's labels.

    Args:
        judge: any.
        data: the data set.
        gain: what labels are worth, and which are relevant.

    Returns:
        The comparison as an artifact.
    """
    known = view.learning(data, "dev")
    pairs = Calibration(known, judge.most_pairs)
    return Agreement(known, pairs, judge.graded(pairs, data, "dev"), gain, judge.labels, judge)


@dataclass(frozen=True)
class Calibration(Artifact[pl.DataFrame]):
    """pairs.parquet: `most` of dev's judged pairs, drawn evenly over their labels."""

    kind: ClassVar[str] = "calibration"
    data: Artifact[Dataset]
    most: int

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        frame = runtime.get(self.data).judgments("dev").frame
        mixed = frame.sample(fraction=1.0, shuffle=True, seed=0)
        place = pl.int_range(pl.len()).over("label")
        drawn = mixed.with_columns(place=place).sort("place", "label").head(self.most)
        drawn.select(PAIR).write_parquet(folder / "pairs.parquet")
        return {"pairs": drawn.height, "of": frame.height}

    def load(self, folder: Path) -> pl.DataFrame:
        return pl.read_parquet(folder / "pairs.parquet", glob=False)


@dataclass(frozen=True)
class Agreement(Artifact[dict[str, Any]]):
    """agreement.json: kappas with intervals, the confusion of grades, and counts."""

    kind: ClassVar[str] = "agreement"
    data: Artifact[Dataset]
    pairs: Artifact[pl.DataFrame]
    grades: Artifact[pl.DataFrame]
    gain: Gain
    labels: tuple[str, ...]
    judge: Judge

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        people = runtime.get(self.data).judgments("dev").frame
        whole = runtime.get(self.grades).join(people, on=PAIR, maintain_order="left")
        known = whole.drop_nulls("grade")
        facts: dict[str, Any] = {"pairs": whole.height, "graded": known.height}
        if known.height:
            facts |= self._compared(known)
        (folder / "agreement.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
        return {name: facts[name] for name in facts if name != "confusion"}

    def _compared(self, known: pl.DataFrame) -> dict[str, Any]:
        worth = self.gain.values(pl.Series(self.labels))
        theirs = self.gain.values(known["label"])
        # A label between two of the judge's counts as the nearer one.
        first = nearest_grades(theirs["level"].to_numpy(), worth["level"].to_numpy())
        second = known["grade"].to_numpy()
        queries = known["query_id"].rank("dense").to_numpy().astype(np.int64) - 1
        relevant = worth["relevant"].to_numpy().astype(np.int64)
        yes = theirs["relevant"].to_numpy().astype(np.int64), relevant[second]
        both = confusion(first, second, GRADES)
        return {
            "kappa of grades": kappa(both),
            "its interval": kappa_interval(first, second, queries, GRADES),
            "kappa of relevance": kappa(confusion(*yes, 2)),
            "its interval, relevance": kappa_interval(*yes, queries, 2),
            "exactly alike": float((first == second).mean()),
            "confusion": both.tolist(),
        }

    def load(self, folder: Path) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((folder / "agreement.json").read_text("utf-8"))
        return facts


def labelled(grades: pl.DataFrame, labels: tuple[str, ...]) -> pl.DataFrame:
    """The labels that a judge's grades stand for.

    Args:
        grades: `query_id`, `product_id`, `grade`; null where the judge gave none.
        labels: of each grade.

    Returns:
        `query_id`, `product_id`, `label` of the graded pairs.
    """
    known = grades.drop_nulls("grade")
    return known.select(*PAIR, label=pl.Series(labels, dtype=pl.String).gather(known["grade"]))


def refusal(facts: dict[str, Any], judge: Judge) -> str | None:
    """Why a judge may not be used, or None.

    Args:
        facts: see `Agreement`.
        judge: whose limits they are.

    Returns:
        A sentence, or None.
    """
    if facts["graded"] < judge.least_pairs:
        return f"{facts['graded']} graded pairs of dev, {judge.least_pairs} are needed"
    found = facts["kappa of relevance"]
    if not found >= judge.least_kappa:  # nan is refused too
        return f"kappa with people is {found:.2f} on dev, {judge.least_kappa:g} is needed"
    return None


@dataclass(frozen=True)
class FilledMetrics(PerQueryMetrics):
    """As `PerQueryMetrics`, over people's labels and, where there are none, the model's."""

    grades: Artifact[pl.DataFrame]
    agreed: Agreement
    labels: tuple[str, ...]

    def judgments(self, runtime: Runtime) -> Judgments:
        reason = refusal(runtime.get(self.agreed), self.agreed.judge)
        if reason:
            raise InputError(f"evaluation=filled: {self.agreed.judge.label()} is refused: {reason}")
        own = super().judgments(runtime)
        new = labelled(runtime.get(self.grades), self.labels)
        return Judgments(self.split, pl.concat([own.frame, new]))

    def with_own(self, frame: pl.DataFrame, judgments: Judgments, runtime: Runtime) -> pl.DataFrame:
        top = runtime.get(self.run).frame.filter(pl.col("rank") <= 10).select(PAIR)
        new = runtime.get(self.grades).drop_nulls("grade").select(*PAIR, mine=pl.lit(1.0))
        share = top.join(new, on=PAIR, how="left").with_columns(pl.col("mine").fill_null(0.0))
        by_query = share.group_by("query_id").agg((100 * pl.col("mine").mean()).alias(BY_MODEL))
        frame = frame.join(by_query, on="query_id", how="left", maintain_order="left")
        return frame.with_columns(pl.col(BY_MODEL).fill_null(0.0))
