"""The encoder role: texts to unit vectors, as artifacts for batches and live for single queries."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from neurosearch.artifact import Artifact
from neurosearch.query.base import QueryProcessor
from neurosearch.recipe import Recipe
from neurosearch.runtime import Runtime
from neurosearch.types import Dataset, Embeddings

SHARD = 2048  # texts a shard: what a killed encoding loses at most


class LiveEncoder(Protocol):
    """A loaded encoder."""

    dimensions: int

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        """N int64: how long each text is to the encoder (tokens), for sorting and packing."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """N×D float32 unit vectors, in the order of `texts`."""


@dataclass(frozen=True)
class Encoder(Recipe):
    """Base of encoders. `fields` of a product are joined into the text that is encoded."""

    fields: tuple[str, ...] = ("title",)
    separator: str = " "
    query_prefix: str = ""
    product_prefix: str = ""

    def live(self, runtime: Runtime) -> LiveEncoder:
        """The loaded encoder. Raises InputError where its weights are not to be had."""
        raise TypeError(f"{type(self).__name__} does not say how it encodes")

    def product_embeddings(self, data: Artifact[Dataset]) -> Artifact[Embeddings]:
        """N×D vectors of the catalogue's products."""
        return ProductEmbeddings(self, data)

    def query_embeddings(
        self, data: Artifact[Dataset], split: str, query: QueryProcessor
    ) -> Artifact[Embeddings]:
        """Q×D vectors of a split's processed queries."""
        return QueryEmbeddings(self, data, split, query)


@dataclass(frozen=True)
class EmbeddingsArtifact(Artifact[Embeddings]):
    """vectors.npy (float32, memory-mapped) and the encoder's fingerprint."""

    kind: ClassVar[str] = "embeddings"
    resumable: ClassVar[bool] = True
    encoder: Encoder

    def load(self, folder: Path) -> Embeddings:
        return Embeddings.load(folder)


@dataclass(frozen=True)
class ProductEmbeddings(EmbeddingsArtifact):
    data: Artifact[Dataset]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        encoder, catalogue = self.encoder, runtime.get(self.data).catalogue
        texts: list[str] = []
        for batch in catalogue.texts(encoder.fields, encoder.separator):
            texts.extend(encoder.product_prefix + text for text in batch)
        return encode_resumably(encoder, texts, folder, runtime, "products")


@dataclass(frozen=True)
class QueryEmbeddings(EmbeddingsArtifact):
    data: Artifact[Dataset]
    split: str
    query: QueryProcessor

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        texts = self.query.process(runtime.get(self.data).queries(self.split).texts)
        texts = [self.encoder.query_prefix + text for text in texts]
        return encode_resumably(self.encoder, texts, folder, runtime, "queries")


def encode_resumably(
    encoder: Encoder, texts: list[str], folder: Path, runtime: Runtime, what: str
) -> dict[str, Any]:
    """Write N×D vectors into `folder`, shard by shard; shards that are there are kept.

    Texts are sorted by length over the whole collection, so a shard's texts are about as long
    as each other and hardly anything is padded. A shard counts once its name is in the
    journal, which is written after the shard's rows have reached the file.
    """
    live = encoder.live(runtime)
    order = np.argsort(live.lengths(texts), kind="stable")[::-1]
    path, journal = folder / "vectors.npy", folder / "journal.txt"
    done: set[int] = set()
    shape = (len(texts), live.dimensions)
    if path.exists() and journal.exists():
        done = {int(line) for line in journal.read_text().split()}
        vectors = np.lib.format.open_memmap(path, mode="r+")
        if vectors.shape != shape:  # another vocabulary than before: start again
            done = set()
    if not done:
        vectors = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        journal.write_text("")
    starts = range(0, len(texts), SHARD)
    kept = sum(len(order[s : s + SHARD]) for s in starts if s // SHARD in done)
    if kept:
        runtime.say(f"resumed: {kept:,} of {len(texts):,} {what} were already encoded")
    with runtime.progressing(f"encoding {what}", len(texts)) as advance:
        advance(kept)
        for start in starts:
            if start // SHARD in done:
                continue
            rows = order[start : start + SHARD]
            vectors[rows] = live.encode([texts[row] for row in rows])
            vectors.flush()
            with journal.open("a") as handle:
                handle.write(f"{start // SHARD}\n")
            advance(len(rows))
    if not np.isfinite(vectors).all():
        raise RuntimeError(f"{encoder.label()}: some vectors are not finite")
    del vectors
    journal.unlink()
    meta = {"encoder": encoder.fingerprint}
    (folder / "embeddings.json").write_text(json.dumps(meta), encoding="utf-8")
    return {"shape": list(shape), "resumed": kept}
