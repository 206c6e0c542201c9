"""Token vectors, searched by MaxSim: exactly, or compressed with candidates from centroids.

Compressed as ColBERTv2 does (Santhanam et al. 2022): a vector is its nearest centroid and the
residual, each coordinate in 1, 2 or 4 bits between quantiles of residuals' coordinates. A search
(PLAID, Santhanam et al. 2022) looks up the products in the cells of the `probes` centroids nearest
to each query vector, scores them by centroids alone, leaves out centroids that no query vector
comes near (`threshold`), and decompresses the `rescored` best for exact MaxSim.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.recipe import Recipe
from neurosearch.core.runtime import Runtime
from neurosearch.core.vectors import TokenEmbeddings

BITS = (1, 2, 4)
SAMPLE = 262_144  # vectors that centroids are learnt from, at most


@dataclass(frozen=True)
class MultiVector(Recipe):
    """Attributes:
    bits: of a residual's coordinate (1, 2, 4); null for exact search over float16 vectors.
    centroids: null for 16 sqrt(S), rounded down to a power of two, of S vectors (PLAID), and no
        more than one for 39 of them.
    probes: centroids a query vector.
    threshold: cosine under which a centroid is of no interest to candidates.
    common: cells with vectors of more than this share of the products give no candidates (those
        of [CLS] and of markers are in every product), unless no others are probed.
    rescored: products that are decompressed for a query.
    """

    bits: int | None = None
    centroids: int | None = setting(None, least=1)
    probes: int = setting(4, least=1)
    threshold: float = setting(0.3, least=-1, most=1)
    common: float = setting(0.2, above=0, most=1)
    rescored: int = setting(1024, least=1)
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bits is not None and self.bits not in BITS:
            raise self.error("bits", f"must be 1, 2, 4 or null, not {self.bits}")

    def build(self, tokens: Artifact[TokenEmbeddings]) -> Artifact[Any]:
        """The index of these vectors.

        Args:
            tokens: of the products, as an artifact.

        Returns:
            The index as an artifact.
        """
        return MultiVectorIndex(self, tokens)

    def label(self) -> str:
        return "exact MaxSim" if self.bits is None else f"{self.bits} bits"


@dataclass(frozen=True)
class MultiVectorIndex(Artifact[Any]):
    """codes.npy and residuals.npy (or nothing but the name of the exact vectors); offsets.npy."""

    kind: ClassVar[str] = "multivector"
    index: MultiVector
    tokens: Artifact[TokenEmbeddings]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        tokens = runtime.get(self.tokens)
        np.save(folder / "offsets.npy", tokens.offsets)
        (folder / "index.json").write_text(json.dumps({"encoder": tokens.encoder}), "utf-8")
        if self.index.bits is None:
            np.save(folder / "vectors.npy", tokens.vectors)
        else:
            self._compress(tokens, folder, runtime)
        size = sum(f.stat().st_size for f in folder.iterdir())
        return {
            "bytes a token": round(size / max(1, len(tokens.vectors)), 2),
            "tokens": len(tokens.vectors),
        }

    def _compress(self, tokens: TokenEmbeddings, folder: Path, runtime: Runtime) -> None:
        import faiss

        recipe, total = self.index, len(tokens.vectors)
        faiss.omp_set_num_threads(runtime.cpu_threads)
        rng = np.random.default_rng(recipe.seed)
        rows = np.sort(rng.permutation(total)[:SAMPLE])
        sample = np.asarray(tokens.vectors[rows], dtype=np.float32)
        wanted = recipe.centroids or 2 ** int(np.log2(max(2.0, 16 * total**0.5)))
        count = max(1, min(wanted, len(sample) // 39))
        width = sample.shape[1]
        clustering = faiss.Kmeans(width, count, niter=8, seed=recipe.seed + 1, spherical=True)
        clustering.train(sample)
        centroids = np.asarray(clustering.centroids, dtype=np.float32)
        nearest = faiss.IndexFlatIP(width)
        nearest.add(centroids)
        left = sample - centroids[nearest.search(sample, 1)[1][:, 0]]
        # Buckets between quantiles, each coordinate its own; its value is the bucket's mean.
        assert recipe.bits is not None
        levels = 2**recipe.bits
        cuts = np.quantile(left, np.arange(1, levels) / levels, axis=0).astype(np.float32)
        middles = np.quantile(left, (np.arange(levels) + 0.5) / levels, axis=0).astype(np.float32)
        codes = np.empty(total, dtype=np.int32)
        per_byte = 8 // recipe.bits
        packed_width = -(-width // per_byte)
        packed = np.lib.format.open_memmap(
            folder / "residuals.npy", mode="w+", dtype=np.uint8, shape=(total, packed_width)
        )
        with runtime.progressing("compressing tokens", total) as advance:
            for start in range(0, total, 65_536):
                part = np.asarray(tokens.vectors[start : start + 65_536], dtype=np.float32)
                centroids_of = nearest.search(part, 1)[1][:, 0]
                codes[start : start + len(part)] = centroids_of
                residuals = part - centroids[centroids_of]
                buckets = np.zeros(residuals.shape, dtype=np.uint8)
                for cut in cuts:
                    buckets += residuals > cut
                packed[start : start + len(part)] = pack(buckets, recipe.bits)
                advance(len(part))
        np.save(folder / "codes.npy", codes)
        np.savez(folder / "codebook.npz", centroids=centroids, middles=middles)

    def load(self, folder: Path) -> Any:
        encoder = json.loads((folder / "index.json").read_text("utf-8"))["encoder"]
        offsets = np.load(folder / "offsets.npy")
        if self.index.bits is None:
            vectors = np.load(folder / "vectors.npy", mmap_mode="r")
            return LiveExact(TokenEmbeddings(vectors, offsets, encoder))
        return LiveCompressed(self.index, folder, offsets, encoder)


def pack(buckets: np.ndarray, bits: int) -> np.ndarray:
    """N×D bucket numbers as N×⌈D·bits/8⌉ bytes, the first in the lowest bits."""
    per_byte = 8 // bits
    spare = -buckets.shape[1] % per_byte
    filled = np.pad(buckets, ((0, 0), (0, spare)))
    grouped = filled.reshape(len(buckets), -1, per_byte)
    shifts = np.arange(per_byte, dtype=np.uint8) * bits
    packed: np.ndarray = (grouped << shifts).sum(axis=2, dtype=np.uint8)
    return packed


def unpack(packed: np.ndarray, bits: int, width: int) -> np.ndarray:
    """The N×width bucket numbers of `pack`."""
    shifts = np.arange(8 // bits, dtype=np.uint8) * bits
    buckets = (packed[:, :, None] >> shifts) & (2**bits - 1)
    codes: np.ndarray = buckets.reshape(len(packed), -1)[:, :width]
    return codes


class LiveTokensIndex:
    """Base of loaded indexes of token vectors."""

    encoder: str

    def check(self, queries: TokenEmbeddings) -> None:
        """Raise InputError for vectors of another encoder than the index was built with."""
        if queries.encoder != self.encoder:
            raise InputError(
                f"the index holds vectors of encoder {self.encoder[:8]}, "
                f"but was asked with vectors of encoder {queries.encoder[:8]}"
            )


class LiveExact(LiveTokensIndex):
    """Exact MaxSim over all vectors."""

    def __init__(self, tokens: TokenEmbeddings) -> None:
        self.tokens, self.encoder = tokens, tokens.encoder
        self._ragged: dict[str, Any] = {}

    def search(
        self, queries: TokenEmbeddings, k: int, runtime: Runtime
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Q×k rows and scores, and Q counts of products that were scored."""
        from neurosearch.nn.maxsim import exact_maxsim

        self.check(queries)
        device = runtime.torch_device()
        if device.type not in self._ragged:
            self._ragged[device.type] = ragged(self.tokens, device)
        rows, scores = exact_maxsim(ragged(queries, device), self._ragged[device.type], k)
        return rows, scores, np.full(len(queries), len(self.tokens))


