"""The judge role: grades of pairs that nobody judged, by a model, kept apart from people's labels.

Such labels are an artifact of their own and are used by `evaluation=filled` alone, once the judge
has agreed well enough with people (`evaluation.agreement`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.recipe import Recipe
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset

GRADES = 4  # 0 to 3


@dataclass(frozen=True)
class Judge(Recipe):
    """Base of judges.

    Attributes:
        labels: the data's label that each grade from 0 to 3 stands for.
        least_pairs: that people judged too, for the judge to be used at all.
        least_kappa: Cohen's kappa of relevant or not, at least.
        most_pairs: that it is compared with people on, drawn evenly over their labels.
    """

    labels: tuple[str, ...] = ("0", "1", "2", "3")
    least_pairs: int = setting(500, least=1)
    least_kappa: float = setting(0.4, least=-1, most=1)
    most_pairs: int = setting(1000, least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.labels) != GRADES:
            raise self.error("labels", f"must be {GRADES} labels, for grades 0 to 3")

    def graded(
        self, pairs: Artifact[pl.DataFrame], data: Artifact[Dataset], split: str
    ) -> Artifact[pl.DataFrame]:
        """Grades of pairs.

        Args:
            pairs: `query_id`, `product_id`.
            data: the data set, or a view of it.
            split: of the queries.

        Returns:
            The pairs with `grade` (Int64; null where the judge gave none), as an artifact.
        """
        raise TypeError(f"{type(self).__name__} does not say how it judges")

    def models(self) -> frozenset[str]:
        """Names of what judges.

        Returns:
            Labels of writers.
        """
        return frozenset()

    def models_of(self, system: Recipe) -> frozenset[str]:
        """The judge's models that a system uses: it may not be measured by this judge.

        Args:
            system: a retriever, or a query processing.

        Returns:
            Labels of writers, none where the system may be measured.
        """
        return self.models() & models_in(system)

    def check(self, runtime: Runtime) -> None:
        """Raise InputError for what can be known to fail before anything is judged.

        Args:
            runtime: devices, threads, progress and the store of artifacts.
        """


def models_in(value: Any) -> frozenset[str]:
    """Labels of all writers inside a recipe.

    Args:
        value: a recipe, a mapping or a list.

    Returns:
        Their labels.
    """
    from neurosearch.writer.base import Writer

    if isinstance(value, Writer):
        return frozenset({value.label()})
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return frozenset().union(*(models_in(item) for item in value))
    if isinstance(value, Recipe):
        return models_in(list(vars(value).values()))
    return frozenset()
