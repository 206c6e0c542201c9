"""An encoder that was trained on another data set.

Trained on the source's train and dev queries, it encodes the products and queries of the data set
that is searched, whose judgments nobody reads before the evaluation. `label` names the source.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurosearch.core.artifact import Artifact
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.encoder.base import Encoder, LiveEncoder
from neurosearch.encoder.sentence import model_label


@dataclass(frozen=True)
class Transferred(Encoder):
    """Attributes:
    encoder: that is trained; its `gain` is what the source's labels are worth.
    source: the data set that it is trained on.
    fields, separator: of the products that are searched.
    """

    encoder: Encoder = field(kw_only=True)
    source: Any = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.encoder.has_network:
            name = type(self.encoder).__name__
            raise self.error("encoder", f"is {name}, which is not trained on any data")

    def trained(self, data: Artifact[Dataset]) -> Artifact[Path] | None:
        return self.encoder.trained(self.source.dataset())

    def live(self, runtime: Runtime, weights: Path | None = None) -> LiveEncoder:
        return self.encoder.live(runtime, weights)

    def prompts(self) -> tuple[str, str]:
        return self.encoder.prefixes

    def label(self) -> str:
        model = model_label(getattr(self.encoder, "model", type(self.encoder).__name__))
        return f"{model} fine-tuned on {self.source.label()}"
