"""The base of encoders whose texts become several vectors (`colbert`), or weights (`splade`).

The network is a recipe of its own, `shape`, so that what does not change it (the training, pooling
of products) is not part of the identity of what it gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.digests import digest
from neurosearch.core.exportable import Exportable
from neurosearch.core.recipe import PRECISIONS, Recipe
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, check_fields


@dataclass(frozen=True)
class ShapedEncoder(Recipe):
    """Attributes:
    fields: of a product, joined by `separator` into the text that is encoded.
    precision: of inference, `fp32` or `bf16`.
    """

    fields: tuple[str, ...] = ("title",)
    separator: str = " "
    precision: str = setting("fp32", choices=PRECISIONS)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields("encoder.fields", self.fields)

    @property
    def shape(self) -> Any:
        """The network, as a recipe with `live(weights, precision, runtime)`."""
        raise TypeError(f"{type(self).__name__} does not say what its network is")

    def trained(self, data: Artifact[Dataset]) -> Artifact[Path] | None:
        """The network's weights after training on `data`; None for a model used as it is.

        Args:
            data: to be trained on; only train and dev are read.

        Returns:
            The training as an artifact, or None.
        """
        return None

    def exported(self, data: Artifact[Dataset]) -> Exportable | None:
        """What other libraries can load of it; None for nothing.

        Args:
            data: that it was trained on.

        Returns:
            What `task=export` writes, or None.
        """
        return None

    def identity(self, data: Artifact[Dataset]) -> str:
        """Names the space of what it gives: two texts may meet only if this is the same.

        Args:
            data: that it was trained on.

        Returns:
            A hex digest.
        """
        trained = self.trained(data)
        weights = [] if trained is None else [trained.artifact_fingerprint]
        return digest([self.shape.fingerprint, *weights, self.precision])

    def _network(self, data: Artifact[Dataset]) -> tuple[Any, ...]:
        """Shape, weights, identity and precision: what encodes texts."""
        return self.shape, self.trained(data), self.identity(data), self.precision

    def live(self, runtime: Runtime, data: Artifact[Dataset]) -> Any:
        """The network on the runtime's device.

        Args:
            runtime: devices, threads, progress and the store of artifacts.
            data: that it was trained on.

        Returns:
            The network, for queries and products.
        """
        trained = self.trained(data)
        weights = None if trained is None else runtime.get(trained)
        return self.shape.live(weights, self.precision, runtime)
