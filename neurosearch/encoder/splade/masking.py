"""The Lightning module of the warm-up: masked tokens are to be predicted (Devlin et al. 2019)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.nn.text_encoder import padded
from neurosearch.nn.tokens import Tokens, batches_by_budget
from neurosearch.training.module import TrainingModule

IGNORED = -100
SAMPLE = 512  # texts whose logits are measured at the end


class MaskingModule(TrainingModule):
    """Trains a TermTower's head, and the network below it. A batch is a function of the step."""

    monitor: ClassVar[str] = "masked accuracy"
    rate_key = "encoder.warm_up.schedule.lr"

    def __init__(self, tower: Any, recipe: Any, texts: list[str], runtime: Runtime) -> None:
        super().__init__()
        self.automatic_optimization = False
        self._runtime, self._recipe, self.schedule = runtime, recipe, recipe.schedule
        tokens = tower.tokens(texts, 1)
        tower.head.start(np.bincount(tokens.ids, minlength=tower.dimensions))
        self.tower = tower.train()
        mask = tower.tower.tokenizer.token_to_id("[MASK]")
        if mask is None:
            raise InputError("encoder.warm_up: the model's tokenizer has no token [MASK]")
        self._mask, self._plain = mask, np.flatnonzero(~tower.special.numpy())
        rng = np.random.default_rng(self.schedule.seed)
        order = rng.permutation(len(tokens))
        held = max(1, round(recipe.held_out * len(tokens)))
        self._held, self._texts = tokens.take(order[:held]), tokens.take(order[held:])
        self._size = min(self.schedule.batch(recipe.batch_size), len(self._texts))
        self.steps = self.schedule.steps(len(self._texts) / self._size)

    def training_step(self, step: int, batch_idx: int) -> None:
        self.seed_step(step)
        seed = self.schedule.seed
        per_epoch = max(1, len(self._texts) // self._size)
        order = np.random.default_rng((seed, step // per_epoch)).permutation(len(self._texts))
        place = step % per_epoch * self._size
        batch = self._texts.take(order[place : place + self._size])
        shown, wanted = self._masked(batch, np.random.default_rng((seed, step, 1)))
        parts = batches_by_budget(batch.lengths, self._runtime.batch_budget(self.device))
        total = int((wanted != IGNORED).sum())

        def backward() -> Tensor:
            losses = []
            for rows in parts:
                logits, target = self._predicted(
                    shown.take(rows), Tokens(wanted, batch.offsets), rows
                )
                loss = cross_entropy(logits.float(), target, reduction="sum") / max(1, total)
                self.manual_backward(loss)
                losses.append(loss.detach())
            return torch.stack(losses).sum()

        self.optimize_by(backward, self.tower.parameters())

    def _masked(self, tokens: Tokens, rng: np.random.Generator) -> tuple[Tokens, np.ndarray]:
        """Tokens as the network sees them, and the true ids where a token is to be predicted."""
        ids = tokens.ids
        special = self.tower.special.cpu().numpy()[ids]
        chosen = (rng.random(len(ids)) < self._recipe.share) & ~special
        how = rng.random(len(ids))
        shown = np.where(chosen & (how < 0.8), self._mask, ids)
        swapped = chosen & (how >= 0.9)
        shown[swapped] = rng.choice(self._plain, int(swapped.sum()))
        return Tokens(shown, tokens.offsets), np.where(chosen, ids, IGNORED)

    def _predicted(self, shown: Tokens, wanted: Tokens, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """P×V logits of the tokens to be predicted, and their P true ids."""
        batch = padded(shown, self.device)
        target = padded(wanted.take(rows), self.device, IGNORED).tokens
        there = target != IGNORED
        states = self.tower.tower.states(batch)[1][there]
        return self.tower.head(states, self.tower.embeddings), target[there]

    def lower_logits(self) -> None:
        """See `WarmUp.terms`; measured on some of the texts."""
        tower = self.tower.eval()
        sample = self._texts.take(np.arange(min(SAMPLE, len(self._texts))))
        device = self._runtime.torch_device()
        tower.to(device)
        with torch.inference_mode():
            parts = batches_by_budget(sample.lengths, self._runtime.batch_budget(device))
            rows = [tower.highest(padded(sample.take(part), device)).cpu() for part in parts]
        tower.cpu().head.shift(torch.cat(rows), self._recipe.terms)

    def validate(self) -> float:
        """Share of the held-out texts' masked tokens that are predicted right."""
        shown, wanted = self._masked(self._held, np.random.default_rng(0))
        budget = self._runtime.batch_budget(self.device)
        right = total = 0
        with torch.inference_mode():
            for rows in batches_by_budget(self._held.lengths, budget):
                whole = Tokens(wanted, self._held.offsets)
                logits, target = self._predicted(shown.take(rows), whole, rows)
                right += int((logits.argmax(dim=1) == target).sum())
                total += len(target)
        return right / max(1, total)
