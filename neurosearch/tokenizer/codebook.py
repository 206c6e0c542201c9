"""What keeps learnt codebooks alive, whatever is quantized: how they start, move and come back.

They start from k-means over the first vectors; learn by moving averages of what was assigned
to them (van den Oord et al. 2017), or by gradient; and codes that were not used for a while are
replaced by vectors of the batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neurosearch.tokenizer.kmeans import kmeans
from neurosearch.training.module import TrainingModule

CHUNK = 16_384  # vectors that go through a network at a time
QUALITY = "quality"  # what the best checkpoint has most of: -(error + collision rate)


class QuantizerModule(TrainingModule):
    """Base of networks that learn codes of a catalogue's vectors by reconstruction."""

    monitor = QUALITY
    rate_key = "tokenizer.schedule.lr"

    def validate(self) -> tuple[float, float]:
        """Error of the reconstruction, and 1 less IDs per product."""
        raise TypeError(f"{type(self).__name__} does not say how it is validated")

    def validation(self) -> dict[str, float]:
        error, collisions = self.validate()
        self.check_finite([torch.tensor(error)])
        return {"error": error, "collision rate": collisions, QUALITY: -(error + collisions)}


class Bookkeeping(nn.Module):
    """Counts, sums and idle steps of L×K×D codebooks.

    `recipe` says `codebook` (`ema` or `gradient`), `decay` and `dead_after`.
    """

    def __init__(self, books: Tensor, recipe: Any) -> None:
        super().__init__()
        self._recipe = recipe
        self.register_buffer("counts", torch.ones(books.shape[:2]))
        self.register_buffer("sums", books.detach().clone())
        self.register_buffer("unused", torch.zeros(books.shape[:2], dtype=torch.long))
        self.counts: Tensor
        self.sums: Tensor
        self.unused: Tensor

    def start(self, books: Tensor, level: int, vectors: np.ndarray, seed: int) -> None:
        """One level's codebook from k-means."""
        centroids = kmeans(vectors, books.shape[1], 20, seed)
        books[level].copy_(torch.from_numpy(centroids))
        self.sums[level].copy_(books[level])

    @torch.no_grad()
    def renew(self, books: Tensor, level: int, vectors: Tensor, codes: Tensor) -> None:
        """After a step: B×D `vectors` were given these codes of a level."""
        book, size = books[level], books.shape[1]
        hits = torch.bincount(codes, minlength=size).to(vectors.dtype)
        if self._recipe.codebook == "ema":
            decay = self._recipe.decay
            sums = torch.zeros_like(book).index_add_(0, codes, vectors)
            self.counts[level].mul_(decay).add_(hits, alpha=1 - decay)
            self.sums[level].mul_(decay).add_(sums, alpha=1 - decay)
            whole = self.counts[level].sum()
            smooth = (self.counts[level] + 1e-5) / (whole + size * 1e-5) * whole
            book.copy_(self.sums[level] / smooth[:, None])
        self.unused[level] = torch.where(hits > 0, 0, self.unused[level] + 1)
        if not self._recipe.dead_after:
            return
        dead = torch.nonzero(self.unused[level] >= self._recipe.dead_after)[:, 0]
        if len(dead):
            drawn = vectors[torch.randint(len(vectors), (len(dead),), device=vectors.device)]
            book[dead] = drawn
            self.sums[level][dead], self.counts[level][dead] = drawn, 1.0
            self.unused[level][dead] = 0


def batch_rows(total: int, size: int, seed: int, step: int) -> np.ndarray:
    """Rows of a step: a permutation of all is gone through before the next begins."""
    size = min(size, total)
    epoch, within = divmod(step, max(1, total // size))
    order = np.random.default_rng([seed, epoch]).permutation(total)
    return order[within * size : (within + 1) * size]


def as_tensor(vectors: np.ndarray, device: Any) -> Tensor:
    """A float32 tensor on `device`, with memory of its own."""
    return torch.from_numpy(np.array(vectors, dtype=np.float32)).to(device)


def straight(latent: Tensor, quantized: Tensor) -> Tensor:
    """The straight-through estimator: the quantized vector, the latent's gradient."""
    return latent + (quantized - latent).detach()
