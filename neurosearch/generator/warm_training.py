"""Training of `generator=warm`: smoothed codes first, then a teacher's margins of prefixes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from neurosearch.core.run import Run, numbered_pairs
from neurosearch.generator.expansion import expand
from neurosearch.generator.network import search
from neurosearch.generator.training import GeneratorModule
from neurosearch.negatives.base import NegativeLists
from neurosearch.tokenizer.codewords import CodeVectors

DEPTHS = (1, 2, 4, 8, 16, 32)  # prefixes whose margins are learnt, and the whole ID
SAMPLE = 2048  # products that the temperature of near codes is found with
TOP = 10  # of a teacher's list, from which the better one of a pair is drawn


class WarmModule(GeneratorModule):
    """`words`: what codes stand for. `vectors`: N×D of products. `taught`: train queries' lists."""

    starts_good = True

    def __init__(
        self, *parts: Any, words: CodeVectors, vectors: np.ndarray, taught: Run | None
    ) -> None:
        super().__init__(*parts)
        self.model.decoder.take(words)
        self._words, self._vectors = words, vectors
        self._heat = [self._temperature(level) for level in range(len(words.books))]
        self._taught: Taught | None = None
        if taught is not None:
            queries = self._data.queries("train").ids
            pairs = numbered_pairs(taught, queries, self._data.catalogue.ids)
            pairs = pairs.filter(pairs["rank"] <= self._recipe.candidates).sort("query", "rank")
            lists = NegativeLists.of(
                pairs["query"].to_numpy(), pairs["row"].to_numpy(), len(queries)
            )
            scores = pairs["score"].cast(float).to_numpy().astype(np.float32)
            self._taught = Taught(lists, scores, self._codes.numpy())
        self._own: np.ndarray | None = None  # Q×C rows of the model's beam, -1 padded
        self._factor: float | None = None  # a: from a teacher's scores to log-probabilities

    def _left(self, rows: np.ndarray, level: int) -> Tensor:
        """B×D of products: what the codes before a level leave over."""
        codes = self._codes[torch.from_numpy(rows).to(self._codes.device)].cpu().numpy()
        left = np.asarray(self._vectors[rows], np.float32) - self._words.decode(codes[:, :level])
        return torch.from_numpy(left)

    def _temperature(self, level: int) -> float:
        """T for which exp(-distance² / T) over codes has the wanted perplexity, on average."""
        rng = np.random.default_rng(level)
        rows = rng.choice(len(self._vectors), min(SAMPLE, len(self._vectors)), replace=False)
        book = torch.from_numpy(self._words.books[level])
        distance = torch.cdist(self._left(rows, level), book).square()
        low, high = -12.0, 4.0
        for _ in range(30):
            middle = (low + high) / 2
            shares = (-distance / float(np.exp(middle))).softmax(-1)
            entropy = -(shares * shares.clamp(min=1e-12).log()).sum(-1).mean()
            if entropy.exp() > self._recipe.perplexity:
                high = middle
            else:
                low = middle
        return float(np.exp((low + high) / 2))

    def _by_level(
        self, logits: list[Tensor], path: Tensor, query_rows: np.ndarray, rows: np.ndarray
    ) -> Tensor:
        if not self._recipe.near:
            return super()._by_level(logits, path, query_rows, rows)
        share, losses = self._recipe.near, []
        left = self._on(np.asarray(self._vectors[rows], np.float32) - self._words.mean)
        for level, values in enumerate(logits):
            book = getattr(self.model.decoder, f"book_{level}")
            with torch.no_grad():
                near = (-torch.cdist(left, book).square() / self._heat[level]).softmax(-1)
                left = left - book[path[:, level]]
            target = share * near
            target.scatter_add_(
                1, path[:, level : level + 1], torch.full_like(target[:, :1], 1 - share)
            )
            losses.append(cross_entropy(values, target))
        return torch.stack(losses)

    @property
    def _turning_point(self) -> int:
        """The step from which margins are learnt."""
        share: float = self._recipe.margin_from
        return round(share * self.steps)

    def _weight(self, step: int) -> float:
        late = self._taught is not None and step >= self._turning_point
        weight: float = self._recipe.cross_entropy if late else 1.0
        return weight

    def _more(
        self, read: tuple[Tensor, Tensor], query_rows: np.ndarray, step: int
    ) -> Tensor | None:
        """The teacher's margins, over the retrieval examples of a batch."""
        taught, first = self._taught, self._turning_point
        if taught is None or step < first or not len(query_rows):
            return None
        stretch = max(1, (self.steps - first) // max(1, self._recipe.refreshes))
        due = self._recipe.refreshes and (step - first) % stretch == 0
        if due or (self._recipe.refreshes and self._own is None):
            self._own = self._beams()
        rng = np.random.default_rng([self._recipe.schedule.seed, 2, step])
        known = np.diff(taught.lists.indptr)[query_rows] > 1
        if not known.any():
            return None
        queries = query_rows[known]
        pair = taught.pairs(queries, self._own, rng)
        keep = torch.from_numpy(np.flatnonzero(known)).to(self.device)
        memory, mask = read[0][: len(known)][keep], read[1][: len(known)][keep]
        sums = [self._prefix_sums(memory, mask, rows) for rows in pair]
        scores = [self._on(taught.best(queries, rows)) for rows in pair]
        depths = [d for d in DEPTHS if d < sums[0].shape[1]] + [sums[0].shape[1]]
        at = torch.tensor(depths, device=self.device) - 1
        mine, wanted = (sums[0] - sums[1])[:, at], (scores[0] - scores[1])[:, at]
        there = (self._codes[self._on(pair[0])] != self._codes[self._on(pair[1])]).cumsum(1)[
            :, at
        ] > 0
        if self._factor is None:
            self._factor = self._fitted_factor(taught)
        halves = 1 - 0.5 ** torch.arange(1, len(depths) + 1, device=self.device)
        halves[-1] = 1.0
        # In units of the teacher's scores, so that the weight does not depend on them.
        error = (mine / self._factor - halves * wanted).square().masked_fill(~there, 0.0)
        loss: Tensor = error.mean() * self._recipe.margin
        self.log("margins", loss.detach())
        return loss

    def _prefix_sums(self, memory: Tensor, mask: Tensor, rows: np.ndarray) -> Tensor:
        """B×L sums of the log-probabilities of products' codes, up to each level."""
        codes = self._codes[self._on(rows)]
        logits = self.model.decoder(memory, mask, codes)
        steps = [
            values.log_softmax(-1).gather(1, codes[:, level : level + 1])
            for level, values in enumerate(logits)
        ]
        return torch.cat(steps, dim=1).cumsum(1)

    def _fitted_factor(self, taught: Taught) -> float:
        """a: from differences of the teacher's scores to those of log-probabilities, by least
        squares over pairs of many train queries; the same in every process."""
        rng = np.random.default_rng([self._recipe.schedule.seed, 3])
        known = np.flatnonzero(np.diff(taught.lists.indptr) > 1)
        known = rng.permutation(known)[:SAMPLE]
        first, second = taught.pairs(known, None, rng)
        scores = taught.best(known, first)[:, -1] - taught.best(known, second)[:, -1]
        mine = []
        self.model.eval()
        with torch.inference_mode():
            for start in range(0, len(known), 256):
                part = slice(start, start + 256)
                tokens = self._batches.queries.take(known[part])
                memory, mask = self.model.read(tokens, self.device)
                sums = [self._prefix_sums(memory, mask, rows[part]) for rows in (first, second)]
                mine.append((sums[0] - sums[1])[:, -1].float().cpu().numpy())
        self.model.train()
        fit = float(np.dot(np.concatenate(mine), scores) / max(float(np.dot(scores, scores)), 1e-9))
        return max(fit, 0.1)

    def _beams(self) -> np.ndarray:
        """Q×C rows that the model as it is now finds for the train queries."""
        self.model.eval()
        trie, count = self._trie.to(self.device), self._recipe.candidates
        with torch.autocast(self.device.type, enabled=False):
            found = search(self.model, self._batches.queries, trie, count, self.device)
        self.model.train()
        buckets = trie.bucket_begin, trie.bucket_rows
        return expand(found.scores, found.nodes, buckets, count, None)[0]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # Tensors: resume points are read without anything that may hold code.
        checkpoint["own"] = None if self._own is None else torch.from_numpy(self._own)
        checkpoint["factor"] = self._factor

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        own = checkpoint["own"]
        self._own, self._factor = None if own is None else own.numpy(), checkpoint["factor"]


class Taught:
    """A teacher's lists of train queries: rows and scores, and the best score below a prefix."""

    def __init__(self, lists: NegativeLists, scores: np.ndarray, codes: np.ndarray) -> None:
        self.lists, self._codes = lists, codes
        count = int(np.diff(lists.indptr).max(initial=1))
        sizes = np.diff(lists.indptr)
        places = lists.indptr[:-1, None] + np.arange(count)
        there = np.arange(count) < sizes[:, None]
        at = np.where(there, places, 0)
        self.rows = np.where(there, lists.rows[at], -1)
        self.scores = np.where(there, scores[at], -np.inf)
        self.least = np.where(there, scores[at], np.inf).min(axis=1)

    def pairs(
        self, queries: np.ndarray, own: np.ndarray | None, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """For each query one of its first products, and one of all its candidates.

        Args:
            queries: B numbers, each with a list of two products or more.
            own: Q×C rows that the student found; None for the teacher's alone.
            rng: draws them.

        Returns:
            Two arrays of B rows.
        """
        sizes = np.diff(self.lists.indptr)[queries]
        top = (rng.random(len(queries)) * np.minimum(sizes, TOP)).astype(np.int64)
        other = (rng.random(len(queries)) * sizes).astype(np.int64)
        first, second = self.rows[queries, top], self.rows[queries, other]
        if own is not None:
            drawn = own[queries, rng.integers(0, own.shape[1], len(queries))]
            second = np.where((rng.random(len(queries)) < 0.5) & (drawn >= 0), drawn, second)
        return first, second

    def best(self, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """B×L float32: the best score of a list's products below each prefix of these IDs.

        The list's least score where the teacher found none of them.
        """
        shown = self.rows[queries]
        same = self._codes[np.maximum(shown, 0)] == self._codes[rows][:, None]
        below = np.logical_and.accumulate(same, axis=2) & (shown >= 0)[:, :, None]
        scores = np.where(below, self.scores[queries][:, :, None], -np.inf).max(axis=1)
        found: np.ndarray = np.where(
            np.isfinite(scores), scores, self.least[queries][:, None]
        ).astype(np.float32)
        return found
