"""The training of an RQ-VAE: how encoder, codebooks and decoder are updated.

z = E(x); r_0 = z; c_l = argmin |r_{l-1} - e_{l,k}|; x' = D(sum of e). The loss is the
reconstruction's, plus what binds encoder and codebooks together (van den Oord et al. 2017):
beta |r - sg[e]|^2, and for codebooks either |sg[r] - e|^2 or moving averages, never both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from neurosearch.collisions.sinkhorn import log_transport
from neurosearch.tokenizer import residual
from neurosearch.tokenizer.codebook import (
    CHUNK,
    Bookkeeping,
    QuantizerModule,
    as_tensor,
    batch_rows,
    straight,
)
from neurosearch.tokenizer.rqvae.loss import level_loss
from neurosearch.tokenizer.rqvae.network import Autoencoder, rotated
from neurosearch.training.schedule import Schedule


class RQVAEModule(QuantizerModule):
    """Trains an Autoencoder on a catalogue's vectors; a batch is a function of seed and step."""

    def __init__(
        self, network: Autoencoder, recipe: Any, schedule: Schedule, vectors: np.ndarray, steps: int
    ) -> None:
        super().__init__()
        self.network = network
        self._recipe, self._vectors = recipe, vectors
        self.schedule, self.steps = schedule, steps
        self.keeping = Bookkeeping(network.codebooks, recipe)

    def start(self) -> None:
        """Standardise inputs by the catalogue; codebooks by k-means over the first latents."""
        network, rng = self.network, np.random.default_rng(self._recipe.seed)
        sample = np.asarray(self._vectors[np.sort(rng.permutation(len(self._vectors))[:CHUNK])])
        network.mean.copy_(torch.from_numpy(sample.mean(axis=0)))
        network.deviation.copy_(torch.from_numpy(sample.std(axis=0)).clamp(min=1e-6))
        if not self._recipe.kmeans_init:
            return
        left = network.latents(sample)
        for level in range(self._recipe.levels):
            books = network.codebooks.data
            self.keeping.start(books, level, left, self._recipe.seed * 1009 + level)
            centroids = books[level : level + 1].cpu().numpy()
            left = left - residual.decode(centroids, residual.assign(left, centroids))

    def training_step(self, step: int, batch_idx: int) -> Tensor:
        recipe, network = self._recipe, self.network
        self.seed_step(step)
        rows = batch_rows(len(self._vectors), recipe.batch_size, self.schedule.seed, step)
        vectors = as_tensor(self._vectors[rows], self.device)
        latent = network.encode(vectors).float()  # half precision ends where codes are chosen
        left, levels = latent, latent.new_zeros(())
        total = torch.zeros_like(latent)
        for level in range(recipe.levels):
            book = network.codebooks[level]
            distances = torch.cdist(left, book).square()
            codes = self._codes(distances.detach(), level)
            chosen = book[codes]
            levels = levels + level_loss(recipe, left, chosen, distances)
            self.keeping.renew(network.codebooks.data, level, left.detach(), codes)
            total, left = total + chosen, left - chosen.detach()
        through = rotated if recipe.estimator == "rotation" else straight
        decoded = network.decoder(through(latent, total.detach()))
        reconstruction = mse_loss(decoded, (vectors - network.mean) / network.deviation)
        self.log("reconstruction loss", reconstruction.detach())
        loss: Tensor = reconstruction + levels
        return loss

    def validate(self) -> tuple[float, float]:
        """Squared error of the reconstruction, and 1 minus the distinct IDs per product."""
        books = self.network.codebooks.detach().cpu().numpy()
        codes = residual.assign(self.network.latents(self._vectors), books)
        error = 0.0
        for start in range(0, len(codes), CHUNK):
            total = as_tensor(residual.decode(books, codes[start : start + CHUNK]), self.device)
            with torch.no_grad():
                decoded = self.network.decode(total).cpu().numpy()
            wanted = np.asarray(self._vectors[start : start + CHUNK])
            error += float(((wanted - decoded) ** 2).sum(dtype=np.float64))
        distinct = len(np.unique(codes, axis=0))
        return error / len(codes), 1 - distinct / len(codes)

    def _codes(self, distances: Tensor, level: int) -> Tensor:
        epsilon = self._recipe.sinkhorn_epsilon
        if epsilon and level == self._recipe.levels - 1:
            plan = log_transport(distances[None].cpu().numpy(), epsilon, 50)[0]
            return torch.from_numpy(plan).to(self.device).argmax(dim=1)
        return distances.argmin(dim=1)
