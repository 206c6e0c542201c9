"""Pictures to vectors by a pretrained network: products by theirs, queries by theirs.

What a query's picture is comes with the data (a column `image` of its queries). Words can't be
read: `clip_text` and `aligned` are encoders that put words and pictures into one space.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.digests import content
from neurosearch.core.errors import InputError
from neurosearch.core.query import QueryProcessor
from neurosearch.core.recipe import PRECISIONS
from neurosearch.core.runtime import Runtime
from neurosearch.core.shards import SHARD, Shards
from neurosearch.core.types import Dataset
from neurosearch.core.vectors import Embeddings
from neurosearch.encoder.base import EmbeddingsArtifact, Encoder, LiveEncoder
from neurosearch.encoder.sentence import model_label
from neurosearch.nn.pretrained import weights_digest

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
    precision: of the network: `fp32` or `bf16`.
    """

    model: str = content(network_digest, default=CARRIED)
    side: int = setting(128, least=64, most=1024)
    precision: str = setting("fp32", choices=PRECISIONS)

    keeps_half: ClassVar[bool] = False

    @property
    def reads_words(self) -> bool:
        return False

    def live(self, runtime: Runtime, weights: Path | None = None) -> LiveEncoder:
        raise InputError(
            f"{self.label()} reads pictures, and live queries are words: set "
            "evaluation.latency.queries=0"
        )

    def product_embeddings(self, data: Artifact[Dataset]) -> Artifact[Embeddings]:
        return ProductPictures(self, None, view.products(data))

    def query_embeddings(
        self, data: Artifact[Dataset], split: str, query: QueryProcessor
    ) -> Artifact[Embeddings]:
        return QueryPictures(self, None, view.with_queries(data, split), split)

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
        from neurosearch.nn.vision import LivePictures

        total, shards = self.pictures(runtime)
        encoder = self.encoder
        live = LivePictures(encoder.model, encoder.side, encoder.precision, runtime)
        rows = [np.arange(n, min(n + SHARD, total)) for n in range(0, total, SHARD)]
        shape, missing = (total, live.dimensions), 0
        written, kept = Shards(folder, shape), 0
        with runtime.progressing("encoding pictures", total) as advance:
            for number, shard in enumerate(shards):
                missing += sum(not data for data in shard)
                if written.has(number, rows[number]):
                    kept += len(shard)
                else:
                    written.write(number, rows[number], live.encode(shard))
                advance(len(shard))
        written.close()
        if kept:
            runtime.say(f"resumed: {kept:,} of {total:,} pictures were already encoded")
        meta = {"encoder": self.encoder.identity(self.data)}
        (folder / "embeddings.json").write_text(json.dumps(meta), encoding="utf-8")
        if missing == total:
            raise InputError(
                f"{self.encoder.label()}: none of the {total:,} has a picture; set data.images=true"
            )
        return {"shape": list(shape), "missing": missing, "resumed": kept}


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
