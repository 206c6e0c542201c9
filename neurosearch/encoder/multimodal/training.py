"""Small networks on top of frozen vectors of words and pictures, and how they are trained.

Training is by contrast: train queries and the products judged relevant for them, and every
product's own words with its own picture (Radford et al. 2021). The vectors are computed once, so
a step is two matrix multiplications.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from neurosearch.core.run import Run
from neurosearch.core.types import Dataset
from neurosearch.encoder.biencoder.pairs import PairBatches
from neurosearch.encoder.biencoder.training import exact_search
from neurosearch.encoder.multimodal.network import Head, tower_vectors
from neurosearch.evaluation.gain import Gain
from neurosearch.evaluation.metrics import per_query
from neurosearch.training.module import TrainingModule
from neurosearch.training.schedule import Schedule


@dataclass(frozen=True)
class HeadData:
    """What heads are trained on.

    Attributes:
        queries: parts of the train queries, then of every product as a query.
        products, dev: parts of the products and of the dev queries.
        train_queries: how many train queries there are.
        batches: of pairs, in the numbering of `queries`.
    """

    queries: list[Tensor]
    products: list[Tensor]
    dev: list[Tensor]
    train_queries: int
    batches: PairBatches


class HeadsModule(TrainingModule):
    """Symmetric InfoNCE, or any loss, over pairs; `crossing` hides a part on each side.

    A product's own words must not ask for its own words: of such a pair, one side shows words
    only and the other the picture only. Of a train query's pair the product hides a part half of
    the time, so that either is learnt from.
    """

    rate_key = "encoder.schedule.lr"

    def __init__(
        self,
        towers: nn.ModuleDict,
        data: HeadData,
        loss: Any,
        schedule: Schedule,
        dataset: Dataset,
        gain: Gain,
        crossing: bool,
    ) -> None:
        super().__init__()
        self.towers = towers
        self.loss = loss.objective()
        self._data, self._dataset, self._gain = data, dataset, gain
        self.schedule, self.steps = schedule, data.batches.steps
        self._crossing = crossing

    def start(self) -> None:
        """Centre every head on the mean of the catalogue's vectors that are there."""
        for head in self.modules():
            if isinstance(head, Head):
                vectors = self._data.products[head.part]
                there = vectors[(vectors != 0).any(dim=1)]
                if len(there):
                    head.mean.copy_(there.mean(dim=0))

    def training_step(self, step: int, batch_idx: int) -> Tensor:
        self.seed_step(step)
        queries, rows = self._data.batches.draw(step)
        query_views = [
            part[torch.from_numpy(queries)].to(self.device) for part in self._data.queries
        ]
        shown = [part[torch.from_numpy(rows)].to(self.device) for part in self._data.products]
        if self._crossing:
            is_title = torch.from_numpy(queries >= self._data.train_queries).to(self.device)[
                :, None
            ]
            words = torch.rand(len(queries), 1, device=self.device) < 0.5
            query_views = [
                query_views[0] * ~(is_title & ~words),
                query_views[1] * ~(is_title & words),
            ]
            hidden = torch.rand(len(queries), 1, device=self.device) < 0.5
            shown = [
                shown[0] * ~((is_title | hidden) & words),
                shown[1] * ~((is_title | hidden) & ~words),
            ]
        targets = self._data.batches.pairs.targets(queries, rows, mask=True)
        moved = type(targets)(
            targets.positive.to(self.device),
            targets.refused.to(self.device),
            targets.gain.to(self.device),
        )
        loss: Tensor = self.loss(
            self.towers["query"](query_views), self.towers["product"](shown), moved
        )
        self.note_loss(loss.detach())
        return loss

    def validate(self) -> float:
        """nDCG@10 of the dev queries in the whole catalogue."""
        data, queries = self._dataset, self._dataset.queries("dev")
        query_vectors = tower_vectors(self.towers["query"], self._data.dev, self.device)
        products = tower_vectors(self.towers["product"], self._data.products, self.device)
        rows, scores = exact_search(query_vectors, products, 10, self.device)
        run = Run.from_arrays(rows, scores, queries, data.catalogue, 10)
        metrics = per_query(run, queries, data.judgments("dev"), self._gain, ("nDCG@10",))
        return float(metrics["nDCG@10"].to_numpy().mean())


def own_pairs(graded: pl.DataFrame, train_queries: int, pictured: np.ndarray) -> pl.DataFrame:
    """Judged pairs, and every product that has a picture as a query for itself.

    Only `pictured` rows are positives; their queries are numbered after the `train_queries`.
    """
    rows = pl.Series(pictured.astype(np.int64))
    pairs = pl.DataFrame({"query": rows + train_queries, "row": rows}).with_columns(
        share=pl.lit(1.0)
    )
    seen = graded.filter(pl.col("row").is_in(rows.implode()))
    return pl.concat([seen.select("query", "row", "share"), pairs])
