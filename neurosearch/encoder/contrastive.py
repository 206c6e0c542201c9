"""The Lightning module that trains a bi-encoder, and the token ids that it reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytorch_lightning as lightning
import torch
from torch import Tensor

from neurosearch.encoder.gradcache import cached_backward
from neurosearch.encoder.pairs import PairBatches
from neurosearch.encoder.tower import TowerShape, encode_ids
from neurosearch.encoder.transformer import padded, tokenize
from neurosearch.evaluation.metrics import per_query
from neurosearch.loss.base import Targets
from neurosearch.negatives.base import NegativeLists, TrainingContext
from neurosearch.negatives.retrieved import select
from neurosearch.runtime import Runtime
from neurosearch.training import MONITOR, Schedule, optimizer_of
from neurosearch.types import Dataset, Run


@dataclass
class TrainingTexts:
    """Texts of a training, and the dev sub-catalogue: all that dev judged, and random others."""

    train_queries: list[str]
    dev_queries: list[str]
    products: list[str]
    dev_rows: np.ndarray
    data: Dataset
    context: TrainingContext
    shape: TowerShape

    @classmethod
    def of(
        cls,
        data: Dataset,
        context: TrainingContext,
        texts: Sequence[Any],
        shape: TowerShape,
        dev_products: int,
    ) -> TrainingTexts:
        fields, separator, query_prefix, product_prefix = texts
        products = [
            product_prefix + text
            for batch in data.catalogue.texts(fields, separator)
            for text in batch
        ]
        queries = {
            split: [query_prefix + t for t in context.query.process(data.queries(split).texts)]
            for split in ("train", "dev")
        }
        ids = pl.DataFrame({"product_id": data.catalogue.ids}).with_row_index("row")
        judged = data.judgments("dev").frame.select("product_id").unique()
        rows = ids.join(judged, on="product_id", how="semi")["row"].to_numpy().astype(np.int64)
        others = np.setdiff1d(np.arange(len(products)), rows)
        extra = min(max(0, dev_products - len(rows)), len(others))
        drawn = np.random.default_rng(0).choice(others, extra, replace=False)
        dev_rows = np.sort(np.concatenate([rows, drawn]))
        return cls(queries["train"], queries["dev"], products, dev_rows, data, context, shape)


class BiEncoderModule(lightning.LightningModule):
    """Manual optimisation: one GradCache step a batch, whatever the loss."""

    def __init__(
        self,
        towers: Any,
        objective: Any,
        schedule: Schedule,
        texts: TrainingTexts,
        batches: PairBatches,
        graded: pl.DataFrame,
        folder: Path,
        runtime: Runtime,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.towers = towers.train()  # pretrained models come in evaluation mode
        self.loss = objective.loss.objective()
        self._objective, self._schedule, self._texts = objective, schedule, texts
        self._batches, self._graded, self._folder, self._runtime = batches, graded, folder, runtime
        shape = texts.shape
        self._query_ids = tokenize(towers.tokenizer, texts.train_queries, shape.query_max_length)
        self._product_ids = tokenize(towers.tokenizer, texts.products, shape.product_max_length)
        self._dev_ids = tokenize(towers.tokenizer, texts.dev_queries, shape.query_max_length)
        self.masked_shares: list[float] = []
        self._mined: dict[int, Path] = {}  # by source: the file its lists were last read from

    def configure_optimizers(self) -> Any:
        return optimizer_of(self, self._schedule, self._batches.steps)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        step = batch["step"]
        # Dropout is a function of the step, so a resumed training draws what it would have drawn.
        torch.manual_seed(self._schedule.seed * 1_000_003 + step)
        per_epoch = self._batches.steps_per_epoch
        epoch, within = divmod(step, per_epoch)
        for number, source in enumerate(self._objective.negatives.sources()):
            if source.refresh and epoch and epoch % source.refresh == 0:
                stored = self._folder / f"mined-{number}-{epoch}.npz"
                if within == 0 or not stored.exists():
                    self._mine(source, stored)
            self._use_latest(number, source, epoch)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        targets = self._targets(batch)
        size = len(batch["queries"])
        chunks = self._chunks(batch)

        def loss_of(vectors: Tensor) -> Tensor:
            loss: Tensor = self.loss(vectors[:size], vectors[size:], targets)
            return loss

        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        if self._objective.chunk:
            loss = cached_backward(self._encode, chunks, loss_of, self.manual_backward)
        else:
            loss = loss_of(torch.cat([self._encode(chunk) for chunk in chunks]))
            self.manual_backward(loss)
        torch.nn.utils.clip_grad_norm_(self.parameters(), self._schedule.clip)
        optimizer.step()
        scheduler: Any = self.lr_schedulers()
        scheduler.step()
        # The share of pairs that the mask keeps from being pushed apart.
        masked = (
            float(np.mean(batch["refused"]))
            + float(np.mean(batch["positive"]))
            - 1 / len(batch["rows"])
        )
        self.masked_shares.append(masked)
        self.log("loss", loss.detach())
        self.log("masked share", masked)

    def on_validation_epoch_end(self) -> None:
        self.log(MONITOR, self.validate())

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Nothing a batch: the epoch's end retrieves."""

    def validate(self) -> float:
        """nDCG@10 of the dev queries by exact retrieval from the dev sub-catalogue."""
        data, rows = self._texts.data, self._texts.dev_rows
        queries = data.queries("dev")
        asked = self._vectors(self.towers.query, self._dev_ids)
        products = self._vectors(self.towers.product, [self._product_ids[r] for r in rows])
        places, scores = _search(asked, products, 10, self.device)
        run = Run.from_arrays(rows[places], scores, queries, data.catalogue, 10)
        gain = self._texts.context.gain
        found = per_query(run, queries, data.judgments("dev"), gain, ("nDCG@10",))
        return float(found["nDCG@10"].to_numpy().mean())

    def _encode(self, chunk: tuple[bool, list[int]]) -> Tensor:
        is_query, rows = chunk
        tower = self.towers.query if is_query else self.towers.product
        ids = self._query_ids if is_query else self._product_ids
        vectors: Tensor = tower(*padded([ids[row] for row in rows], self.device))
        return vectors

    def _chunks(self, batch: Any) -> list[tuple[bool, list[int]]]:
        """(is query, rows) chunks: queries first, then documents, in the batch's order."""
        chunks: list[tuple[bool, list[int]]] = []
        for is_query, rows in ((True, batch["queries"]), (False, batch["rows"])):
            size = self._objective.chunk or len(rows)
            chunks += [(is_query, list(rows[i : i + size])) for i in range(0, len(rows), size)]
        return chunks

    def _targets(self, batch: Any) -> Targets:
        def tensor(values: Any, kind: torch.dtype) -> Tensor:
            return torch.as_tensor(np.asarray(values), dtype=kind, device=self.device)

        teacher = batch["teacher"]
        return Targets(
            tensor(batch["positive"], torch.bool),
            tensor(batch["refused"], torch.bool),
            tensor(batch["gain"], torch.float32),
            None if teacher is None else tensor(teacher, torch.float32),
        )

    def _vectors(self, tower: Any, ids: list[list[int]]) -> np.ndarray:
        was_training = tower.training
        tower.eval()
        half = self.trainer.precision != "32-true" if self._trainer is not None else False
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            budget = self._runtime.batch_budget(self.device)
            vectors = encode_ids(tower, ids, budget, self.device)
        tower.train(was_training)
        return vectors

    def _mine(self, source: Any, path: Path) -> None:
        """The source's lists by the model as it is now, with what was refused."""
        asked = self._vectors(self.towers.query, self._query_ids)
        products = self._vectors(self.towers.product, self._product_ids)
        places, scores = _search(asked, products, source.last, self.device)
        depth = places.shape[1]
        candidates = pl.DataFrame(
            {
                "query": np.repeat(np.arange(len(asked)), depth),
                "row": places.ravel(),
                "score": scores.ravel().astype(np.float64),
                "rank": np.tile(np.arange(1, depth + 1), len(asked)),
            }
        ).filter(pl.col("rank") >= source.first)
        share = self._texts.context.positive_share
        good = self._graded.filter(pl.col("share") >= share)
        own = np.einsum(
            "nd,nd->n", asked[good["query"].to_numpy()], products[good["row"].to_numpy()]
        )
        positives = good.with_columns(score=own.astype(np.float64))
        aware = source.max_ratio is not None or source.margin is not None
        kept, refused = select(candidates, self._graded, positives if aware else None, source)
        lists = NegativeLists.of(kept["query"].to_numpy(), kept["row"].to_numpy(), len(asked))
        temporary = path.with_suffix(".tmp.npz")
        np.savez(temporary, indptr=lists.indptr, rows=lists.rows)
        temporary.replace(path)
        statistics = {"kept": kept.height, "refused": dict(refused)}
        path.with_suffix(".json").write_text(json.dumps(statistics), encoding="utf-8")

    def _use_latest(self, number: int, source: Any, epoch: int) -> None:
        if not source.refresh:
            return
        latest = epoch - epoch % source.refresh
        path = self._folder / f"mined-{number}-{latest}.npz"
        if latest and self._mined.get(number) != path and path.exists():
            self._mined[number] = path
            stored = np.load(path)
            count, _ = self._batches.lists[number]
            lists = NegativeLists(stored["indptr"], stored["rows"])
            self._batches.lists[number] = (count, lists)


def _search(
    queries: np.ndarray, products: np.ndarray, k: int, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Exact top k by inner product, in slices of queries so that memory stays bounded."""
    k = min(k, len(products))
    places, scores = [], []
    against = torch.from_numpy(products).to(device)
    for start in range(0, len(queries), 1024):
        part = torch.from_numpy(queries[start : start + 1024]).to(device) @ against.T
        best = part.topk(k, dim=1)
        places.append(best.indices.cpu().numpy())
        scores.append(best.values.cpu().numpy())
    return np.concatenate(places), np.concatenate(scores)