def ragged(tokens: TokenEmbeddings, device: Any) -> Any:
    """The vectors on a device, in float32: scores are the same numbers on a CPU and on a GPU."""
    import torch

    from neurosearch.nn.ragged import Ragged

    vectors = torch.from_numpy(np.array(tokens.vectors))
    return Ragged(vectors.to(device, torch.float32), np.asarray(tokens.offsets))


class LiveCompressed(LiveTokensIndex):
    """Centroids, inverted lists, residuals in a few bits."""

    def __init__(
        self, recipe: MultiVector, folder: Path, offsets: np.ndarray, encoder: str
    ) -> None:
        self._recipe, self.encoder, self.offsets = recipe, encoder, offsets
        stored = np.load(folder / "codebook.npz")
        self.centroids, self._middles = stored["centroids"], stored["middles"]
        self.codes = np.load(folder / "codes.npy")
        self._packed = np.load(folder / "residuals.npy", mmap_mode="r")
        # Products by centroid, each once: sorted by (centroid, product).
        owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        pairs = np.unique(self.codes.astype(np.int64) * (len(offsets) - 1) + owner)
        cell, self._members = np.divmod(pairs, len(offsets) - 1)
        self._begin = np.searchsorted(cell, np.arange(len(self.centroids) + 1))

    def vectors(self, places: np.ndarray) -> np.ndarray:
        """L×D float32 of stored vectors, decompressed, as unit vectors."""
        assert self._recipe.bits is not None
        width = self.centroids.shape[1]
        buckets = unpack(np.asarray(self._packed[places]), self._recipe.bits, width)
        decoded = self.centroids[self.codes[places]] + self._middles[buckets, np.arange(width)]
        unit: np.ndarray = decoded / np.maximum(
            np.linalg.norm(decoded, axis=1, keepdims=True), 1e-9
        )
        return unit

    def search(
        self, queries: TokenEmbeddings, k: int, runtime: Runtime
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Candidates by their cells, scored by their approximate vectors (PLAID, Santhanam et al.
        2022).

        Args:
            queries: their token vectors.
            k: products of a query.

        Returns:
            Q×k rows (int64, -1 padded), Q×k scores (float32), best first, and Q counts of
            candidates.
        """
        self.check(queries)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        counts = np.zeros(len(queries), dtype=np.int64)
        with runtime.progressing("late interaction", len(queries)) as advance:
            for query in range(len(queries)):
                documents, values, counts[query] = self._one(queries.of(query), k)
                rows[query, : len(documents)], scores[query, : len(documents)] = documents, values
                advance(1)
        return rows, scores, counts

    def _one(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, int]:
        recipe = self._recipe
        near = query @ self.centroids.T  # L×C
        probes = min(recipe.probes, near.shape[1])
        probed = np.unique(np.argpartition(-near, probes - 1, axis=1)[:, :probes])
        sizes = self._begin[probed + 1] - self._begin[probed]
        telling = probed[sizes <= recipe.common * (len(self.offsets) - 1)]
        probed = telling if len(telling) else probed
        lists = [self._members[self._begin[c] : self._begin[c + 1]] for c in probed]
        candidates = np.unique(np.concatenate(lists)) if lists else np.empty(0, np.int64)
        kept = candidates
        if len(candidates) > max(k, recipe.rescored):
            near = np.where(near.max(axis=0) >= recipe.threshold, near, 0.0)
            rough = self._maxima(near.T, candidates, self.codes)
            best = np.argpartition(-rough, max(k, recipe.rescored) - 1)[: max(k, recipe.rescored)]
            kept = candidates[best]
        lengths = self.offsets[kept + 1] - self.offsets[kept]
        places = _places(self.offsets, kept, lengths)
        similar = self.vectors(places) @ query.T
        bounds = np.cumsum(lengths) - lengths
        exact = np.maximum.reduceat(similar, bounds, axis=0).mean(axis=1) if len(kept) else lengths
        order = np.lexsort((kept, -exact))[:k]
        return kept[order], exact[order].astype(np.float32), len(candidates)

    def _maxima(self, near: np.ndarray, products: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """N: sum over query vectors of the best centroid of each product."""
        lengths = self.offsets[products + 1] - self.offsets[products]
        places = _places(self.offsets, products, lengths)
        bounds = np.cumsum(lengths) - lengths
        sums: np.ndarray = np.maximum.reduceat(near[codes[places]], bounds, axis=0).sum(axis=1)
        return sums


def _places(offsets: np.ndarray, products: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Rows of all vectors of these products."""
    starts = np.repeat(offsets[products] - (np.cumsum(lengths) - lengths), lengths)
    places: np.ndarray = starts + np.arange(int(lengths.sum()))
    return places
