"""Small networks on top of frozen vectors of words and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class Head(nn.Module):
    """One of the parts, centred on the catalogue's mean, mapped to D unit dimensions."""

    def __init__(self, part: int, width: int, dimensions: int, hidden: int) -> None:
        super().__init__()
        self.part = part
        self.register_buffer("mean", torch.zeros(width))
        self.mean: Tensor
        self.straight = nn.Linear(width, dimensions, bias=False)
        self.bent = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, dimensions)
        )

    def mapped(self, parts: Parts) -> Tensor:
        """N×D, before normalisation."""
        vectors = parts[self.part]
        centred = normalize(vectors - self.mean, dim=-1)
        mapped: Tensor = self.straight(centred) + self.bent(centred)
        return mapped

    def forward(self, parts: Parts) -> Tensor:
        """N×D unit vectors; zeros where the part is missing."""
        return normalize(self.mapped(parts), dim=-1) * present(parts[self.part])


class Gate(nn.Module):
    """Both parts, weighted dimension by dimension: g · words + (1 - g) · picture.

    g is a sigmoid of both vectors; where one part is missing the other is taken alone.
    """

    def __init__(self, widths: Sequence[int], dimensions: int, hidden: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            Head(part, width, dimensions, hidden) for part, width in enumerate(widths)
        )
        self.gate = nn.Linear(2 * dimensions, dimensions)

    def forward(self, parts: Parts) -> Tensor:
        words, picture = (head(parts) for head in self.heads)
        there = [present(part) for part in parts]
        share = self.gate(torch.cat([words, picture], dim=-1)).sigmoid()
        share = torch.where(there[1] > 0, share, 1.0)
        share = torch.where(there[0] > 0, share, 0.0)
        return normalize(share * words + (1 - share) * picture, dim=-1)


def present(vectors: Tensor) -> Tensor:
    """N×1 of 1, or 0 where a vector is all zeros."""
    return (vectors != 0).any(dim=-1, keepdim=True).to(vectors.dtype)


@torch.inference_mode()
def tower_vectors(tower: nn.Module, parts: Parts, device: Any = "cpu") -> np.ndarray:
    """N×D float32 of the parts, in slices."""
    batches = [
        tower([part[start : start + 16_384].to(device) for part in parts]).float().cpu()
        for start in range(0, len(parts[0]), 16_384)
    ]
    vectors: np.ndarray = torch.cat(batches).numpy()
    return vectors


Parts = Sequence[Tensor]  # N×D vectors of words, N×D of pictures; a row of zeros is missing
