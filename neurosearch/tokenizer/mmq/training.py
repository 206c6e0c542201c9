"""The network of MMQ: experts that both modalities share or that only one has, a code for each.

Every expert maps its modality (the shared ones: both) to a unit vector and takes the code of its
own codebook with the largest cosine. Reconstruction is from the sum of the codewords, the
specific ones weighted by gates; orthogonality keeps experts from saying the same thing.
Shared and specific experts and the orthogonality are in the paper's abstract; the formulas are
reconstructed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from neurosearch.tokenizer.codebook import (
    CHUNK,
    Bookkeeping,
    QuantizerModule,
    as_tensor,
    batch_rows,
)
from neurosearch.tokenizer.mmq.network import Experts, _blocks


class ExpertsModule(QuantizerModule):
    """Stage 1: reconstruction from codes. A batch is a function of seed and step."""

    def __init__(self, network: Experts, recipe: Any, vectors: np.ndarray, steps: int) -> None:
        super().__init__()
        self.network, self.keeping = network, Bookkeeping(network.codebooks, recipe)
        self._recipe, self._vectors = recipe, vectors
        self.schedule, self.steps = recipe.schedule, steps

    @torch.no_grad()
    def start(self) -> None:
        """Standardise by the catalogue; codebooks by k-means over each expert's first latents."""
        network, rng = self.network, np.random.default_rng(self._recipe.seed)
        rows = np.sort(rng.permutation(len(self._vectors))[:CHUNK])
        sample = as_tensor(self._vectors[rows], "cpu")
        for part, width in zip(_blocks(network.widths), network.widths, strict=True):
            block = sample[:, part]
            there = block[(block != 0).any(dim=1)]
            if len(there):
                network.mean[part] = there.mean(dim=0)
                # One scale a modality: dimensions keep their proportions.
                spread = (there - there.mean(dim=0)).square().sum(dim=1).mean().sqrt()
                network.deviation[part] = (spread / width**0.5).clamp(min=1e-6)
        latents = network.latents(network.standardised(sample)[0]).cpu().numpy()
        for level, latent in enumerate(latents):
            seed = self._recipe.seed * 1009 + level
            self.keeping.start(network.codebooks.data, level, np.ascontiguousarray(latent), seed)

    def training_step(self, step: int, batch_idx: int) -> Tensor:
        recipe = self._recipe
        self.seed_step(step)
        rows = batch_rows(len(self._vectors), recipe.batch_size, recipe.schedule.seed, step)
        vectors = as_tensor(self._vectors[rows], self.device)
        parts, latents, codes = self.network.losses(vectors, recipe)
        for level, (latent, chosen) in enumerate(zip(latents.detach(), codes, strict=True)):
            self.keeping.renew(self.network.codebooks.data, level, latent, chosen)
        for name, value in parts.items():
            self.log(name, value.detach())
        loss: Tensor = parts["reconstruction"] + parts["quantization"]
        if "orthogonality" in parts:
            loss = loss + recipe.orthogonality_weight * parts["orthogonality"]
        return loss

    @torch.no_grad()
    def validate(self) -> tuple[float, float]:
        """Mean squared error of standardised vectors, and 1 less IDs per product."""
        errors, network = [], self.network
        for start in range(0, len(self._vectors), CHUNK):
            vectors = as_tensor(self._vectors[start : start + CHUNK], self.device)
            errors.append(float(network.losses(vectors, self._recipe)[0]["reconstruction"]))
        codes, _ = network.of_catalogue(self._vectors)
        distinct = len(np.unique(codes, axis=0))
        return float(np.mean(errors)), 1 - distinct / len(codes)


@torch.no_grad()
def settle(network: Experts, vectors: np.ndarray) -> np.ndarray:
    """After training: the typical gate and codeword of each expert; returns N×M codes."""
    codes, shares = network.of_catalogue(vectors)
    network.typical_gates.copy_(shares)
    words = normalize(network.codebooks.detach(), dim=-1)
    for level, level_codes in enumerate(codes.T):
        counts = np.bincount(level_codes, minlength=words.shape[1]).astype(np.float32)
        weights = torch.from_numpy(counts / counts.sum()).to(words.device)
        network.typical_word[level] = (weights[:, None] * words[level]).sum(dim=0)
    return codes
