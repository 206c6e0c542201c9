"""Encoders of tokens: a vector for every token of a text, for late interaction.

Their vectors are artifacts, as those of `encoder.base` are: of the catalogue's products, and of a
split's queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.query import QueryProcessor
from neurosearch.core.types import Dataset
from neurosearch.core.vectors import TokenEmbeddings
from neurosearch.encoder.colbert.embeddings import ProductTokens, QueryTokens
from neurosearch.encoder.shaped import ShapedEncoder


@dataclass(frozen=True)
class TokenEncoder(ShapedEncoder):
    """Base of encoders of tokens.

    Attributes:
        pool_factor: a product keeps one vector for so many; 1 for all.
    The rest: see `ShapedEncoder`.
    """

    pool_factor: int = setting(1, least=1)

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
