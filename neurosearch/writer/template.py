"""A text without a model: the query in words of one's own. What a language model must beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.writer.base import Writer


@dataclass(frozen=True)
class Template(Writer):
    """`text`: with {prompt}, which is the whole prompt."""

    text: str = "{prompt}"

    def __post_init__(self) -> None:
        super().__post_init__()
        if "{prompt}" not in self.text:
            raise InputError("writer.text does not say where {prompt} goes")

    def write(
        self,
        prompts: Sequence[str],
        runtime: Runtime,
        samples: int = 1,
        failures: float = 0.0,
        is_live: bool = False,
    ) -> list[list[str]]:
        return [[self.text.replace("{prompt}", prompt)] * samples for prompt in prompts]

    def label(self) -> str:
        return "template"
