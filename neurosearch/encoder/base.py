"""The encoder role: texts to unit vectors, as artifacts for batches and live for single queries."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.digests import digest
from neurosearch.core.distributed import world
from neurosearch.core.errors import InputError
from neurosearch.core.exportable import Exportable
from neurosearch.core.query import QueryProcessor
from neurosearch.core.recipe import Recipe
from neurosearch.core.runtime import Runtime
from neurosearch.core.shards import BLOCK, SHARD, STORED, Shards, blocks_of
from neurosearch.core.types import Dataset, check_fields
from neurosearch.core.vectors import Embeddings


class LiveEncoder(Protocol):
    """A loaded encoder of queries. A class that inherits from it needs `dimensions`, `encode`."""

    dimensions: int

    def for_products(self) -> LiveEncoder:
        """The encoder of products: itself, unless the two have towers of their own.

        Returns:
            The same network with what is particular to products.
        """
        return self

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        """N int64: how long each text is to the encoder (tokens), for sorting and packing.

        Args:
            texts: N texts.

        Returns:
            N int64.
        """
        return np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """N×D float32 vectors that are compared by inner product, in the order of `texts`.

        Args:
            texts: N texts.

        Returns:
            N×D float32.
        """
        raise TypeError(f"{type(self).__name__} does not say how it encodes")

    def stream(self, collections: Iterable[Sequence[str]]) -> Iterator[np.ndarray]:
        """`encode` of each collection; the next one may be prepared while one is encoded.

        Args:
            collections: lists of texts.

        Returns:
            An iterator of N×D float32, one for each collection.
        """
        return map(self.encode, collections)


@dataclass(frozen=True)
class Encoder(Recipe):
    """Base of encoders.

    Attributes:
        fields: of a product, joined by `separator` into the text that is encoded.
        query_prefix, product_prefix: before every text; None for the prompts that the model's
            folder names, if any.
        stored: numbers of products' vectors: `float` (4 bytes) or `half` (2). Queries are floats.
    """

    fields: tuple[str, ...] = ("title",)
    separator: str = " "
    query_prefix: str | None = None
    product_prefix: str | None = None
    stored: str = setting("float", choices=tuple(STORED))

    keeps_half: ClassVar[bool] = True  # it can store half-precision vectors
    has_network: ClassVar[bool] = False  # that a generator can read with (see `tower`)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields("encoder.fields", self.fields)
        if self.stored != "float" and not self.keeps_half:
            raise self.error("stored", f"must be float for {type(self).__name__}")

    @property
    def reads_words(self) -> bool:
        """Whether a live query, which is words, can be encoded."""
        return True

    def check(self, runtime: Runtime) -> None:
        """Raise InputError for what can be known to fail before anything is encoded.

        Args:
            runtime: devices, threads, progress and the store of artifacts.
        """

    def live(self, runtime: Runtime, weights: Path | None = None) -> LiveEncoder:
        """The loaded encoder, without prefixes; `weights` where it was trained (see `trained`).

        Args:
            runtime: devices, threads, progress and the store of artifacts.
            weights: the folder of trained weights; None for the model as it was published.

        Returns:
            The encoder on the runtime's device.

        Raises:
            InputError: its weights cannot be loaded.
        """
        raise TypeError(f"{type(self).__name__} does not say how it encodes")

    def loaded(self, runtime: Runtime, data: Artifact[Dataset]) -> LiveEncoder:
        """The encoder as it is after training on `data`, for live queries.

        Args:
            runtime: devices, threads, progress and the store of artifacts.
            data: that it was trained on.

        Returns:
            The encoder with its prefixes, of queries.
        """

        def load() -> LiveEncoder:
            trained = self.trained(data)
            weights = None if trained is None else runtime.get(trained)
            return self.prefixed(self.live(runtime, weights))

        shared = runtime.encoders
        return load() if shared is None else shared.encoder(self.identity(data), load)

    def prefixed(self, live: LiveEncoder) -> LiveEncoder:
        """`live` with this encoder's prefixes before every text of its side.

        Args:
            live: the encoder without prefixes.

        Returns:
            The encoder with them; `live` itself where both are empty.
        """
        prefixes = self.prefixes
        return Prefixed(live, prefixes) if any(prefixes) else live

    def prompts(self) -> tuple[str, str]:
        """What the model's authors put before queries, and before products.

        Returns:
            Query prompt and product prompt.
        """
        return "", ""

    @property
    def prefixes(self) -> tuple[str, str]:
        """What is put before queries, and before products."""
        return resolved_prefixes((self.query_prefix, self.product_prefix), self.prompts)

    def tower(self, weights: Path | None = None) -> Any:
        """The network of queries (a TextTower), for a model that reads on from its states.

        Args:
            weights: the folder of trained weights; None for the model as it was published.

        Returns:
            A torch module.
        """
        raise TypeError(f"{type(self).__name__} has no network")

    def trained(self, data: Artifact[Dataset]) -> Artifact[Path] | None:
        """The folder of what training on `data` gave; None for an encoder used as it is.

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
        """Names the vector space: two encoders' vectors may meet only if this is the same.

        Args:
            data: that it was trained on.

        Returns:
            A hex digest.
        """
        trained = self.trained(data)
        if trained is None:
            return self.fingerprint
        return digest([self.fingerprint, trained.artifact_fingerprint])

    def product_embeddings(self, data: Artifact[Dataset]) -> Artifact[Embeddings]:
        """N×D vectors of the catalogue's products.

        Args:
            data: whose products are encoded.

        Returns:
            The vectors as an artifact, by row of the catalogue.
        """
        return ProductEmbeddings(self, self.trained(data), view.products(data))

    def query_embeddings(
        self, data: Artifact[Dataset], split: str, query: QueryProcessor
    ) -> Artifact[Embeddings]:
        """Q×D vectors of a split's processed queries.

        Args:
            data: whose queries are encoded.
            split: `train`, `dev` or `test`.
            query: how the query texts are processed first.

        Returns:
            The vectors as an artifact, in the split's order.
        """
        return QueryEmbeddings(
            self, self.trained(data), view.with_queries(data, split), split, query
        )


