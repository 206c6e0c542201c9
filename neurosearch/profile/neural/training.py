"""The Lightning module that trains a network of histories on purchases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from neurosearch.profile.base import Purchases
from neurosearch.profile.neural.network import made
from neurosearch.training.module import TrainingModule


class ProfileModule(TrainingModule):
    """What step s of seed r sees is a function of (r, s)."""

    rate_key = "retriever.profile.schedule.lr"

    def __init__(
        self,
        recipe: Any,
        network: str,
        texts: np.ndarray,
        parts: Mapping[str, Purchases],
        asked: Mapping[str, np.ndarray],
    ) -> None:
        super().__init__()
        self.network = made(recipe, network, texts).train()
        self._parts, self._asked = parts, asked
        self.schedule = recipe.schedule
        count = len(parts["train"].bought)
        self._size = min(self.schedule.batch(recipe.batch_size), count)
        self._per_epoch = max(1, count // self._size)
        self.steps = self.schedule.steps(self._per_epoch)

    def training_step(self, step: int, batch_idx: int) -> Tensor:
        self.seed_step(step)
        epoch, within = divmod(step, self._per_epoch)
        rng = np.random.default_rng([self.schedule.seed, epoch])
        order = rng.permutation(len(self._parts["train"].bought))
        chosen = order[within * self._size : (within + 1) * self._size]
        loss = cross_entropy(self._scores("train", chosen).float(), self._bought("train", chosen))
        self.log("loss", loss.detach())
        self._losses.append(loss.detach())
        return loss

    def validate(self) -> float:
        """nDCG@10 of dev's purchases among all products."""
        self.network.eval()
        total, count = 0.0, len(self._parts["dev"].bought)
        for start in range(0, count, 512):
            chosen = np.arange(start, min(start + 512, count))
            with torch.inference_mode():
                scores = self._scores("dev", chosen).float()
            own = scores.gather(1, self._bought("dev", chosen)[:, None])
            rank = (scores > own).sum(dim=1) + 1
            gains = torch.where(rank <= 10, 1 / torch.log2(1 + rank.double()), 0.0)
            total += float(gains.sum())
        self.network.train()
        return total / count

    def _scores(self, split: str, chosen: np.ndarray) -> Tensor:
        query = torch.from_numpy(self._asked[split][chosen]).to(self.device)
        rows = torch.from_numpy(self._parts[split].histories[chosen]).to(self.device)
        scores: Tensor = self.network(query, rows)
        return scores

    def _bought(self, split: str, chosen: np.ndarray) -> Tensor:
        return torch.from_numpy(self._parts[split].bought[chosen]).to(self.device)
