"""ColBERT: late interaction between the token vectors of a query and of a product.

Trained as a bi-encoder is: the same pairs, negatives, mask, losses and GradCache, or by
distillation from a teacher's scores (loss=kl, loss=margin_mse; ColBERTv2, Santhanam et al. 2022).
`pool_factor` merges a product's vectors into a fraction of them (Clavié et al. 2024): Ward clusters
by cosine, each replaced by its mean.
"""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.artifact import Artifact
from neurosearch.encoder.biencoder import TrainedBiEncoder, check_training
from neurosearch.encoder.transformer import model_label
from neurosearch.encoder.weights import check_reads, weights_digest
from neurosearch.evaluation.gain import Gain
from neurosearch.loss.base import Loss
from neurosearch.loss.infonce import InfoNCE
from neurosearch.negatives.base import Negatives
from neurosearch.negatives.in_batch import InBatch
from neurosearch.processes import barrier, world
from neurosearch.query.base import QueryProcessor
from neurosearch.query.none import NoProcessing
from neurosearch.recipe import Recipe, content, digest, within
from neurosearch.retriever.base import Retriever
from neurosearch.runtime import Runtime
from neurosearch.training import Schedule
from neurosearch.types import Dataset, TokenEmbeddings, check_fields

SHARD = 2048  # texts that a killed encoding loses at most


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

    dimensions: int | None
    query_max_length: int
    product_max_length: int
    markers: tuple[str | None, ...]
    expansion: bool
    attend_expansion: bool
    skip_punctuation: bool
    model: str = content(weights_digest)

    def __post_init__(self) -> None:
        super().__post_init__()
        within("encoder.dimensions", self.dimensions, least=1)
        within("encoder.query_max_length", self.query_max_length, least=4)
        within("encoder.product_max_length", self.product_max_length, least=4)

    @property
    def max_lengths(self) -> tuple[int, int]:
        """Of queries, of products."""
        return self.query_max_length, self.product_max_length


@dataclass(frozen=True)
class ColBERT(Recipe):
    """Attributes:
    model, dimensions, *_max_length, markers, expansion, attend_expansion, skip_punctuation: see
        `TokenShape`.
    pool_factor: a product keeps one vector for so many; 1 for all.
    The rest: see `BiEncoder`.
    """

    gain: Gain = field(kw_only=True)
    model: str = content(weights_digest, default="sentence-transformers/all-MiniLM-L6-v2")
    dimensions: int | None = 128
    query_max_length: int = 32
    product_max_length: int = 64
    markers: tuple[str | None, ...] = ("[unused0]", "[unused1]")
    expansion: bool = True
    attend_expansion: bool = False
    skip_punctuation: bool = True
    pool_factor: int = 1
    fields: tuple[str, ...] = ("title",)
    separator: str = " "
    loss: Loss = field(default_factory=InfoNCE)
    negatives: Negatives = field(default_factory=InBatch)
    batch_size: int = 128
    chunk: int = 0
    mask: bool = True
    schedule: Schedule = field(default_factory=Schedule)
    positive_share: float = 0.66
    teacher: Retriever | None = None
    query: QueryProcessor = field(default_factory=NoProcessing)
    dev_products: int = 5_000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_training(self)
        within("encoder.pool_factor", self.pool_factor, least=1)
        check_fields("encoder.fields", self.fields)
        for name in ("query_max_length", "product_max_length"):
            check_reads(self.model, f"encoder.{name}", getattr(self, name))
        _ = self.shape

    @property
    def shape(self) -> TokenShape:
        """The network."""
        return TokenShape(
            self.dimensions,
            self.query_max_length,
            self.product_max_length,
            self.markers,
            self.expansion,
            self.attend_expansion,
            self.skip_punctuation,
            self.model,
        )

    def trained(self, data: Artifact[Dataset]) -> Artifact[Path]:
        """The network's weights after training on `data`."""
        return TrainedColBERT.of(self, data, (tuple(self.fields), self.separator, "", ""))

    def identity(self, data: Artifact[Dataset]) -> str:
        """Names the space of token vectors."""
        return digest([self.shape.fingerprint, self.trained(data).artifact_fingerprint])

    def product_tokens(self, data: Artifact[Dataset]) -> Artifact[TokenEmbeddings]:
        """Vectors of the catalogue's tokens."""
        texts = (tuple(self.fields), self.separator)
        trained, identity = self.trained(data), self.identity(data)
        return ProductTokens(self.shape, trained, data, identity, *texts, self.pool_factor)

    def query_tokens(
        self, data: Artifact[Dataset], split: str, query: QueryProcessor
    ) -> Artifact[TokenEmbeddings]:
        """Vectors of the tokens of a split's processed queries."""
        trained, identity = self.trained(data), self.identity(data)
        return QueryTokens(self.shape, trained, data, identity, split, query)

    def live(self, runtime: Runtime, data: Artifact[Dataset]) -> LiveTokens:
        """The trained network on the runtime's device."""
        return LiveTokens(self.shape, runtime.get(self.trained(data)), runtime)

    def label(self) -> str:
        name = f"ColBERT ({model_label(self.model)}, {self.loss.label()})"
        return name if self.pool_factor == 1 else f"{name}, pooled by {self.pool_factor}"