def resolved_prefixes(
    wanted: tuple[str | None, str | None], prompts: Callable[[], tuple[str, str]]
) -> tuple[str, str]:
    """What is wanted, and the model's own prompt where that is None.

    Args:
        wanted: prefixes of queries and products; None for the model's own.
        prompts: gives the model's own; called only where one is None.

    Returns:
        Prefix of queries, and of products.
    """
    query, product = wanted
    if query is not None and product is not None:
        return query, product
    own = prompts()
    return own[0] if query is None else query, own[1] if product is None else product


class Prefixed(LiveEncoder):
    """A live encoder that puts a prefix before every text: one for queries, one for products."""

    def __init__(self, live: LiveEncoder, prefixes: tuple[str, str], side: int = 0) -> None:
        self._live, self._prefixes, self._side = live, prefixes, side
        self.dimensions = live.dimensions

    def for_products(self) -> LiveEncoder:
        return Prefixed(self._live.for_products(), self._prefixes, 1)

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        return self._live.lengths(self._whole(texts))

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return self._live.encode(self._whole(texts))

    def stream(self, collections: Iterable[Sequence[str]]) -> Iterator[np.ndarray]:
        return self._live.stream(self._whole(texts) for texts in collections)

    def _whole(self, texts: Sequence[str]) -> list[str]:
        return [self._prefixes[self._side] + text for text in texts]


class Leading(LiveEncoder):
    """A live encoder whose vectors are cut to their first dimensions (Matryoshka models)."""

    def __init__(self, live: LiveEncoder, dimensions: int) -> None:
        if dimensions > live.dimensions:
            reason = f"the model has {live.dimensions}"
            raise InputError(f"encoder.dimensions={dimensions}, but {reason}")
        self._live, self.dimensions = live, dimensions

    def for_products(self) -> LiveEncoder:
        return Leading(self._live.for_products(), self.dimensions)

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        return self._live.lengths(texts)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return self._cut(self._live.encode(texts))

    def stream(self, collections: Iterable[Sequence[str]]) -> Iterator[np.ndarray]:
        return map(self._cut, self._live.stream(collections))

    def _cut(self, vectors: np.ndarray) -> np.ndarray:
        kept = vectors[:, : self.dimensions]
        length = np.linalg.norm(kept, axis=1, keepdims=True)
        scaled: np.ndarray = kept / np.maximum(length, 1e-12)
        return scaled


@dataclass(frozen=True)
class EmbeddingsArtifact(Artifact[Embeddings]):
    """vectors.npy (float32, memory-mapped) and the encoder's fingerprint."""

    kind: ClassVar[str] = "embeddings"
    resumable: ClassVar[bool] = True
    encoder: Encoder
    trained: Artifact[Path] | None

    def check(self, runtime: Runtime) -> None:
        self.encoder.check(runtime)

    def live(self, runtime: Runtime) -> LiveEncoder:
        """The loaded encoder.

        Args:
            runtime: devices, threads, progress and the store of artifacts.

        Returns:
            The encoder with its prefixes.
        """
        weights = None if self.trained is None else runtime.get(self.trained)
        return self.encoder.prefixed(self.encoder.live(runtime, weights))

    def load(self, folder: Path) -> Embeddings:
        return Embeddings.load(folder)


