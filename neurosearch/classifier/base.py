"""What all classifiers share: probabilities of classes for the judged pairs of a split."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.recipe import Recipe
from neurosearch.core.retrieval import RetrievalRequest, judged_ids, judged_rows
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, queries_of
from neurosearch.evaluation.classes import Classes


@dataclass(frozen=True)
class Classifier(Recipe):
    """Attributes:
    classes: of the labels, worst first.
    """

    classes: Classes = field(default_factory=Classes)

    def __post_init__(self) -> None:
        if self.classes is None:  # of a config whose evaluation has no classes
            object.__setattr__(self, "classes", Classes())
        if not isinstance(self.classes, Classes):
            raise self.error("classes", "must be as evaluation.classes, with names")
        super().__post_init__()

    def probabilities(
        self, data: Artifact[Dataset], request: RetrievalRequest
    ) -> Artifact[pl.DataFrame]:
        """How likely each class is for each pair of the judged pool.

        Args:
            data: the data set, or a view of it.
            request: whose queries, and how they are processed.

        Returns:
            `query_id`, `product_id`, and `p <class>` of each class, as an artifact.
        """
        raise TypeError(f"{type(self).__name__} does not say how likely a class is")


@dataclass(frozen=True)
class Probabilities(Artifact[pl.DataFrame]):
    """probabilities.parquet. Subclasses give P×C shares; `data` has the judged pool of a split."""

    kind: ClassVar[str] = "probabilities"
    data: Artifact[Dataset]
    request: RetrievalRequest
    classes: Classes

    def shares(self, pairs: pl.DataFrame, runtime: Runtime) -> np.ndarray:
        """Probabilities of the classes of pairs.

        Args:
            pairs: `query_id`, `product_id`.
            runtime: devices, threads, progress and the store of artifacts.

        Returns:
            P×C float64, rows of sum 1.
        """
        raise TypeError(f"{type(self).__name__} does not say how likely a class is")

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        data = runtime.get(self.data)
        queries = self.request.queries(data)
        pairs = judged_ids(judged_rows(queries, data), queries, data)
        shares = self.shares(pairs, runtime)
        named = (
            pl.Series(f"p {name}", shares[:, place].astype(np.float64))
            for place, name in enumerate(self.classes.names)
        )
        pairs.with_columns(named).write_parquet(folder / "probabilities.parquet")
        said = np.bincount(shares.argmax(axis=1), minlength=shares.shape[1]) / max(1, len(shares))
        shown = zip(self.classes.names, said.tolist(), strict=True)
        return {"pairs": pairs.height, "said": {name: round(share, 4) for name, share in shown}}

    def load(self, folder: Path) -> pl.DataFrame:
        return pl.read_parquet(folder / "probabilities.parquet", glob=False)


def learnt_split(data: Artifact[Dataset]) -> str:
    """`train`, or `dev` where a data set has no train queries.

    Args:
        data: the data set, or a view of it.

    Returns:
        A split whose labels may be learnt from.

    Raises:
        InputError: it has neither.
    """
    whole: Any = data.stored()
    for split in ("train", "dev"):
        if whole.part_digest(queries_of(split)):
            return split
    raise InputError("a classifier needs train or dev queries with labels, and there are none")
