"""The network of an RQ-VAE: encoder, residual codebooks, decoder."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neurosearch.tokenizer.codebook import CHUNK, as_tensor


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
            self.encode(as_tensor(vectors[start : start + CHUNK], self.mean.device)).cpu().numpy()
            for start in range(0, len(vectors), CHUNK)
        ]
        return np.concatenate(parts)


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
