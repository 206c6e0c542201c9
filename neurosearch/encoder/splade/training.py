"""Training of learned sparse retrieval: a bi-encoder's module with a penalty on common terms."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurosearch.core.errors import InputError
from neurosearch.encoder.biencoder.training import BiEncoderModule
from neurosearch.encoder.splade.network import TermTower
from neurosearch.loss.base import Targets
from neurosearch.nn.postings import nearest, postings_of
from neurosearch.nn.tokens import Tokens

RAMP = 1 / 3  # of the steps, over which the penalties grow quadratically (Formal et al. 2021)


def flops(weights: Tensor) -> Tensor:
    """Expected products of a term's weights, summed over terms (Paria et al. 2020): a scalar.

    Args:
        weights: N×V.
    """
    return weights.mean(dim=0).square().sum()


class SpladeModule(BiEncoderModule):
    """`towers` is one TermTower that queries and products share."""

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
        return torch.cat(parts)[torch.from_numpy(back).to(self.device)]

    def validation(self) -> dict[str, float]:
        self._terms: dict[str, float] = {}
        return {**super().validation(), **self._terms}

    def _search(
        self, queries: Tokens, rows: np.ndarray | None, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        products = self._products if rows is None else self._products.take(rows)
        query_terms, shown = self._as_now(queries, products)
        self._terms = {
            "terms a query": _terms("queries", query_terms),
            "terms a product": _terms("products", shown),
        }
        places, scores, _ = nearest(postings_of(shown), query_terms, k)
        return places, scores

    def _mined_scores(
        self, k: int, pairs: tuple[np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        query_terms, shown = self._as_now(self._queries, self._products)
        places, scores, _ = nearest(postings_of(shown), query_terms, k)
        common = query_terms[pairs[0]].multiply(shown[pairs[1]])
        return places, scores, np.asarray(common.sum(axis=1), dtype=np.float32).ravel()

    def _as_now(self, queries: Tokens, products: Tokens) -> tuple[Any, Any]:
        """Weights of both, by the network as it is now, in the training's precision."""
        was_training = self.towers.training
        self.towers.eval()
        budget, kind = self._runtime.batch_budget(self.device), self.device.type
        with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, self._half):
            weights = [
                self.towers.sparse(tokens, side, budget, self.device)
                for side, tokens in enumerate((queries, products))
            ]
        self.towers.train(was_training)
        return weights[0], weights[1]


def _terms(what: str, matrix: Any) -> float:
    """Mean number of terms. Raises InputError where all texts have none, or all of them."""
    mean = float(matrix.nnz / max(1, matrix.shape[0]))
    if mean == 0:
        raise InputError(f"SPLADE: {what} have no term left; try smaller penalties, or a lower lr")
    if mean == matrix.shape[1]:
        raise InputError(f"SPLADE: {what} have all terms; try greater penalties, or a lower lr")
    return mean