@dataclass(frozen=True)
class TrainedColBERT(TrainedBiEncoder):
    """The network's weights, curves.csv, and how the training went (in the manifest)."""

    kind: ClassVar[str] = "colbert"
    shape: Any

    def towers(self) -> Any:
        return load_tower(self.shape, None, self.schedule.seed)

    def module_class(self) -> Any:
        from neurosearch.encoder.late_training import ColBERTModule

        return ColBERTModule


def load_tower(shape: TokenShape, weights: Path | None, seed: int = 0) -> Any:
    """A TokenTower from the pretrained model, or from the trained `weights` folder."""
    import torch

    from neurosearch.encoder.token_tower import TokenTower

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tower = TokenTower(shape)
    if weights is not None:
        from safetensors.torch import load_model

        load_model(tower, str(weights / "towers.safetensors"))
    return tower


class LiveTokens:
    """A trained tower; texts to token vectors."""

    def __init__(self, shape: TokenShape, weights: Path, runtime: Runtime) -> None:
        import torch

        self.device = runtime.torch_device()
        self._half = runtime.half(self.device)
        precision = torch.bfloat16 if self._half else torch.float32
        self.tower = load_tower(shape, weights).to(self.device, precision).eval()
        self._budget = runtime.batch_budget(self.device)

    def encode(self, texts: list[str], side: int) -> tuple[np.ndarray, np.ndarray]:
        """S×D float32 vectors of all texts' scored tokens and N+1 offsets."""
        import torch

        tokens = self.tower.tokens(texts, side)
        with torch.inference_mode():
            found = self.tower(tokens, side, self._budget, self.device, self._half)
        vectors: np.ndarray = found.vectors.cpu().numpy()
        return vectors, found.offsets


@dataclass(frozen=True)
class TokensArtifact(Artifact[TokenEmbeddings]):
    """vectors.npy (S×D float16), offsets.npy, and the encoder's name."""

    kind: ClassVar[str] = "token_embeddings"
    resumable: ClassVar[bool] = True
    shape: TokenShape
    trained: Artifact[Path]
    data: Artifact[Dataset]
    identity: str

    def encode(
        self, texts: list[str], side: int, pool: int, folder: Path, runtime: Runtime
    ) -> dict[str, Any]:
        """Write the vectors of all texts, shard by shard; whole shards of a kill are kept."""
        live = LiveTokens(self.shape, runtime.get(self.trained), runtime)
        parts = folder / "parts"
        parts.mkdir(exist_ok=True)
        start = time.perf_counter()
        rank, processes = world()
        with runtime.progressing("encoding tokens", len(texts)) as advance:
            for number, first in enumerate(range(0, len(texts), SHARD)):
                path = parts / f"{number:06d}.npz"
                if number % processes == rank and not path.exists():
                    vectors, offsets = live.encode(texts[first : first + SHARD], side)
                    if pool > 1:
                        vectors, offsets = pooled(vectors, offsets, pool)
                    temporary = path.with_suffix(".tmp.npz")
                    np.savez(temporary, vectors=vectors.astype(np.float16), offsets=offsets)
                    temporary.replace(path)
                advance(min(SHARD, len(texts) - first))
        barrier()
        if rank:
            return {}
        counts = [np.diff(np.load(path)["offsets"]) for path in sorted(parts.glob("*.npz"))]
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
        width = np.load(parts / "000000.npz")["vectors"].shape[1]
        shape = (int(offsets[-1]), width)
        whole = np.lib.format.open_memmap(
            folder / "vectors.npy", mode="w+", dtype=np.float16, shape=shape
        )
        row = 0
        for path in sorted(parts.glob("*.npz")):
            part = np.load(path)["vectors"]
            whole[row : row + len(part)] = part
            row += len(part)
        del whole
        np.save(folder / "offsets.npy", offsets)
        for path in parts.glob("*"):
            path.unlink()
        parts.rmdir()
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
        texts = self.query.process(runtime.get(self.data).queries(self.split).texts)
        return self.encode(texts, 0, 1, folder, runtime)


def pooled(vectors: np.ndarray, offsets: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Each text's vectors in ceil(n / factor) clusters (Ward on unit vectors), as unit means."""
    from scipy.cluster.hierarchy import fcluster, linkage

    parts, counts = [], []
    for begin, end in itertools.pairwise(offsets):
        own = vectors[begin:end]
        wanted = -(-len(own) // factor)
        if 1 < wanted < len(own):
            labels = fcluster(linkage(own, "ward"), wanted, "maxclust")
            own = np.stack([own[labels == label].mean(axis=0) for label in np.unique(labels)])
        elif len(own):
            own = own if wanted == len(own) else own.mean(axis=0, keepdims=True)
        length = np.linalg.norm(own, axis=1, keepdims=True)
        parts.append(own / np.maximum(length, 1e-9))
        counts.append(len(own))
    return np.concatenate(parts), np.concatenate([[0], np.cumsum(counts)])
