"""Training of late interaction: a bi-encoder's module whose texts have many vectors."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from neurosearch.core.distributed import world
from neurosearch.core.ragged import offsets_of
from neurosearch.encoder.biencoder.training import BiEncoderModule
from neurosearch.encoder.colbert.network import TokenTower
from neurosearch.nn.maxsim import exact_maxsim, pair_scores
from neurosearch.nn.ragged import Ragged
from neurosearch.nn.tokens import Tokens
from neurosearch.training.gather import Part, in_order, shares


class ColBERTModule(BiEncoderModule):
    """`towers` is one TokenTower that queries and products share."""

    captures: ClassVar[bool] = False

    def _tokenized(self, towers: Any) -> None:
        tower: TokenTower = towers
        query_length, shown = self._texts.shape.max_lengths
        tower.tower.check_length("encoder.query_max_length", query_length)
        tower.tower.check_length("encoder.product_max_length", shown)
        self._queries = tower.tokens(self._texts.train_queries, 0)
        self._dev_queries = tower.tokens(self._texts.dev_queries, 0)
        self._products = tower.tokens(self._texts.products, 1)

    def training_step(self, step: int, batch_idx: int) -> None:
        self.seed_step(step)
        self._renew_lists(step)
        queries, rows = self._batches.draw(step)
        tower: TokenTower = self.towers
        asked = self._queries.take(self._asked(queries, step))
        sides = asked, self._products.take(rows)
        counts = [tower.scored(tokens, side) for side, tokens in enumerate(sides)]
        part = Part.of(len(queries), len(rows), self._shares_loss)
        places = part.queries, part.documents
        offsets = [offsets_of(count[own]) for count, own in zip(counts, places, strict=True)]
        split = int(offsets[0][-1])
        # Texts of the batch by number, queries first: chunks go through the network in order.
        order = shares(np.arange(len(queries) + len(rows)))
        wanted = np.concatenate([part.queries, len(queries) + part.documents])
        count, targets = np.concatenate(counts), self._targets(queries, rows, part)

        def loss_of(vectors: Tensor) -> Tensor:
            whole = in_order(vectors, order, count, wanted, part.is_shared)
            asked, shown = Ragged(whole[:split], offsets[0]), Ragged(whole[split:], offsets[1])
            return self._loss(asked, shown, targets, step) * part.weight

        self._sides = sides
        self._learn(order[world()[0]], loss_of, part)
        self._note_masked(targets, part)

    def _encode(self, texts: np.ndarray) -> Tensor:
        query_side, shown = self._sides
        parts = []
        for side, (tokens, rows) in enumerate(
            (
                (query_side, texts[texts < len(query_side)]),
                (shown, texts[texts >= len(query_side)] - len(query_side)),
            )
        ):
            if len(rows):
                parts.append(self._ragged(tokens.take(rows), side).vectors)
        return torch.cat(parts)

    def _ragged(self, tokens: Tokens, side: int) -> Ragged:
        budget = self._runtime.batch_budget(self.device)
        vectors: Ragged = self.towers(tokens, side, budget, self.device, self._half)
        return vectors

    def _search(
        self, queries: Tokens, rows: np.ndarray | None, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        products = self._products if rows is None else self._products.take(rows)
        query_tokens, shown = self._as_now(queries, products)
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            return exact_maxsim(query_tokens, shown, k)

    def _mined_scores(
        self, k: int, pairs: tuple[np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        query_tokens, shown = self._as_now(self._clean(), self._products)
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            places, scores = exact_maxsim(query_tokens, shown, k)
            return places, scores, pair_scores(query_tokens, shown, *pairs)

    def _as_now(self, queries: Tokens, products: Tokens) -> tuple[Ragged, Ragged]:
        """Vectors of both, by the current weights, in the training's precision."""
        was_training = self.towers.training
        self.towers.eval()
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.bfloat16, self._half),
        ):
            query_tokens, shown = self._ragged(queries, 0), self._ragged(products, 1)
        self.towers.train(was_training)
        kind = torch.float16 if self._half else torch.float32
        return query_tokens, Ragged(shown.vectors.to(kind), shown.offsets)
