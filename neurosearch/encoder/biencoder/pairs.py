"""Contrastive training batches: pairs, hard negatives, labels, the false-negative mask.

What step s of seed r sees is a function of (r, s): a permutation of all positive pairs an epoch,
and negatives drawn for that step. So data order survives a kill without any state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
import torch
from torch import Tensor

from neurosearch.core.errors import InputError
from neurosearch.core.ragged import offsets_of
from neurosearch.encoder.biencoder.generated import plain
from neurosearch.loss.base import Targets
from neurosearch.negatives.base import NegativeLists


@dataclass
class TrainingPairs:
    """Judgments of the train split as arrays.

    Attributes:
        query, row: of the positive pairs.
        products: how many there are.
        keys, shares: all judged pairs as query·N + row, ascending, and their share of the gain.
        title_of: product row to the number of its normalised title.
        query_of: query to the number of its normalised text.
        positive_share: from this share on a judged product is relevant.
        teacher: keys and scores of a teacher's run, or None.
    """

    query: np.ndarray
    row: np.ndarray
    products: int
    keys: np.ndarray
    shares: np.ndarray
    title_of: Tensor
    query_of: Tensor
    positive_share: float
    teacher: tuple[np.ndarray, np.ndarray] | None = None

    @classmethod
    def of(
        cls,
        graded: pl.DataFrame,
        titles: Sequence[str],
        queries: Sequence[str],
        positive_share: float,
        teacher: pl.DataFrame | None = None,
    ) -> TrainingPairs:
        """From `graded_pairs`. Raises InputError where nothing is a positive."""
        good = graded.filter(pl.col("share") >= positive_share)
        if good.is_empty():
            message = f"no train judgment is worth {positive_share} of the largest gain or more"
            raise InputError(f"encoder.positive_share: {message}")
        taught = None
        if teacher is not None:
            ordered = teacher.with_columns(key=pl.col("query") * len(titles) + pl.col("row"))
            ordered = ordered.sort("key")
            taught = ordered["key"].to_numpy(), ordered["score"].cast(pl.Float32).to_numpy()
        return cls(
            query=good["query"].to_numpy(),
            row=good["row"].to_numpy(),
            products=len(titles),
            keys=(graded["query"] * len(titles) + graded["row"]).to_numpy(),
            shares=graded["share"].cast(pl.Float32).to_numpy(),
            title_of=_numbers(titles),
            query_of=_numbers(queries),
            positive_share=positive_share,
            teacher=taught,
        )

    def to(self, device: torch.device) -> TrainingPairs:
        """A copy whose targets are computed on `device`."""
        return replace(self, title_of=self.title_of.to(device), query_of=self.query_of.to(device))

    def targets(
        self,
        queries: np.ndarray,
        rows: np.ndarray,
        mask: bool,
        others: np.ndarray | None = None,
    ) -> Targets:
        """What is known of the B×M pairs; row i < B is the own positive of query i.

        `others`: queries of the batch that are left out, whose own positives come next.
        `mask` is the false-negative mask: a pair is refused as a negative where its product,
        that product's normalised title or the query's text equals that of a positive pair, or where
        people judged it relevant.
        """
        share = self._of_pairs(self.keys, self.shares, queries, rows)
        is_own = torch.eye(len(queries), len(rows), dtype=torch.bool, device=share.device)
        taught = None
        if self.teacher is not None:
            taught = self._of_pairs(*self.teacher, queries, rows)
        if not mask:
            return Targets(is_own, torch.zeros_like(is_own), share, taught)
        positive = (share.nan_to_num() >= self.positive_share) | is_own
        device = share.device
        titles = self.title_of[torch.from_numpy(rows).to(device)]
        texts = self.query_of[torch.from_numpy(queries).to(device)]
        refused = titles[: len(queries), None] == titles[None, :]
        asked = queries if others is None else np.concatenate([queries, others])
        owners = self.query_of[torch.from_numpy(asked).to(device)]
        refused[:, : len(asked)] |= texts[:, None] == owners[None, :]
        return Targets(positive, refused & ~positive, share, taught)

    def _of_pairs(
        self, keys: np.ndarray, values: np.ndarray, queries: np.ndarray, rows: np.ndarray
    ) -> Tensor:
        """B×M values of keyed pairs, NaN where a pair has none.

        Looks up what is known of the queries, which is much less than all pairs.
        """
        shown, column = np.unique(rows, return_inverse=True)
        place = np.full(self.products, -1)
        place[shown] = np.arange(len(shown))
        begin, end = (np.searchsorted(keys, (queries + n) * self.products) for n in (0, 1))
        counts = end - begin
        known = np.arange(counts.sum()) + np.repeat(begin - offsets_of(counts)[:-1], counts)
        line = np.repeat(np.arange(len(queries)), counts)
        found = place[keys[known] - queries[line] * self.products]
        line, known, found = (part[found >= 0] for part in (line, known, found))
        device = self.title_of.device
        whole = torch.full((len(queries), len(shown)), torch.nan, device=device)
        at = tuple(torch.from_numpy(numbers).to(device) for numbers in (line, found))
        whole[at] = torch.from_numpy(values[known]).to(device)
        return whole[:, torch.from_numpy(column).to(device)]


def _numbers(texts: Sequence[str]) -> Tensor:
    return _tensor(plain(pl.Series(texts)).rank("dense").cast(pl.Int64))


def _tensor(values: pl.Series) -> Tensor:
    return torch.from_numpy(values.to_numpy(writable=True))


@dataclass
class PairBatches:
    """Which pairs and hard negatives each of the `steps` has.

    Attributes:
        judged: how many of the pairs people judged, the first ones; None for all. The others'
            queries were generated.
        generated_share: of a batch; 1: generated pairs alone.
        cluster: of each pair; batches are then filled cluster by cluster.
    """

    pairs: TrainingPairs
    lists: list[tuple[int, NegativeLists]]
    batch_size: int
    steps: int
    seed: int
    judged: int | None = None
    generated_share: float = 0.0
    cluster: np.ndarray | None = None

    @property
    def parts(self) -> list[tuple[int, int, int]]:
        """Of each part of a batch: its first pair, how many there are, and how many it draws."""
        total = len(self.pairs.query)
        judged = total if self.judged is None else self.judged
        made = round(self.batch_size * self.generated_share)
        wanted = [(0, judged, self.batch_size - made), (judged, total - judged, made)]
        return [(first, count, min(n, count)) for first, count, n in wanted if n and count]

    @property
    def steps_per_epoch(self) -> int:
        """Of an epoch over the first part: judged pairs, where there are any."""
        _, count, drawn = self.parts[0]
        return max(1, count // drawn)

    def draw(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """B queries, and M product rows: their own positives, then hard negatives."""
        pairs = self.pairs
        chosen = np.concatenate([self._drawn(step, number) for number in range(len(self.parts))])
        queries, positives = pairs.query[chosen], pairs.row[chosen]
        rng = np.random.default_rng([self.seed, 1, step])
        drawn = [positives]
        for count, lists in self.lists:
            rows = lists.draw(queries, count, rng)
            random = rng.integers(0, pairs.products, rows.shape)
            drawn.append(np.where(rows >= 0, rows, random).ravel())
        return queries, np.concatenate(drawn)

    def _drawn(self, step: int, number: int) -> np.ndarray:
        """Pairs of a part of a step's batch."""
        first, count, size = self.parts[number]
        epoch, within = divmod(step, max(1, count // size))
        if self._permuted.get(number, (-1,))[0] != epoch:
            rng = np.random.default_rng([self.seed, 3 * number, epoch])
            self._permuted[number] = epoch, first + self._order(first, count, size, rng)
        return self._permuted[number][1][within * size : (within + 1) * size]

    def _order(self, first: int, count: int, size: int, rng: np.random.Generator) -> np.ndarray:
        """An epoch's order of a part's pairs."""
        order = rng.permutation(count)
        if self.cluster is None:
            return order
        # Clusters in a random order, whole ones beside each other; then batches in a random order.
        mine = self.cluster[first : first + count]
        place = rng.permutation(int(mine.max()) + 1)
        order = order[np.argsort(place[mine[order]], kind="stable")]
        whole = len(order) // size
        batches = order[: whole * size].reshape(whole, size)
        return np.concatenate([batches[rng.permutation(whole)].ravel(), order[whole * size :]])

    _permuted: dict[int, tuple[int, np.ndarray]] = field(
        default_factory=dict, init=False, repr=False
    )


CLUSTER = 64  # pairs of a cluster, on average


def clusters(vectors: np.ndarray) -> np.ndarray:
    """Clusters of pairs by the vectors of their products.

    Args:
        vectors: P×D float32.

    Returns:
        P int64 numbers of clusters of about 64 pairs.
    """
    import faiss

    count = max(1, len(vectors) // CLUSTER)
    shown = np.ascontiguousarray(vectors, dtype=np.float32)
    if count == 1:
        return np.zeros(len(vectors), dtype=np.int64)
    means = faiss.Kmeans(shown.shape[1], count, niter=10, seed=1, min_points_per_centroid=1)
    means.train(shown)
    _, nearest = means.index.search(shown, 1)
    found: np.ndarray = nearest[:, 0]
    return found
