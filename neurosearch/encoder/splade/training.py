"""Training of learned sparse retrieval: a bi-encoder's module with a penalty on common terms."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from neurosearch.core.errors import InputError
from neurosearch.encoder.biencoder.training import BiEncoderModule
from neurosearch.encoder.splade.network import TermTower
from neurosearch.loss.base import Targets
from neurosearch.nn.taken import taken
from neurosearch.nn.tokens import Tokens

QUERIES, PRODUCTS = 16_384, 4_096  # texts whose V weights are held at a time
RAMP = 1 / 3  # of the steps, over which the penalties grow quadratically (Formal et al. 2021)


def flops(weights: Tensor) -> Tensor:
    """Expected products of a term's weights, summed over terms (Paria et al. 2020): a scalar.

    Args:
        weights: N×V.
    """
    return weights.mean(dim=0).square().sum()


class SpladeModule(BiEncoderModule):
    """`towers` is one TermTower that queries and products share."""

    captures: ClassVar[bool] = False

    def __init__(self, *parts: Any, penalties: tuple[float, float]) -> None:
        super().__init__(*parts)
        self._penalties = penalties

    @property
    def _shares_loss(self) -> bool:
        return False  # the penalty is no mean over queries

    def _tokenized(self, towers: Any) -> None:
        tower: TermTower = towers
        query_length, shown = self._texts.shape.max_lengths
        tower.tower.check_length("encoder.query_max_length", query_length)
        tower.tower.check_length("encoder.product_max_length", shown)
        self._queries = tower.tokens(self._texts.train_queries, 0)
        self._dev_queries = tower.tokens(self._texts.dev_queries, 0)
        self._products = tower.tokens(self._texts.products, 1)
        self._both = Tokens.joined(self._queries, self._products)
        tower.start(self._products)

    def _loss(self, queries: Tensor, documents: Tensor, targets: Targets, step: int) -> Tensor:
        grown = min(1.0, (step + 1) / max(1.0, RAMP * self.steps)) ** 2
        costs = flops(queries), flops(documents)
        penalty = sum(w * cost for w, cost in zip(self._penalties, costs, strict=True))
        self.log("query FLOPS", costs[0].detach())
        self.log("product FLOPS", costs[1].detach())
        return super()._loss(queries, documents, targets, step) + grown * penalty

    def _encode(self, texts: np.ndarray) -> Tensor:
        """Weights of texts by their number, queries first."""
        is_query = texts < len(self._queries)
        sides = [np.flatnonzero(is_query), np.flatnonzero(~is_query)]
        budget = self._runtime.batch_budget(self.device)
        parts = [
            self.towers(self._both.take(texts[rows]), side, budget, self.device)
            for side, rows in enumerate(sides)
            if len(rows)
        ]
        back = np.argsort(np.concatenate(sides))
        return taken(torch.cat(parts), torch.from_numpy(back).to(self.device))

    def validation(self) -> dict[str, float]:
        self._terms: dict[str, float] = {}
        return {**super().validation(), **self._terms}

    def _search(
        self, queries: Tokens, rows: np.ndarray | None, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        products = self._products if rows is None else self._products.take(rows)
        places, scores, _ = self._ranked(queries, products, k)
        return places, scores

    def _mined_scores(
        self, k: int, pairs: tuple[np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._ranked(self._clean(), self._products, k, pairs)

    def _ranked(
        self,
        queries: Tokens,
        products: Tokens,
        k: int,
        pairs: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Exact search by the network as it is now, in blocks, and the scores of some pairs.

        Weights are still dense where a training begins, so products of matrices do it faster than
        lists of postings.

        Args:
            queries: of Q texts.
            products: of N texts.
            k: results of each query.
            pairs: P numbers of queries, and of products; None for none.

        Returns:
            Q×k places (-1 where no product has a term of the query) and scores; P scores.
        """
        k = min(k, len(products))
        places = np.full((len(queries), k), -1, dtype=np.int64)
        scores = np.zeros((len(queries), k), dtype=np.float32)
        wanted = (np.empty(0, np.int64), np.empty(0, np.int64)) if pairs is None else pairs
        known = np.zeros(len(wanted[0]), dtype=np.float32)
        terms = {"queries": 0, "products": 0}
        for first in range(0, len(queries), QUERIES):
            block = self._dense(queries, first, QUERIES, 0)
            terms["queries"] += int((block > 0).sum())
            best, where = torch.zeros(len(block), 0, device=self.device), None
            for start in range(0, len(products), PRODUCTS):
                shown = self._dense(products, start, PRODUCTS, 1)
                terms["products"] += int((shown > 0).sum()) if first == 0 else 0
                with torch.autocast(self.device.type, enabled=False):  # ranks are taken in full
                    found = block @ shown.T
                inside = (wanted[0] - first >= 0) & (wanted[0] - first < len(block))
                inside &= (wanted[1] - start >= 0) & (wanted[1] - start < len(shown))
                known[inside] = found[wanted[0][inside] - first, wanted[1][inside] - start].cpu()
                rows = torch.arange(start, start + len(shown), device=self.device)
                rows = rows.expand(len(block), -1)
                every = torch.cat([best, found], dim=1)
                numbers = rows if where is None else torch.cat([where, rows], dim=1)
                best, order = every.topk(min(k, every.shape[1]), dim=1)
                where = numbers.gather(1, order)
            assert where is not None
            part = slice(first, first + len(block))
            places[part] = where.masked_fill(best <= 0, -1).cpu().numpy()
            scores[part] = best.cpu().numpy()
        self._terms = {
            "terms a query": mean_terms("queries", terms["queries"], len(queries), self.towers),
            "terms a product": mean_terms(
                "products", terms["products"], len(products), self.towers
            ),
        }
        return places, scores, known

    def _dense(self, tokens: Tokens, first: int, count: int, side: int) -> Tensor:
        """Weights of `count` texts from the first on, without a graph."""
        part = tokens.take(np.arange(first, min(first + count, len(tokens))))
        was_training = self.towers.training
        self.towers.eval()
        budget, kind = self._runtime.batch_budget(self.device), self.device.type
        with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, self._half):
            weights: Tensor = self.towers(part, side, budget, self.device)
        self.towers.train(was_training)
        return weights


def mean_terms(what: str, terms: int, texts: int, tower: TermTower) -> float:
    """Mean number of terms. Raises InputError where all texts have none, or all of them."""
    mean = terms / max(1, texts)
    if mean == 0:
        raise InputError(f"SPLADE: {what} have no term left; try smaller penalties, or a lower lr")
    if mean == tower.dimensions:
        raise InputError(f"SPLADE: {what} have all terms; try greater penalties, or a lower lr")
    return mean
