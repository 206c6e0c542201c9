"""Gated fusion: words and picture through trained heads, weighted dimension by dimension.

The gate looks at both vectors of a product (or of a query that has a picture too) and says how
much each counts; it and the heads are trained by contrast on frozen vectors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.digests import digest
from neurosearch.core.query import QueryProcessor
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.core.vectors import Embeddings
from neurosearch.encoder.base import LiveEncoder
from neurosearch.encoder.multimodal.aligned import LiveParts
from neurosearch.encoder.multimodal.recipe import Headed, HeadEmbeddings, Parts, TrainedHeads

ASKED = ("text", "both")


@dataclass(frozen=True)
class Gated(Headed):
    """Attributes:
    queries: `text`, or `both` where the data's queries have pictures.
    """

    gated: ClassVar[bool] = True
    queries: str = setting("text", choices=ASKED)

    def heads(self, data: Artifact[Dataset]) -> TrainedHeads:
        """The trained gates."""
        data = view.before(data)
        query = self.query.fitted(data)
        train, dev = (self._query_views(data, split, query) for split in ("train", "dev"))
        source, parts = view.learning(data), self.product_parts(data)
        return TrainedHeads(replace(self.training, query=query), source, train, dev, parts)

    def _query_views(self, data: Artifact[Dataset], split: str, query: QueryProcessor) -> Parts:
        words = self.text.query_embeddings(data, split, query)
        if self.queries == "text":
            return words, None
        return words, self.image.query_embeddings(data, split, query)

    def identity(self, data: Artifact[Dataset]) -> str:
        return digest([self.fingerprint, self.heads(data).artifact_fingerprint])

    def product_embeddings(self, data: Artifact[Dataset]) -> Artifact[Embeddings]:
        heads, identity = self.heads(data), self.identity(data)
        return HeadEmbeddings(heads, "product", self.product_parts(data), identity)

    def query_embeddings(
        self, data: Artifact[Dataset], split: str, query: QueryProcessor
    ) -> Artifact[Embeddings]:
        heads, identity = self.heads(data), self.identity(data)
        return HeadEmbeddings(heads, "query", self._query_views(data, split, query), identity)

    @property
    def reads_words(self) -> bool:
        return self.queries == "text" and self.text.reads_words

    def loaded(self, runtime: Runtime, data: Artifact[Dataset]) -> LiveEncoder:
        words, pictures = self.product_parts(data)
        assert words is not None and pictures is not None
        widths = tuple(runtime.get(part).vectors.shape[1] for part in (words, pictures))
        live = self.text.loaded(runtime, data)
        tower = runtime.get(self.heads(data))["query"]
        return LiveParts(live, (widths[0], widths[1]), tower)

    def label(self) -> str:
        return f"Gated, {'words' if self.queries == 'text' else 'words and pictures'}"
