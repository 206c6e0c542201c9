"""Small networks on top of frozen vectors of words and pictures, and how they are trained.

Training is by contrast: train queries and the products judged relevant for them, and every
product's own words with its own picture (Radford et al. 2021). The vectors are computed once, so
a step is two matrix multiplications.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pytorch_lightning as lightning
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from neurosearch.encoder.contrastive import exact_search
from neurosearch.encoder.pairs import PairBatches
from neurosearch.errors import InputError
from neurosearch.evaluation.gain import Gain
from neurosearch.evaluation.metrics import per_query
from neurosearch.training import MONITOR, Schedule, optimizer_of
from neurosearch.types import Dataset, Run

Parts = Sequence[Tensor]  # N×D vectors of words, N×D of pictures; a row of zeros is missing


class Head(nn.Module):
    """One of the parts, centred on the catalogue's mean, mapped to D unit dimensions."""

    def __init__(self, part: int, width: int, dimensions: int, hidden: int) -> None:
        super().__init__()
        self.part = part
        self.register_buffer("mean", torch.zeros(width))
        self.mean: Tensor
        self.straight = nn.Linear(width, dimensions, bias=False)
        self.bent = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, dimensions)
        )

    def mapped(self, parts: Parts) -> Tensor:
        """N×D, before normalisation."""
        vectors = parts[self.part]
        centred = normalize(vectors - self.mean, dim=-1)
        found: Tensor = self.straight(centred) + self.bent(centred)
        return found

    def forward(self, parts: Parts) -> Tensor:
        """N×D unit vectors; zeros where the part is missing."""
        return normalize(self.mapped(parts), dim=-1) * present(parts[self.part])


class Gate(nn.Module):
    """Both parts, weighted dimension by dimension: g · words + (1 - g) · picture.

    g is a sigmoid of both vectors; where one part is missing the other is taken alone.
    """

    def __init__(self, widths: Sequence[int], dimensions: int, hidden: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            Head(part, width, dimensions, hidden) for part, width in enumerate(widths)
        )
        self.gate = nn.Linear(2 * dimensions, dimensions)

    def forward(self, parts: Parts) -> Tensor:
        words, picture = (head(parts) for head in self.heads)
        there = [present(part) for part in parts]
        share = self.gate(torch.cat([words, picture], dim=-1)).sigmoid()
        share = torch.where(there[1] > 0, share, 1.0)
        share = torch.where(there[0] > 0, share, 0.0)
        return normalize(share * words + (1 - share) * picture, dim=-1)


def present(vectors: Tensor) -> Tensor:
    """N×1 of 1, or 0 where a vector is all zeros."""
    return (vectors != 0).any(dim=-1, keepdim=True).to(vectors.dtype)


@dataclass(frozen=True)
class HeadData:
    """What heads are trained on.

    Attributes:
        queries: parts of the train queries, then of every product as a query.
        products, dev: parts of the products and of the dev queries.
        asked: how many train queries there are.
        batches: of pairs, in the numbering of `queries`.
    """

    queries: list[Tensor]
    products: list[Tensor]
    dev: list[Tensor]
    asked: int
    batches: PairBatches


class HeadsModule(lightning.LightningModule):
    """Symmetric InfoNCE, or any loss, over pairs; `crossing` hides a part on each side.

    A product's own words must not ask for its own words: of such a pair, one side shows words
    only and the other the picture only. Of a train query's pair the product hides a part half of
    the time, so that either is learnt from.
    """

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
        self._data, self._schedule, self._dataset, self._gain = data, schedule, dataset, gain
        self._crossing = crossing

    def start(self) -> None:
        """Centre every head on the mean of the catalogue's vectors that are there."""
        for head in self.modules():
            if isinstance(head, Head):
                vectors = self._data.products[head.part]
                there = vectors[(vectors != 0).any(dim=1)]
                if len(there):
                    head.mean.copy_(there.mean(dim=0))

    def configure_optimizers(self) -> Any:
        return optimizer_of(self, self._schedule, self._data.batches.steps)

    def training_step(self, step: int, batch_idx: int) -> Tensor:
        torch.manual_seed(self._schedule.seed * 1_000_003 + step)
        queries, rows = self._data.batches.draw(step)
        asked = [part[torch.from_numpy(queries)].to(self.device) for part in self._data.queries]
        shown = [part[torch.from_numpy(rows)].to(self.device) for part in self._data.products]
        if self._crossing:
            own = torch.from_numpy(queries >= self._data.asked).to(self.device)[:, None]
            words = torch.rand(len(queries), 1, device=self.device) < 0.5
            asked = [asked[0] * ~(own & ~words), asked[1] * ~(own & words)]
            hidden = torch.rand(len(queries), 1, device=self.device) < 0.5
            shown = [shown[0] * ~((own | hidden) & words), shown[1] * ~((own | hidden) & ~words)]
        targets = self._data.batches.pairs.targets(queries, rows, mask=True)
        moved = type(targets)(
            targets.positive.to(self.device),
            targets.refused.to(self.device),
            targets.gain.to(self.device),
        )
        loss: Tensor = self.loss(self.towers["query"](asked), self.towers["product"](shown), moved)
        self.log("loss", loss.detach())
        return loss

    def validation(self) -> dict[str, float]:
        """The dev score. Raises InputError where a weight is not finite."""
        score = self.validate()
        if not all(bool(parameter.isfinite().all()) for parameter in self.parameters()):
            raise InputError("training diverged; a lower encoder.schedule.lr may help")
        return {MONITOR: score}

    def validate(self) -> float:
        """nDCG@10 of the dev queries in the whole catalogue."""
        data, queries = self._dataset, self._dataset.queries("dev")
        asked = tower_vectors(self.towers["query"], self._data.dev, self.device)
        products = tower_vectors(self.towers["product"], self._data.products, self.device)
        rows, scores = exact_search(asked, products, 10, self.device)
        run = Run.from_arrays(rows, scores, queries, data.catalogue, 10)
        found = per_query(run, queries, data.judgments("dev"), self._gain, ("nDCG@10",))
        return float(found["nDCG@10"].to_numpy().mean())


@torch.inference_mode()
def tower_vectors(tower: nn.Module, parts: Parts, device: Any = "cpu") -> np.ndarray:
    """N×D float32 of the parts, in slices."""
    found = [
        tower([part[start : start + 16_384].to(device) for part in parts]).float().cpu()
        for start in range(0, len(parts[0]), 16_384)
    ]
    vectors: np.ndarray = torch.cat(found).numpy()
    return vectors


def own_pairs(graded: pl.DataFrame, asked: int, pictured: np.ndarray) -> pl.DataFrame:
    """Judged pairs, and every product that has a picture as a query for itself.

    Only `pictured` rows are positives; queries are numbered after the `asked` train queries.
    """
    rows = pl.Series(pictured.astype(np.int64))
    own = pl.DataFrame({"query": rows + asked, "row": rows}).with_columns(share=pl.lit(1.0))
    seen = graded.filter(pl.col("row").is_in(rows.implode()))
    return pl.concat([seen.select("query", "row", "share"), own])
