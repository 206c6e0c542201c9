"""The tokenizer role: fit on a catalogue's vectors, codes for its products, a health report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from neurosearch.collisions.base import Collisions
from neurosearch.collisions.keep import Keep
from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.machine import log
from neurosearch.core.recipe import Recipe
from neurosearch.core.runtime import Runtime
from neurosearch.core.semantic_ids import SemanticIds
from neurosearch.core.types import Dataset, places_of
from neurosearch.core.vectors import Embeddings
from neurosearch.encoder.base import Encoder
from neurosearch.encoder.sentence import Sentence
from neurosearch.tokenizer.thresholds import Thresholds


class Quantizer(Protocol):
    """A fitted tokenizer. `sizes`: codes of each level."""

    sizes: tuple[int, ...]

    def assign(self, vectors: np.ndarray, known: bool = False) -> np.ndarray:
        """N×L int32 codes; `known` where the vectors are those it was fitted on, in order.

        Args:
            vectors: N×D float32.
            known: whether these are the vectors that it was fitted on, in order.

        Returns:
            N×L int32.
        """

    def decode(self, codes: np.ndarray) -> Iterator[np.ndarray]:
        """For each level the N×D vectors that the codes up to it stand for; none where codes
        stand for nothing.

        Args:
            codes: N×L.

        Returns:
            An iterator of N×D float32, one a level.
        """

    def costs(self, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """N×K costs of each last code, the codes before it kept (see `Collisions.moves`).

        Args:
            vectors: N×D float32.
            codes: N×L, what `assign` gave them.

        Returns:
            N×K float32.
        """


@dataclass(frozen=True)
class SemanticTokenizer(Recipe):
    """Base of tokenizers.

    Attributes:
        encoder: whose product vectors are tokenized.
        levels, codes: L codes of K each (at most, where a method decides itself).
        collisions: policy for products of one ID.
        thresholds: of the health report's verdict.
    """

    encoder: Encoder = field(default_factory=Sentence)
    levels: int = setting(4, least=1)
    codes: int = setting(256, least=2)
    collisions: Collisions = field(default_factory=Keep)
    thresholds: Thresholds = field(default_factory=Thresholds)
    seed: int = 0

    has_costs: ClassVar[bool] = True
    admits: ClassVar[bool] = True  # new products get codes that there are

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.collisions.moves and not self.has_costs:
            name, policy = type(self).__name__, type(self.collisions).__name__
            raise self.error(
                "collisions", f"is {policy}, which moves codes, and {name} can't say where"
            )

    def fit(self, vectors: np.ndarray, folder: Path, runtime: Runtime) -> dict[str, Any]:
        """Learn the codes.

        Args:
            vectors: N×D of the catalogue's products.
            folder: of the artifact, where what was learnt is written.
            runtime: devices, threads, progress and the store of artifacts.

        Returns:
            Details for the manifest.
        """
        raise TypeError(f"{type(self).__name__} does not say how it is fitted")

    def quantizer(self, folder: Path) -> Quantizer:
        """What `fit` wrote, loaded.

        Args:
            folder: a complete one.

        Returns:
            What assigns codes.
        """
        raise TypeError(f"{type(self).__name__} does not say how it assigns codes")

    def fitted(self, data: Artifact[Dataset]) -> Artifact[Quantizer]:
        """The tokenizer fitted on the catalogue.

        Args:
            data: the data set, or a view of it.

        Returns:
            The fitted tokenizer as an artifact.
        """
        return self.fit_on(view.before(data))

    def fit_on(self, data: Artifact[Dataset]) -> Artifact[Quantizer]:
        """The tokenizer fitted on the products of `data` itself (`fitted` says of which).

        Args:
            data: the data set, or a view of it.

        Returns:
            The fitted tokenizer as an artifact.
        """
        # Neither the policy nor the verdict changes what is learnt.
        plain = replace(self, collisions=Keep(), thresholds=Thresholds())
        return FittedTokenizer(plain, self.encoder.product_embeddings(data))

    def semantic_ids(self, data: Artifact[Dataset]) -> Artifact[SemanticIds]:
        """The catalogue's IDs, after the collision policy.

        Args:
            data: the data set, or a view of it.

        Returns:
            The IDs as an artifact, by row of the catalogue.

        Raises:
            InputError: the catalogue grew, and this tokenizer has no code for a new product.
        """
        embeddings = self.encoder.product_embeddings(data)
        if view.before(data) is not data:  # the products before keep their IDs
            earlier = view.states(data)[-1]
            if not self.admits:
                raise InputError(
                    f"tokenizer={self.label()} has no code for a new product: say "
                    "data.models=retrained, or take another tokenizer"
                )
            parts = view.products(earlier), view.products(data)
            return AdmittedIds(
                self.fitted(data), embeddings, self.collisions, self.semantic_ids(earlier), *parts
            )
        return CatalogueIds(self.fitted(data), embeddings, self.collisions)

    def unseen(self, data: Artifact[Dataset], vectors: np.ndarray, runtime: Runtime) -> np.ndarray:
        """N×L IDs of products that the catalogue doesn't have, without fitting anything anew.

        Args:
            data: that the tokenizer was fitted on.
            vectors: N×D float32, of the tokenizer's encoder.
            runtime: devices, threads, progress and the store of artifacts.

        Returns:
            N×L int32.
        """
        quantizer, ids = runtime.get(self.fitted(data)), runtime.get(self.semantic_ids(data))
        return admitted(vectors, quantizer, ids, self.collisions)


def admitted(
    vectors: np.ndarray, quantizer: Quantizer, ids: SemanticIds, collisions: Collisions
) -> np.ndarray:
    """IDs of products beside those of a catalogue, which stay as they are.

    Args:
        vectors: N×D float32 of the products.
        quantizer: fitted on the catalogue.
        ids: of the catalogue's products.
        collisions: the policy.

    Returns:
        N×L int32.
    """
    codes = quantizer.assign(vectors)
    costs = quantizer.costs(vectors, codes) if collisions.moves else None
    return collisions.admit(ids, codes, costs)


@dataclass(frozen=True)
class FittedTokenizer(Artifact[Quantizer]):
    kind: ClassVar[str] = "tokenizer"
    resumable: ClassVar[bool] = True
    tokenizer: SemanticTokenizer
    embeddings: Artifact[Embeddings]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        vectors = runtime.get(self.embeddings).vectors
        if len(vectors) < 2:
            raise InputError("tokenizer: a catalogue of two products or more is needed")
        return self.tokenizer.fit(vectors, folder, runtime)

    def load(self, folder: Path) -> Quantizer:
        return self.tokenizer.quantizer(folder)


@dataclass(frozen=True)
class CatalogueIds(Artifact[SemanticIds]):
    """codes.npy (int32) and the sizes of the levels."""

    kind: ClassVar[str] = "semantic_ids"
    fitted: Artifact[Quantizer]
    embeddings: Artifact[Embeddings]
    collisions: Collisions

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        import torch

        torch.set_num_threads(runtime.cpu_threads)
        quantizer, vectors = runtime.get(self.fitted), runtime.get(self.embeddings).vectors
        start = time.perf_counter()
        codes = quantizer.assign(vectors, known=True)
        assigned = time.perf_counter()
        plain = SemanticIds(codes, quantizer.sizes, len(quantizer.sizes))

        def costs(rows: np.ndarray) -> np.ndarray:
            return quantizer.costs(np.asarray(vectors[rows]), codes[rows])

        ids = self.collisions.resolve(plain, costs if self.collisions.moves else None)
        ids.save(folder)
        policy = time.perf_counter() - assigned
        left = int((np.bincount(ids.keys()) > 1).sum())
        if self.collisions.promises and left:
            log.warning("%d IDs still have several products: their prefixes are full", left)
        counts = {"before": len(np.unique(plain.keys())), "after": len(np.unique(ids.keys()))}
        timed = {"assign seconds": assigned - start, "policy seconds": policy}
        return {"distinct": counts, **{name: round(value, 3) for name, value in timed.items()}}

    def load(self, folder: Path) -> SemanticIds:
        return SemanticIds.load(folder)


@dataclass(frozen=True)
class AdmittedIds(CatalogueIds):
    """IDs of a catalogue that grew: those before stay, and new products get IDs as well.

    Files as `CatalogueIds`. The codes' vectors, and how many codes there are, stay too.
    """

    ids: Artifact[SemanticIds]
    earlier: Artifact[Dataset]
    now: Artifact[Dataset]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        known, quantizer = runtime.get(self.ids), runtime.get(self.fitted)
        rows = places_of(runtime.get(self.now).catalogue.ids, "product_id", "row")
        older = runtime.get(self.earlier).catalogue.ids.to_frame("product_id")
        place = older.join(rows, on="product_id", how="left", maintain_order="left")["row"]
        codes = np.zeros((rows.height, known.codes.shape[1]), dtype=np.int32)
        codes[place.to_numpy()] = known.codes
        new = np.setdiff1d(np.arange(rows.height), place.to_numpy())
        if len(new):
            vectors = np.asarray(runtime.get(self.embeddings).vectors[new])
            codes[new] = admitted(vectors, quantizer, known, self.collisions)
        if (codes.max(axis=0) >= np.array(known.sizes)).any():
            policy = type(self.collisions).__name__
            raise InputError(
                f"tokenizer.collisions={policy} gives new products codes that no model was trained "
                "with: say data.models=retrained, or take collisions=keep"
            )
        ids = SemanticIds(codes, known.sizes, known.semantic)
        ids.save(folder)
        held = np.isin(ids.keys()[new], ids.keys()[place.to_numpy()]).mean() if len(new) else 0.0
        return {"new products": len(new), "share of them with an ID of others": round(held, 4)}