@dataclass(frozen=True)
class ProductEmbeddings(EmbeddingsArtifact):
    spreads: ClassVar[bool] = True
    data: Artifact[Dataset]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        encoder, catalogue = self.encoder, runtime.get(self.data).catalogue
        live = self.live(runtime).for_products()
        texts = catalogue.texts(encoder.fields, encoder.separator)
        whole = Texts(len(catalogue), blocks_of_texts(texts), encoder.stored)
        return encode_resumably(
            live, encoder.identity(self.data), whole, folder, runtime, "products"
        )


@dataclass(frozen=True)
class QueryEmbeddings(EmbeddingsArtifact):
    data: Artifact[Dataset]
    split: str
    query: QueryProcessor

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        texts = runtime.get(self.data).queries(self.split).texts
        texts = self.query.reader(runtime).texts(texts)
        identity = self.encoder.identity(self.data)
        whole = Texts(len(texts), [texts])
        return encode_resumably(self.live(runtime), identity, whole, folder, runtime, "queries")


@dataclass(frozen=True)
class Texts:
    """A collection to be encoded.

    Attributes:
        count: of its texts.
        blocks: of them, in order; one is in memory at a time.
        stored: how the vectors are kept (`shards.STORED`).
    """

    count: int
    blocks: Iterable[list[str]]
    stored: str = "float"


def blocks_of_texts(batches: Iterable[list[str]]) -> Iterator[list[str]]:
    """Batches put together until they hold BLOCK texts.

    Args:
        batches: lists of texts.

    Returns:
        An iterator of longer lists.
    """
    block: list[str] = []
    for batch in batches:
        block += batch
        if len(block) >= BLOCK:
            yield block
            block = []
    if block:
        yield block


def encode_resumably(
    live: LiveEncoder, identity: str, whole: Texts, folder: Path, runtime: Runtime, what: str
) -> dict[str, Any]:
    """Write N×D vectors into `folder`, shard by shard; shards that are there are kept.

    Texts are sorted by length within a block, so a shard's texts are about as long as each other
    and hardly anything is padded.

    Args:
        live: the encoder, for this side.
        identity: that names its vector space.
        whole: N texts.
        folder: of the artifact.
        what: is encoded, for the progress: `products` or `queries`.
        runtime: devices, threads, progress and the store of artifacts.

    Returns:
        The shape and how many vectors were there before, for the manifest.

    Raises:
        InputError: all vectors are zeros, or some are not finite.
    """
    shape = (whole.count, live.dimensions)
    shards = Shards(folder, shape, whole.stored)
    rank, processes = world()
    todo: deque[tuple[int, np.ndarray]] = deque()  # what has been handed to the encoder
    kept, name = 0, type(live).__name__

    def handed() -> Iterator[list[str]]:
        nonlocal kept
        number = start = 0
        for texts in whole.blocks:
            order = np.argsort(live.lengths(texts), kind="stable")[::-1]
            for first in range(0, len(texts), SHARD):
                some = order[first : first + SHARD]
                if shards.has(number, start + some):
                    kept += len(some)
                    advance(len(some))
                elif number % processes == rank:
                    todo.append((number, start + some))
                    yield [texts[row] for row in some]
                number += 1
            start += len(texts)

    with runtime.progressing(f"encoding {what}", whole.count) as advance:
        for vectors in live.stream(handed()):
            number, rows = todo.popleft()
            if not np.isfinite(vectors).all():
                broken = "are not finite; are its weights damaged?"
                raise InputError(f"{name}: some vectors of {what} {broken}")
            shards.write(number, rows, vectors)
            advance(len(rows))
    shards.close()
    if kept:
        runtime.say(f"resumed: {kept:,} of {whole.count:,} {what} were already encoded")
    if whole.count and not any(block.any() for block in blocks_of(shards.vectors)):
        raise InputError(f"{name}: all vectors of {what} are zeros")
    if rank:
        return {}
    meta = {"encoder": identity}
    (folder / "embeddings.json").write_text(json.dumps(meta), encoding="utf-8")
    return {"shape": list(shape), "resumed": kept}


def pair_cosines(
    queries: np.ndarray, shown: np.ndarray, query: np.ndarray, row: np.ndarray
) -> np.ndarray:
    """Inner products of pairs, in slices.

    Args:
        queries: Q×D vectors.
        shown: N×D vectors of products.
        query, row: P numbers of each pair's query and product.

    Returns:
        P float32.
    """
    cosines = np.empty(len(query), dtype=np.float32)
    for start in range(0, len(query), 65_536):
        part = slice(start, start + 65_536)
        cosines[part] = np.einsum("nd,nd->n", queries[query[part]], shown[row[part]])
    return cosines
