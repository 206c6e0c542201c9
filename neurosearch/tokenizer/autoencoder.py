"""The network of an RQ-VAE: encoder, residual codebooks, decoder, and how it learns.

z = E(x); r_0 = z; c_l = argmin |r_{l-1} - e_{l,k}|; x' = D(sum of e). The loss is the
reconstruction's, plus what binds encoder and codebooks together (van den Oord et al. 2017):
beta |r - sg[e]|^2, and for codebooks either |sg[r] - e|^2 or moving averages, never both.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytorch_lightning as lightning
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from neurosearch.collisions.sinkhorn import log_transport
from neurosearch.errors import InputError
from neurosearch.tokenizer import residual
from neurosearch.tokenizer.codebook import Bookkeeping, batch_rows
from neurosearch.training import Schedule, optimizer_of

QUALITY = "quality"  # what the best checkpoint has most of: -(error + collision rate)
CHUNK = 16_384


class Autoencoder(nn.Module):
    """N×D vectors, standardised by buffers; L×K×latent codebooks."""

    def __init__(self, dimensions: int, recipe: Any, size: int) -> None:
        super().__init__()
        widths = [dimensions, *recipe.hidden, recipe.latent]
        self.encoder, self.decoder = _mlp(widths), _mlp(widths[::-1])
        trained = recipe.codebook == "gradient"
        books = torch.randn(recipe.levels, size, recipe.latent) / recipe.latent**0.5
        self.codebooks = nn.Parameter(books, requires_grad=trained)
        self.register_buffer("mean", torch.zeros(dimensions))
        self.register_buffer("deviation", torch.ones(dimensions))
        self.mean: Tensor
        self.deviation: Tensor

    def encode(self, vectors: Tensor) -> Tensor:
        latent: Tensor = self.encoder((vectors - self.mean) / self.deviation)
        return latent

    def decode(self, latent: Tensor) -> Tensor:
        """On the scale of the input vectors."""
        vectors: Tensor = self.decoder(latent) * self.deviation + self.mean
        return vectors

    @torch.no_grad()
    def latents(self, vectors: np.ndarray) -> np.ndarray:
        """N×latent float32 of vectors, a chunk at a time."""
        parts = [
            self.encode(_tensor(vectors[start : start + CHUNK], self.mean.device)).cpu().numpy()
            for start in range(0, len(vectors), CHUNK)
        ]
        return np.concatenate(parts)


class RQVAEModule(lightning.LightningModule):
    """Trains an Autoencoder on a catalogue's vectors; a batch is a function of seed and step."""

    def __init__(
        self, network: Autoencoder, recipe: Any, schedule: Schedule, vectors: np.ndarray, steps: int
    ) -> None:
        super().__init__()
        self.network = network
        self._recipe, self._schedule, self._vectors, self._steps = recipe, schedule, vectors, steps
        self.keeping = Bookkeeping(network.codebooks, recipe)

    def configure_optimizers(self) -> Any:
        return optimizer_of(self, self._schedule, self._steps)

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
            found = books[level : level + 1].cpu().numpy()
            left = left - residual.decode(found, residual.assign(left, found))

    def training_step(self, step: int, batch_idx: int) -> Tensor:
        recipe, network = self._recipe, self.network
        torch.manual_seed(self._schedule.seed * 1_000_003 + step)
        rows = batch_rows(len(self._vectors), recipe.batch_size, self._schedule.seed, step)
        vectors = _tensor(self._vectors[rows], self.device)
        latent = network.encode(vectors).float()  # half precision ends where codes are chosen
        left, commitment, diversity = latent, latent.new_zeros(()), latent.new_zeros(())
        total = torch.zeros_like(latent)
        for level in range(recipe.levels):
            book = network.codebooks[level]
            distances = torch.cdist(left, book).square()
            codes = self._codes(distances.detach(), level)
            chosen = book[codes]
            commitment = commitment + recipe.beta * mse_loss(left, chosen.detach())
            if recipe.codebook == "gradient":
                commitment = commitment + mse_loss(chosen, left.detach())
            if recipe.diversity:
                usage = (-distances / distances.mean().detach()).softmax(dim=1).mean(dim=0)
                diversity = diversity + (usage * usage.clamp(min=1e-9).log()).sum()
            self.keeping.renew(network.codebooks.data, level, left.detach(), codes)
            total, left = total + chosen, left - chosen.detach()
        through = rotated if recipe.estimator == "rotation" else straight
        decoded = network.decoder(through(latent, total.detach()))
        reconstruction = mse_loss(decoded, (vectors - network.mean) / network.deviation)
        self.log("reconstruction loss", reconstruction.detach())
        loss: Tensor = reconstruction + commitment + recipe.diversity * diversity
        return loss

    def validation(self) -> dict[str, float]:
        """Error, collision rate and quality. Raises InputError where the error is not finite."""
        error, collisions = self.validate()
        if not np.isfinite(error):
            hint = "a lower tokenizer.schedule.lr may help"
            raise InputError(f"training diverged before step {self.global_step}; {hint}")
        return {"error": error, "collision rate": collisions, QUALITY: -(error + collisions)}

    def validate(self) -> tuple[float, float]:
        """Squared error of the vectors' reconstruction, and 1 less IDs per product."""
        books = self.network.codebooks.detach().cpu().numpy()
        codes = residual.assign(self.network.latents(self._vectors), books)
        error = 0.0
        for start in range(0, len(codes), CHUNK):
            total = _tensor(residual.decode(books, codes[start : start + CHUNK]), self.device)
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


def straight(latent: Tensor, quantized: Tensor) -> Tensor:
    """The straight-through estimator: the quantized vector, the latent's gradient."""
    return latent + (quantized - latent).detach()


def rotated(latent: Tensor, quantized: Tensor) -> Tensor:
    """The rotation trick (Fifty et al. 2025): q = |q|/|z| R z, with R and the scale constant.

    R = I - 2 r r' + 2 q^ z^', r = (z^ + q^) / |z^ + q^|, turns z into q's direction.
    """
    z = latent / latent.norm(dim=1, keepdim=True).clamp(min=1e-9)
    q = quantized / quantized.norm(dim=1, keepdim=True).clamp(min=1e-9)
    r = (z + q) / (z + q).norm(dim=1, keepdim=True).clamp(min=1e-9)
    z, q, r = z.detach(), q.detach(), r.detach()
    turned = (
        latent
        - 2 * r * (r * latent).sum(dim=1, keepdim=True)
        + 2 * q * (z * latent).sum(dim=1, keepdim=True)
    )
    length = latent.norm(dim=1, keepdim=True).clamp(min=1e-9)
    result: Tensor = turned * (quantized.norm(dim=1, keepdim=True) / length).detach()
    return result


def _mlp(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width, following in itertools.pairwise(widths):
        layers += [nn.Linear(width, following), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _tensor(vectors: np.ndarray, device: Any) -> Tensor:
    return torch.from_numpy(np.array(vectors, dtype=np.float32)).to(device)
