"""Encoders of tokens: a vector for every token of a text, for late interaction.

Their vectors are artifacts, as those of `encoder.base` are: of the catalogue's products, and of a
split's queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.digests import digest
from neurosearch.core.exportable import Exportable
from neurosearch.core.query import QueryProcessor
from neurosearch.core.recipe import PRECISIONS, Recipe
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, check_fields
from neurosearch.core.vectors import TokenEmbeddings
from neurosearch.encoder.colbert.embeddings import LiveTokens, ProductTokens, QueryTokens


@dataclass(frozen=True)
class TokenEncoder(Recipe):
    """Base of encoders of tokens.

    Attributes:
        fields: of a product, joined by `separator` into the text that is encoded.
        pool_factor: a product keeps one vector for so many; 1 for all.
        precision: of inference, `fp32` or `bf16`.
    """

    pool_factor: int = setting(1, least=1)
    fields: tuple[str, ...] = ("title",)
    separator: str = " "
    precision: str = setting("fp32", choices=PRECISIONS)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields("encoder.fields", self.fields)

    @property
    def shape(self) -> Any:
        """The network, as a recipe with `live` (see `TokenShape`)."""
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
        """Names the space of token vectors.

        Args:
            data: that it was trained on.

        Returns:
            A hex digest.
        """
        trained = self.trained(data)
        weights = [] if trained is None else [trained.artifact_fingerprint]
        return digest([self.shape.fingerprint, *weights, self.precision])

    def product_tokens(self, data: Artifact[Dataset]) -> Artifact[TokenEmbeddings]:
        """Vectors of the catalogue's tokens.

        Args:
            data: whose products are encoded.

        Returns:
            The vectors as an artifact, by row of the catalogue.
        """
        texts = (tuple(self.fields), self.separator)
        parts: tuple[Any, ...] = (view.products(data), *texts, self.pool_factor)
        return ProductTokens(*self._network(data), *parts)

    def query_tokens(
        self, data: Artifact[Dataset], split: str, query: QueryProcessor
    ) -> Artifact[TokenEmbeddings]:
        """Vectors of the tokens of a split's processed queries.

        Args:
            data: whose queries are encoded.
            split: `train`, `dev` or `test`.
            query: how the query texts are processed first.

        Returns:
            The vectors as an artifact, in the split's order.
        """
        parts: tuple[Any, ...] = (view.with_queries(data, split), split, query)
        return QueryTokens(*self._network(data), *parts)

    def _network(self, data: Artifact[Dataset]) -> tuple[Any, ...]:
        """Shape, weights, identity and precision: what makes token vectors of texts."""
        return self.shape, self.trained(data), self.identity(data), self.precision

    def live(self, runtime: Runtime, data: Artifact[Dataset]) -> LiveTokens:
        """The network on the runtime's device.

        Args:
            runtime: devices, threads, progress and the store of artifacts.
            data: that it was trained on.

        Returns:
            The network, for queries and products.
        """
        trained = self.trained(data)
        weights = None if trained is None else runtime.get(trained)
        live: LiveTokens = self.shape.live(weights, self.precision, runtime)
        return live
