"""The Lightning module that trains a small writer: cross-entropy over the tokens of positives."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import polars as pl
import torch
from torch import Tensor

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.negatives.base import graded_pairs
from neurosearch.nn.text_encoder import padded
from neurosearch.nn.tokens import Tokens, batches_by_budget, tokenize
from neurosearch.training.module import TrainingModule
from neurosearch.training.schedule import optimizer_of
from neurosearch.writer.queries.network import CopyNetwork

DEV_PAIRS = 2_000  # that are validated on


class CopyModule(TrainingModule):
    """One text written for one text read; a batch is a function of the step."""

    monitor: ClassVar[str] = "dev log-likelihood"  # of a token, natural logarithm
    rate_key = "writer.schedule.lr"

    def __init__(self, recipe: Any, data: Dataset, runtime: Runtime) -> None:
        super().__init__()
        self.automatic_optimization = False
        self._runtime, self._recipe, self.schedule = runtime, recipe, recipe.schedule
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.schedule.seed)
            self.network = CopyNetwork(recipe.shape, recipe.lengths[1]).train()
        for parameter in self.network.reader.parameters():
            parameter.requires_grad_(recipe.reader_rate > 0)
        self._texts = self._tokens(data.catalogue.all_texts(recipe.fields, recipe.separator), 1)
        self._queries = {split: self._split(data, split) for split in ("train", "dev")}
        self._pairs = {split: self._positives(data, split) for split in ("train", "dev")}
        if not len(self._pairs["train"]):
            share = recipe.positive_share
            raise InputError(
                f"writer.positive_share: no train judgment is worth {share} of the largest gain"
            )
        if not len(self._pairs["dev"]):
            raise InputError("writer.positive_share: dev has no positive to validate with")
        side = 0 if recipe.writes == "queries" else 1
        targets = (self._queries["train"], self._texts)[side]
        self.network.start(targets.take(self._pairs["train"][:, side]).ids)
        self.pairs = len(self._pairs["train"])
        self._size = min(self.schedule.batch(recipe.batch_size), self.pairs)
        self.steps = self.schedule.steps(self.pairs / self._size)

    def _tokens(self, texts: list[str], side: int) -> Tokens:
        shape = self._recipe.shape
        longest = (shape.query_max_length, shape.product_max_length)[side]
        return tokenize(self.network.reader.tokenizer, texts, longest)

    def _split(self, data: Dataset, split: str) -> Tokens:
        reader = self._recipe.query.reader(self._runtime)
        return self._tokens(reader.texts(data.queries(split).texts), 0)

    def _positives(self, data: Dataset, split: str) -> np.ndarray:
        """P×2 query and product numbers."""
        graded = graded_pairs(data, data.judgments(split), self._recipe.gain)
        good = graded.filter(pl.col("share") >= self._recipe.positive_share)
        pairs: np.ndarray = good.select("query", "row").to_numpy()
        if split == "dev" and len(pairs) > DEV_PAIRS:
            rng = np.random.default_rng(0)
            pairs = pairs[np.sort(rng.permutation(len(pairs))[:DEV_PAIRS])]
        return pairs

    def configure_optimizers(self) -> Any:
        slow, factor = self.network.reader, self._recipe.reader_rate
        return optimizer_of(self, self.schedule, self.steps, slow, factor)

    def training_step(self, step: int, batch_idx: int) -> None:
        self.seed_step(step)
        per_epoch = max(1, self.pairs // self._size)
        rng = np.random.default_rng((self.schedule.seed, step // per_epoch))
        place = step % per_epoch * self._size
        drawn = rng.permutation(self.pairs)[place : place + self._size]
        losses, count = self._losses_of("train", self._pairs["train"][drawn])
        self.optimize(losses.sum() / count, self.network.parameters())

    def _losses_of(self, split: str, pairs: np.ndarray) -> tuple[Tensor, int]:
        """Losses of the pairs' tokens, and how many tokens these are."""
        query, product = self._queries[split].take(pairs[:, 0]), self._texts.take(pairs[:, 1])
        read, written = (product, query) if self._recipe.writes == "queries" else (query, product)
        count = int((written.lengths - 1).sum())
        return self.network.losses(padded(read, self.device), padded(written, self.device)), count

    def validate(self) -> float:
        """Mean log-likelihood of the tokens that dev's positives want."""
        pairs = self._pairs["dev"]
        lengths = self._texts.take(pairs[:, 1]).lengths
        self.network.eval()
        total, count = 0.0, 0
        with torch.inference_mode():
            for rows in batches_by_budget(lengths, self._runtime.batch_budget(self.device)):
                losses, tokens = self._losses_of("dev", pairs[rows])
                total, count = total + float(losses.sum()), count + tokens
        self.network.train()
        return -total / count
