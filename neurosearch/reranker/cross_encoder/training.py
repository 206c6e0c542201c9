"""The Lightning module that trains a cross-encoder on lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, softplus

from neurosearch.core.distributed import world
from neurosearch.core.errors import InputError
from neurosearch.core.query import QueryProcessor
from neurosearch.core.run import Run, numbered_pairs
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, Queries
from neurosearch.evaluation.metrics import per_query
from neurosearch.loss.base import list_cross_entropy
from neurosearch.loss.lambda_loss import lambda_cost
from neurosearch.negatives.base import graded_pairs
from neurosearch.reranker.cross_encoder.network import CLASSES, cross_tower
from neurosearch.training.gather import in_order, shares
from neurosearch.training.module import TrainingModule

SOFT = 0.25  # temperature of the gains that `listwise` aims at


def list_loss(objective: str, outputs: Tensor, shares: Tensor, known: Tensor) -> Tensor:
    """One objective over lists: Q×n×1 (or ×4) outputs, Q×n shares of the gain, which are there."""
    if objective == "classes":
        wanted = (shares[..., None] - torch.tensor(CLASSES, device=shares.device)).abs()
        return cross_entropy(outputs[known], wanted.argmin(dim=-1)[known])
    scores = outputs[..., 0]
    if objective == "pointwise":
        return binary_cross_entropy_with_logits(scores[known], shares[known])
    if objective == "listwise":
        return list_cross_entropy(shares / SOFT, scores, known)
    if objective == "lambda":
        return lambda_cost(scores, shares, known)
    pairs = (shares[:, :, None] > shares[:, None, :]) & known[:, :, None] & known[:, None, :]
    apart = softplus(-(scores[:, :, None] - scores[:, None, :]))
    return apart.masked_fill(~pairs, 0.0).sum() / pairs.sum().clamp(min=1)


class CrossModule(TrainingModule):
    """What step s of seed r sees is a function of (r, s)."""

    rate_key = "reranker.schedule.lr"

    def __init__(
        self,
        recipe: Any,
        data: Dataset,
        query: QueryProcessor,
        train: Run,
        dev: Run,
        runtime: Runtime,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.schedule.seed)
            self.network = cross_tower(recipe).train()
        self._recipe, self._data, self._runtime = recipe, data, runtime
        texts = data.catalogue.all_texts(recipe.fields, recipe.separator)
        self._products = self.network.tokens(texts, recipe.product_max_length, True)
        read = query.reader(runtime).texts
        queries = {split: data.queries(split).processed(read) for split in ("train", "dev")}
        self._asked = {
            split: self.network.tokens(split_queries.texts, recipe.query_max_length, False)
            for split, split_queries in queries.items()
        }
        graded = graded_pairs(data, data.judgments("train"), recipe.gain)
        pool = numbered_pairs(train, queries["train"].ids, data.catalogue.ids)
        unjudged = pool.join(graded, on=["query", "row"], how="anti", maintain_order="left")
        self._judged = _csr(graded["query"], graded["row"], len(queries["train"]))
        self._shares = graded["share"].to_numpy().astype(np.float32)
        self._pool = _csr(unjudged["query"], unjudged["row"], len(queries["train"]))
        best = graded.group_by("query").agg(pl.col("share").max(), low=pl.col("share").min())
        # A list teaches where something in it is better than something else.
        teaches = best.filter((pl.col("share") > pl.col("low")) | (pl.col("share") > 0))
        self.lists: np.ndarray = teaches["query"].sort().to_numpy()
        if not len(self.lists):
            raise InputError("reranker: no train query has judged products of different worth")
        few = queries["dev"].frame.head(recipe.dev_queries)
        self._dev = Queries("dev", few)
        kept = dev.frame.join(
            few.select("query_id"), on="query_id", how="semi", maintain_order="left"
        )
        self._dev_pairs = numbered_pairs(Run("dev", kept), few["query_id"], data.catalogue.ids)
        self._size = recipe.schedule.batch(recipe.batch_queries)
        self._per_epoch = max(1, len(self.lists) // min(self._size, len(self.lists)))
        self.schedule, self.steps = recipe.schedule, recipe.schedule.steps(self._per_epoch)

    def draw(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Q queries, Q×n product rows (-1 for none) and their shares of the gain."""
        recipe, seed = self._recipe, self._recipe.schedule.seed
        epoch, within = divmod(step, self._per_epoch)
        order = np.random.default_rng([seed, 0, epoch]).permutation(self.lists)
        queries = order[within * self._size : (within + 1) * self._size]
        rng = np.random.default_rng([seed, 1, step])
        rows = np.full((len(queries), recipe.judged + recipe.drawn), -1, dtype=np.int64)
        shares = np.zeros(rows.shape, dtype=np.float32)
        begin, members = self._judged
        for place, query in enumerate(queries):
            candidates = np.arange(begin[query], begin[query + 1])
            chosen = rng.permutation(candidates)[: recipe.judged]
            top = candidates[self._shares[candidates].argmax()]
            if top not in chosen:  # the best is always there
                chosen[-1] = top
            rows[place, : len(chosen)] = members[chosen]
            shares[place, : len(chosen)] = self._shares[chosen]
            first, last = self._pool[0][query : query + 2]
            drawn = self._pool[1][first + rng.permutation(last - first)[: recipe.drawn]]
            rows[place, recipe.judged : recipe.judged + len(drawn)] = drawn
        return queries, rows, shares

    def training_step(self, step: int, batch_idx: int) -> None:
        recipe = self._recipe
        self.seed_step(step)
        rank, _ = world()
        queries, rows, worth = self.draw(step)
        known = rows >= 0
        pairs = np.repeat(queries, rows.shape[1]).reshape(rows.shape)[known], rows[known]
        # Processes share the pairs; each one's loss is of all of them.
        order = shares(np.arange(len(pairs[0])))
        share = pairs[0][order[rank]], pairs[1][order[rank]]
        budget = self._runtime.batch_budget(self.device)
        half = recipe.schedule.half
        scores = self.network.of_pairs(
            self._asked["train"], self._products, share, budget, self.device, half
        )
        scores = in_order(scores, order)
        there = torch.from_numpy(known).to(self.device)
        outputs = scores.new_zeros(*rows.shape, scores.shape[1])
        outputs = outputs.masked_scatter(there[:, :, None].expand_as(outputs), scores)
        wanted = torch.from_numpy(worth).to(self.device)
        loss = list_loss(recipe.objective, outputs, wanted, there)
        self.optimize(loss, self.network.parameters())

    def validate(self) -> float:
        """nDCG@10 of dev candidates in the network's order."""
        self.network.eval()
        pairs = self._dev_pairs["query"].to_numpy(), self._dev_pairs["row"].to_numpy()
        budget, half = self._runtime.batch_budget(self.device), self._recipe.schedule.half
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, half):
            outputs = self.network.of_pairs(
                self._asked["dev"], self._products, pairs, budget, self.device, half
            )
            scores = self.network.scores(outputs).cpu().numpy()
        self.network.train()
        frame = self._dev_pairs.select("query_id", "product_id").with_columns(
            pl.Series("score", scores.astype(np.float64))
        )
        run = Run.from_frame(frame, self._dev)
        judgments = self._data.judgments("dev")
        metrics = per_query(run, self._dev, judgments, self._recipe.gain, ("nDCG@10",))
        return float(metrics["nDCG@10"].to_numpy().mean())


def _csr(query: pl.Series, row: pl.Series, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Begin of each query, and rows by query."""
    number = query.to_numpy()
    order = np.argsort(number, kind="stable")
    begin = np.searchsorted(number[order], np.arange(queries + 1))
    return begin, row.to_numpy()[order]
