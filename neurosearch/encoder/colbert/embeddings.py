"""Vectors of tokens as artifacts: texts in, whole shards out, products' pooled where asked.

Pooling merges a product's vectors into a fraction of them (Clavié et al. 2024): Ward clusters by
cosine, each replaced by its mean.
"""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import bounds
from neurosearch.core.digests import content
from neurosearch.core.distributed import barrier, world
from neurosearch.core.query import QueryProcessor
from neurosearch.core.ragged import offsets_of
from neurosearch.core.recipe import Recipe
from neurosearch.core.runtime import Runtime
from neurosearch.core.shards import SHARD, Parts
from neurosearch.core.types import Dataset
from neurosearch.core.vectors import TokenEmbeddings
from neurosearch.nn.pretrained import weights_digest


@dataclass(frozen=True)
class TokenShape(Recipe):
    """Attributes:
    model: any BERT-like encoder.
    dimensions: of a token's vector; null for the network's width.
    markers: of queries and of products, tokens that the vocabulary has; null for none.
    expansion: queries are filled up with [MASK] to `query_max_length`; attend_expansion: real
        tokens see them.
    skip_punctuation: of products.
    """

    dimensions: int | None = field(metadata=bounds(least=1))
    query_max_length: int = field(metadata=bounds(least=4))
    product_max_length: int = field(metadata=bounds(least=4))
    markers: tuple[str | None, ...]
    expansion: bool
    attend_expansion: bool
    skip_punctuation: bool
    model: str = content(weights_digest)

    @property
    def max_lengths(self) -> tuple[int, int]:
        """Of queries, of products."""
        return self.query_max_length, self.product_max_length

    def live(self, weights: Path | None, precision: str, runtime: Runtime) -> LiveTokens:
        """The network on the runtime's device, with its trained weights."""
        assert weights is not None, "a trained encoder is loaded with its weights"
        return TrainedTokens(self, weights, precision, runtime)


def load_tower(shape: TokenShape, weights: Path | None, seed: int = 0) -> Any:
    """A TokenTower from the pretrained model, or from the trained `weights` folder."""
    import torch

    from neurosearch.encoder.colbert.network import TokenTower

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tower = TokenTower(shape)
    if weights is not None:
        from safetensors.torch import load_model

        load_model(tower, str(weights / "towers.safetensors"))
    return tower


class LiveTokens(Protocol):
    """A loaded encoder of tokens."""

    device: Any

    def encode(self, texts: list[str], side: int) -> tuple[np.ndarray, np.ndarray]:
        """S×D float32 vectors of all texts' scored tokens and N+1 offsets.

        `side`: 0 for queries, 1 for products.
        """


class TrainedTokens:
    """A trained tower; texts to token vectors."""

    def __init__(self, shape: TokenShape, weights: Path, precision: str, runtime: Runtime) -> None:
        import torch

        self.device = runtime.torch_device()
        self._half = precision == "bf16"
        kind = torch.bfloat16 if self._half else torch.float32
        self.tower = load_tower(shape, weights).to(self.device, kind).eval()
        self._budget = runtime.batch_budget(self.device)

    def encode(self, texts: list[str], side: int) -> tuple[np.ndarray, np.ndarray]:
        import torch

        tokens = self.tower.tokens(texts, side)
        with torch.inference_mode():
            ragged = self.tower(tokens, side, self._budget, self.device, self._half)
        vectors: np.ndarray = ragged.vectors.cpu().numpy()
        return vectors, ragged.offsets


@dataclass(frozen=True)
class TokensArtifact(Artifact[TokenEmbeddings]):
    """vectors.npy (S×D float16), offsets.npy, and the encoder's name."""

    kind: ClassVar[str] = "token_embeddings"
    resumable: ClassVar[bool] = True
    shape: Any  # a recipe with `live`: a TokenShape, or a published model
    trained: Artifact[Path] | None
    identity: str
    precision: str
    data: Artifact[Dataset]

    def encode(
        self, texts: list[str], side: int, pool: int, folder: Path, runtime: Runtime
    ) -> dict[str, Any]:
        """Write the vectors of all texts, shard by shard; whole shards of a kill are kept."""
        weights = None if self.trained is None else runtime.get(self.trained)
        live = self.shape.live(weights, self.precision, runtime)
        parts, start = Parts(folder), time.perf_counter()
        with runtime.progressing("encoding tokens", len(texts)) as advance:
            for number, first in enumerate(range(0, len(texts), SHARD)):
                if parts.missing(number):
                    vectors, offsets = live.encode(texts[first : first + SHARD], side)
                    if pool > 1:
                        vectors, offsets = pooled(vectors, offsets, pool)
                    parts.write(number, vectors=vectors.astype(np.float16), offsets=offsets)
                advance(min(SHARD, len(texts) - first))
        barrier()
        if world()[0]:
            return {}
        offsets = offsets_of(np.concatenate([np.diff(part) for part in parts.arrays("offsets")]))
        width = next(parts.arrays("vectors")).shape[1]
        shape = (int(offsets[-1]), width)
        whole = np.lib.format.open_memmap(
            folder / "vectors.npy", mode="w+", dtype=np.float16, shape=shape
        )
        row = 0
        for vectors in parts.arrays("vectors"):
            whole[row : row + len(vectors)] = vectors
            row += len(vectors)
        del whole
        np.save(folder / "offsets.npy", offsets)
        parts.remove()
        meta = json.dumps({"encoder": self.identity})
        (folder / "embeddings.json").write_text(meta, encoding="utf-8")
        return {"shape": list(shape), "encoding seconds": round(time.perf_counter() - start, 3)}

    def load(self, folder: Path) -> TokenEmbeddings:
        return TokenEmbeddings.load(folder)


@dataclass(frozen=True)
class ProductTokens(TokensArtifact):
    spreads: ClassVar[bool] = True
    fields: tuple[str, ...]
    separator: str
    pool_factor: int

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        catalogue = runtime.get(self.data).catalogue
        texts = catalogue.all_texts(self.fields, self.separator)
        return self.encode(texts, 1, self.pool_factor, folder, runtime)


@dataclass(frozen=True)
class QueryTokens(TokensArtifact):
    split: str
    query: QueryProcessor

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        texts = runtime.get(self.data).queries(self.split).texts
        texts = self.query.reader(runtime).texts(texts)
        return self.encode(texts, 0, 1, folder, runtime)


def pooled(vectors: np.ndarray, offsets: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Merge each text's vectors into ceil(n / factor) unit means of Ward clusters (Clavié et al.
    2024).

    Args:
        vectors: S×D unit vectors of all texts, one text after another.
        offsets: N+1 places where texts begin.
        factor: how many vectors become one.

    Returns:
        The pooled vectors and their offsets.
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    parts, counts = [], []
    for begin, end in itertools.pairwise(offsets):
        tokens = vectors[begin:end]
        wanted = -(-len(tokens) // factor)
        if 1 < wanted < len(tokens):
            labels = fcluster(linkage(tokens, "ward"), wanted, "maxclust")
            tokens = np.stack([tokens[labels == label].mean(axis=0) for label in np.unique(labels)])
        elif len(tokens):
            tokens = tokens if wanted == len(tokens) else tokens.mean(axis=0, keepdims=True)
        length = np.linalg.norm(tokens, axis=1, keepdims=True)
        parts.append(tokens / np.maximum(length, 1e-9))
        counts.append(len(tokens))
    return np.concatenate(parts), offsets_of(counts)
