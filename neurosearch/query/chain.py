"""Steps of query processing, one after the other, each on what the ones before it made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from neurosearch.core.artifact import Artifact
from neurosearch.core.query import Query, QueryProcessor
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset


@dataclass(frozen=True)
class Chain(QueryProcessor):
    """Attributes:
    order: names of the steps, first to last; each once. A step that is not named is not taken.
    steps: the steps by name.
    """

    order: tuple[str, ...]
    steps: Mapping[str, QueryProcessor]

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.order:
            if name not in self.steps:
                known = ", ".join(self.steps) or "none"
                hint = f"+query@query.steps.{name}={name} adds one"
                raise self.error("order", f"names {name!r}; the steps are {known} ({hint})")
            if self.order.count(name) > 1:
                raise self.error("order", f"names {name!r} twice")
        for name in self.order:
            if not isinstance(self.steps[name], QueryProcessor):
                raise self.error(f"steps.{name}", f"is no step, but {self.steps[name]!r}")

    def fitted(
        self, data: Artifact[Dataset], before: tuple[QueryProcessor, ...] = ()
    ) -> QueryProcessor:
        ready: dict[str, QueryProcessor] = {}
        for name in self.order:
            # Planted errors are in what is asked, not in what is learnt from.
            passed = [step for step in ready.values() if not step.planted]
            ready[name] = self.steps[name].fitted(data, (*before, *passed))
        return replace(self, steps=ready)

    def step(self, runtime: Runtime) -> Callable[[Query], Query]:
        return one_after_another([self.steps[name].step(runtime) for name in self.order])


def one_after_another(steps: list[Callable[[Query], Query]]) -> Callable[[Query], Query]:
    """All steps as one."""

    def rewrite(query: Query) -> Query:
        for step in steps:
            query = step(query)
        return query

    return rewrite
