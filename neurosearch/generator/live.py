"""A trained generator at work: texts to IDs, and to the products that have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from neurosearch.core.runtime import Runtime
from neurosearch.core.semantic_ids import SemanticIds
from neurosearch.core.types import Catalogue, Queries
from neurosearch.generator.base import CodeModelFiles
from neurosearch.generator.expansion import expand
from neurosearch.nn.tokens import Tokens, tokenize

if TYPE_CHECKING:
    from neurosearch.generator.network import Found


class LiveGenerator:
    """A trained generator and the trie of its catalogue, on the runtime's device."""

    def __init__(self, files: CodeModelFiles, ids: SemanticIds, runtime: Runtime) -> None:
        from neurosearch.generator.graphs import Graphs
        from neurosearch.generator.trie import Trie

        self.device = runtime.torch_device()
        self.recipe = files.generator
        self.network = files.network().to(self.device)
        self.trie = Trie.of(ids).to(self.device)
        self._ids = ids
        self._graphs = Graphs() if runtime.captures(self.device) else None

    def query_texts(self, queries: Queries, catalogue: Catalogue) -> list[str]:
        """What is read of a split's processed queries."""
        return self.recipe.query_texts(queries, catalogue, self._ids)

    def tokens(self, texts: Sequence[str]) -> Tokens:
        """Of processed queries."""
        recipe = self.recipe
        prompts = [recipe.prefix + text for text in texts]
        return tokenize(self.network.reader.tokenizer, prompts, self.recipe.max_length)

    def search(
        self,
        texts: Sequence[str],
        width: int,
        constrained: bool = True,
        depth: int | None = None,
    ) -> Found:
        """See `network.search`."""
        from neurosearch.generator.network import search

        tokens = self.tokens(texts)
        how = depth, constrained, self._graphs
        return search(self.network, tokens, self.trie, width, self.device, *how)

    def products(
        self,
        texts: Sequence[str],
        k: int,
        beam: int,
        constrained: bool,
        cosine_weight: float,
        vectors: tuple[np.ndarray, np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Q×k rows and scores; `vectors` of the queries and of all products."""
        sequences = self.search(texts, beam, constrained)
        buckets = self.trie.bucket_begin, self.trie.bucket_rows
        return expand(sequences.scores, sequences.nodes, buckets, k, vectors, cosine_weight)
