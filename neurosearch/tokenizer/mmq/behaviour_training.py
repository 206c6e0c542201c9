"""The Lightning module of MMQ's stage 2 (see `behaviour`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, one_hot

from neurosearch.tokenizer.codebook import Bookkeeping, batch_rows
from neurosearch.tokenizer.mmq.examples import Examples
from neurosearch.tokenizer.mmq.network import Experts
from neurosearch.training.module import TrainingModule
from neurosearch.training.schedule import optimizer_of

QUALITY = "dev task"  # minus its cross-entropy: more is better
DEV = 4096  # products that dev's targets compete with


class BehaviourModule(TrainingModule):
    """Experts, a table of vectors for each one's codes, and the side that asks."""

    monitor = QUALITY
    rate_key = "tokenizer.behaviour.schedule.lr"

    def __init__(
        self,
        network: Experts,
        tokenizer: Any,
        recipe: Any,
        vectors: np.ndarray,
        examples: list[Examples],
        steps: int,
    ) -> None:
        super().__init__()
        self.network = network.train()
        self.keeping = Bookkeeping(network.codebooks, tokenizer)
        self._tokenizer, self._recipe, self._vectors = tokenizer, recipe, vectors
        self._train, self._dev = examples
        self.schedule, self.steps = recipe.schedule, steps
        experts, size, _ = network.codebooks.shape
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.schedule.seed)
            self.table = nn.Parameter(torch.randn(experts, size, recipe.width) / recipe.width**0.5)
            width = self._train.queries.shape[1]
            self.asks = (
                nn.Linear(width, recipe.width)
                if recipe.task == "queries"
                else nn.GRU(recipe.width, recipe.width, batch_first=True)
            )

    def configure_optimizers(self) -> Any:
        rate = self._recipe.rate
        return optimizer_of(self, self.schedule, self.steps, self.network, rate)

    def products(self, latents: Tensor, codes: Tensor) -> Tensor:
        """B×width unit vectors of M×B×latent latents and their codes, by soft or hard index."""
        network, recipe = self.network, self._recipe
        hard = one_hot(codes, self.table.shape[1]).to(latents.dtype)
        if recipe.index == "soft":
            soft = (network.cosines(latents) / recipe.temperature).softmax(dim=-1)
            hard = hard + soft - soft.detach()
        return normalize((hard @ self.table).sum(dim=0), dim=-1)

    def query_vectors(self, queries: Tensor, products: Tensor) -> Tensor:
        """B×width unit vectors of queries, or of histories (B×T places in `found`, -1 for none)."""
        if self._recipe.task == "queries":
            return normalize(self.asks(queries), dim=-1)
        there = (queries >= 0)[:, :, None]
        states, _ = self.asks(products[queries.clamp(min=0)] * there)
        return normalize(states[:, -1], dim=-1)

    def training_step(self, step: int, batch_idx: int) -> Tensor:
        recipe = self._recipe
        seed = self.schedule.seed
        self.seed_step(step)
        chosen = batch_rows(len(self._train.target), recipe.batch_size, seed, step)
        rng = np.random.default_rng([seed, 1, step])
        others = rng.integers(0, len(self._vectors), recipe.negatives)
        task, parts, latents, codes = self._losses_of(self._train, chosen, others)
        for level, (latent, code) in enumerate(zip(latents.detach(), codes, strict=True)):
            self.keeping.renew(self.network.codebooks.data, level, latent, code)
        self.log("task", task.detach())
        self.log("reconstruction", parts["reconstruction"].detach())
        kept = parts["reconstruction"]
        if "orthogonality" in parts:
            kept = kept + self._tokenizer.orthogonality_weight * parts["orthogonality"]
        loss: Tensor = task + recipe.reconstruction * kept + parts["quantization"]
        return loss

    def _losses_of(
        self, examples: Examples, chosen: np.ndarray, others: np.ndarray
    ) -> tuple[Tensor, dict[str, Tensor], Tensor, Tensor]:
        target, queries = examples.target[chosen], examples.queries[chosen]
        histories = self._recipe.task == "next_item"
        needed = [target, others, queries[queries >= 0].ravel()] if histories else [target, others]
        rows, places = np.unique(np.concatenate(needed), return_inverse=True)
        vectors = torch.from_numpy(self._vectors[rows]).to(self.device)
        parts, latents, codes = self.network.losses(vectors, self._tokenizer)
        products = self.products(latents, codes)
        positions = torch.from_numpy(places[: len(target)]).to(self.device)
        if histories:
            local = np.full(queries.shape, -1, dtype=np.int64)
            local[queries >= 0] = places[len(target) + len(others) :]
            queries = local
        query = self.query_vectors(torch.from_numpy(queries).to(self.device), products)
        # Products that are there for their history only don't compete.
        compete = np.unique(places[: len(target) + len(others)])
        candidates = torch.from_numpy(compete).to(self.device)
        scores = query @ products[candidates].T / self._recipe.task_temperature
        refused = examples.refused(chosen, rows[compete], len(self._vectors))
        scores = scores.masked_fill(torch.from_numpy(refused).to(self.device), float("-inf"))
        return (
            cross_entropy(scores, torch.searchsorted(candidates, positions)),
            parts,
            latents,
            codes,
        )

    @torch.no_grad()
    def validate(self) -> float:
        """Minus the dev examples' mean cross-entropy."""
        others = np.random.default_rng(0).permutation(len(self._vectors))[:DEV]
        losses = []
        for start in range(0, len(self._dev.target), 512):
            chosen = np.arange(start, min(start + 512, len(self._dev.target)))
            losses.append(float(self._losses_of(self._dev, chosen, others)[0]) * len(chosen))
        return -sum(losses) / len(self._dev.target)
