"""Pictures to vectors by a pretrained network: products by theirs, queries by theirs.

What a query's picture is comes with the data (a column `image` of its queries). Words can't be
read: `clip_text` and `aligned` are encoders that put words and pictures into one space.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurosearch.artifact import Artifact, write_whole
from neurosearch.encoder.base import EmbeddingsArtifact, Encoder, LiveEncoder
from neurosearch.encoder.transformer import model_label
from neurosearch.encoder.weights import weights_digest
from neurosearch.errors import InputError
from neurosearch.query.base import QueryProcessor
from neurosearch.recipe import content, within
from neurosearch.runtime import Runtime
from neurosearch.types import Dataset, Embeddings

SHARD = 1024  # pictures that a killed encoding loses at most
CARRIED = "efficientnet-lite0"


def network_digest(model: str) -> str:
    """Digest of the weights; a package's model is known by its name."""
    return model if model == CARRIED else weights_digest(model)


@dataclass(frozen=True)
class ImageEncoder(Encoder):
    """Attributes:
    model: `efficientnet-lite0` (a package carries it), or a folder or hub name of a model with a
        vision tower (CLIP, SigLIP, ViT…).
    side: pixels that pictures are scaled to, for models that don't say so themselves.
    """

    model: str = content(network_digest, default=CARRIED)
    side: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        within("encoder.side", self.side, least=64, most=1024)

    @property
    def reads_words(self) -> bool:
        return False

    def live(self, runtime: Runtime, weights: Path | None = None) -> LiveEncoder:
        raise InputError(
            f"{self.label()} reads pictures, and live queries are words: set "
            "evaluation.latency.queries=0"
        )

    def product_embeddings(self, data: Artifact[Dataset]) -> Artifact[Embeddings]:
        return ProductPictures(self, None, data)

    def query_embeddings(
        self, data: Artifact[Dataset], split: str, query: QueryProcessor
    ) -> Artifact[Embeddings]:
        return QueryPictures(self, None, data, split)

    def label(self) -> str:
        return f"{model_label(self.model)} pictures"


@dataclass(frozen=True)
class PictureEmbeddings(EmbeddingsArtifact):
    """Of pictures in row order, a shard at a time, so that they need not fit into memory."""

    encoder: ImageEncoder
    data: Artifact[Dataset]

    def pictures(self, runtime: Runtime) -> tuple[int, Iterator[list[bytes | None]]]:
        """How many there are, and shards of them."""
        raise TypeError(f"{type(self).__name__} does not say where its pictures are")

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        from neurosearch.encoder.vision import LivePictures

        total, shards = self.pictures(runtime)
        live = LivePictures(self.encoder.model, self.encoder.side, runtime)
        path, journal = folder / "vectors.npy", folder / "journal.txt"
        done = int(journal.read_text() or 0) if path.exists() and journal.exists() else 0
        shape, missing = (total, live.dimensions), 0
        mode: Any = "r+" if done else "w+"
        vectors = np.lib.format.open_memmap(path, mode=mode, dtype=np.float32, shape=shape)
        if done:
            runtime.say(f"resumed: {done:,} of {total:,} pictures were already encoded")
        start = 0
        with runtime.progressing("encoding pictures", total) as advance:
            for shard in shards:
                missing += sum(not data for data in shard)
                rows = slice(start, start + len(shard))
                start = rows.stop
                if start > done:
                    vectors[rows] = live.encode(shard)
                    vectors.flush()
                    write_whole(journal, str(start).encode())
                advance(len(shard))
        del vectors
        journal.unlink(missing_ok=True)
        meta = {"encoder": self.encoder.identity(self.data)}
        (folder / "embeddings.json").write_text(json.dumps(meta), encoding="utf-8")
        if missing == total:
            raise InputError(f"none of the {total:,} has a picture: {self.encoder.label()}")
        return {"shape": list(shape), "missing": missing}


@dataclass(frozen=True)
class ProductPictures(PictureEmbeddings):
    def pictures(self, runtime: Runtime) -> tuple[int, Iterator[list[bytes | None]]]:
        catalogue = runtime.get(self.data).catalogue
        shards = (frame["image"].to_list() for frame in catalogue.batches(["image"], SHARD))
        return len(catalogue), shards


@dataclass(frozen=True)
class QueryPictures(PictureEmbeddings):
    split: str

    def pictures(self, runtime: Runtime) -> tuple[int, Iterator[list[bytes | None]]]:
        frame = runtime.get(self.data).queries(self.split).frame
        if "image" not in frame.columns:
            name = runtime.get(self.data).name
            raise InputError(f"the queries of data={name} have no pictures")
        shards = (part["image"].to_list() for part in frame.iter_slices(SHARD))
        return frame.height, shards
