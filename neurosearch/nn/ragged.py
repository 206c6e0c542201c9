"""Vectors of texts that have different numbers of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Ragged:
    """N texts of S×D unit vectors: text i has rows offsets[i] to offsets[i + 1]."""

    vectors: Tensor
    offsets: np.ndarray

    def padded(self) -> tuple[Tensor, Tensor]:
        """N×L×D, zeros behind the end, and N×L, whether there is a vector."""
        lengths = np.diff(self.offsets)
        if not len(self.vectors):  # empty texts only
            nothing = self.vectors.new_zeros(len(lengths), 1, self.vectors.shape[1])
            return nothing, nothing[:, :, 0].bool()
        longest = max(1, int(lengths.max(initial=1)))
        places = np.minimum(self.offsets[:-1, None] + np.arange(longest), len(self.vectors) - 1)
        there = torch.from_numpy(np.arange(longest) < lengths[:, None]).to(self.vectors.device)
        rows = self.vectors[torch.from_numpy(places).to(self.vectors.device)]
        return rows * there[:, :, None], there

    def late_interaction(self, documents: Ragged) -> Tensor:
        """B×M float32: the mean over a query's vectors of the best inner product in a document.

        The mean, not the sum: temperatures then are those of cosines. Empty documents score -1.
        """
        query_tokens, asks = self.padded()
        shown, shows = documents.padded()
        scores = torch.einsum("qid,mjd->qmij", query_tokens.float(), shown.float())
        best = scores.masked_fill(~shows[None, :, None, :], -1.0).amax(dim=3)
        weights = asks.float() / asks.sum(dim=1, keepdim=True).clamp(min=1)
        scores_: Tensor = (best * weights[:, None, :]).sum(dim=2)
        return scores_
