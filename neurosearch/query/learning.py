"""Steps that learn from a catalogue and its train queries, and what they have learnt.

Only products, and train's queries and judgments are read, so that dev and test queries are new to
a step. What a step learns is an artifact: it is built once, and fingerprinted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.query import Query, QueryProcessor, Reader
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import PRODUCTS, Dataset, queries_of
from neurosearch.query.chain import one_after_another


@dataclass(frozen=True)
class LearningStep(QueryProcessor):
    """Base of steps that learn.

    Attributes:
        source: the data set to learn from; null for the one that is searched.

    Class attributes:
        needs_judgments: it learns from train's judgments; else from products, and train queries
            where there are some.
    """

    source: Any = None

    needs_judgments: ClassVar[bool] = False

    def learn(self, data: Dataset, read: Reader, folder: Path, runtime: Runtime) -> dict[str, Any]:
        """Write what is learnt into `folder`.

        Args:
            data: products and train queries, with their judgments where they are needed.
            read: the steps before this one.
            folder: of the artifact.
            runtime: devices, threads, progress and the store of artifacts.

        Returns:
            Details for the manifest.
        """
        raise TypeError(f"{type(self).__name__} does not say what it learns")

    def load(self, folder: Path) -> Any:
        """What was learnt.

        Args:
            folder: what was learnt, complete.

        Returns:
            What `rewriter` takes.
        """
        raise TypeError(f"{type(self).__name__} does not say how it is loaded")

    def rewriter(self, learnt: Any) -> Callable[[Query], Query]:
        """The step, with what was learnt.

        Args:
            learnt: what `load` returned.

        Returns:
            From a query to the query after this step.
        """
        raise TypeError(f"{type(self).__name__} does not say how it rewrites")

    def fitted(
        self, data: Artifact[Dataset], before: tuple[QueryProcessor, ...] = ()
    ) -> QueryProcessor:
        data = data if self.source is None else self.source.dataset()
        whole: Any = data.stored()
        asked = queries_of("train")
        has_train = bool(whole.part_digest(asked))
        if not self.needs_judgments:
            parts = [PRODUCTS, asked] if has_train else [PRODUCTS]
            return Fitted(self, Learnt(view.only(data, *parts), self, before))
        if not has_train:
            step = type(self).__name__.lower()
            hint = f"data@query.source=… (or query.steps.{step}.source) names another data set"
            raise InputError(f"{step} learns from train queries, and the data has none: {hint}")
        return Fitted(self, Learnt(view.learning(data, "train"), self, before))

    def step(self, runtime: Runtime) -> Callable[[Query], Query]:
        name = type(self).__name__
        raise InputError(f"{name} learns from a data set: take {name.lower()}.fitted(data)")


@dataclass(frozen=True)
class Learnt(Artifact[Any]):
    """What a step has learnt; `before`: the steps that queries passed first."""

    kind: ClassVar[str] = "query"
    data: Artifact[Dataset]
    recipe: LearningStep
    before: tuple[QueryProcessor, ...]

    def check(self, runtime: Runtime) -> None:
        if self.recipe.needs_judgments:
            runtime.get(self.data).queries("train")

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        read = Reader(one_after_another([step.step(runtime) for step in self.before]))
        return self.recipe.learn(runtime.get(self.data), read, folder, runtime)

    def load(self, folder: Path) -> Any:
        return self.recipe.load(folder)


@dataclass(frozen=True)
class Fitted(QueryProcessor):
    """A step and what it has learnt."""

    recipe: LearningStep
    learnt: Learnt

    def fitted(
        self, data: Artifact[Dataset], before: tuple[QueryProcessor, ...] = ()
    ) -> QueryProcessor:
        return self.recipe.fitted(data, before)

    def step(self, runtime: Runtime) -> Callable[[Query], Query]:
        return self.recipe.rewriter(runtime.get(self.learnt))


def train_texts(data: Dataset) -> list[str]:
    """Texts of the train queries; none where the data set, or what is seen of it, has none."""
    there = data.parts is None or queries_of("train") in data.parts
    return data.queries("train").texts if there and data.has("train") else []
