"""The network of MMQ: experts that both modalities share or that only one has, a code for each."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, normalize

from neurosearch.tokenizer.codebook import CHUNK, as_tensor, straight


class Experts(nn.Module):
    """`widths` of the two modalities; M = shared + text + image experts of `recipe`."""

    def __init__(self, widths: tuple[int, int], recipe: Any, size: int) -> None:
        super().__init__()
        self.widths, self.counts = widths, (recipe.shared, recipe.text, recipe.image)
        self.crosses = recipe.decoding == "all"
        inputs = [
            *[sum(widths)] * recipe.shared,
            *[widths[0]] * recipe.text,
            *[widths[1]] * recipe.image,
        ]
        hidden, latent = recipe.hidden, recipe.latent
        self.experts = nn.ModuleList(_mlp(width, hidden, latent) for width in inputs)
        self.gates = nn.ModuleList(
            nn.Linear(width, max(1, count))
            for width, count in zip(widths, self.counts[1:], strict=True)
        )
        self.decoders = nn.ModuleList(_mlp(latent, hidden, width) for width in widths)
        books = normalize(torch.randn(len(inputs), size, latent), dim=-1)
        self.codebooks = nn.Parameter(books, requires_grad=recipe.codebook == "gradient")
        self.register_buffer("mean", torch.zeros(sum(widths)))
        self.register_buffer("deviation", torch.ones(sum(widths)))
        self.register_buffer("typical_gates", torch.ones(len(inputs)))
        self.register_buffer("typical_word", torch.zeros(len(inputs), latent))
        self.mean: Tensor
        self.deviation: Tensor
        self.typical_gates: Tensor
        self.typical_word: Tensor

    def standardised(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """B×D inputs of both modalities side by side; B×2, whether each is there."""
        there = torch.stack(
            [(part != 0).any(dim=1) for part in torch.split(vectors, list(self.widths), dim=1)],
            dim=1,
        )
        scaled = (vectors - self.mean) / self.deviation
        masks = there.to(scaled.dtype).repeat_interleave(
            torch.tensor(self.widths, device=vectors.device), dim=1
        )
        return scaled * masks, there

    def latents(self, inputs: Tensor) -> Tensor:
        """M×B×latent unit vectors, one a expert."""
        words, picture = torch.split(inputs, list(self.widths), dim=1)
        shared, text, _ = self.counts
        views = [inputs] * shared + [words] * text + [picture] * self.counts[2]
        latents = [expert(view) for expert, view in zip(self.experts, views, strict=True)]
        return normalize(torch.stack(latents).float(), dim=-1)

    def weights(self, inputs: Tensor, there: Tensor) -> Tensor:
        """M×B: 1 of shared experts, a gate's share of specific ones, 0 where one is missing."""
        views = torch.split(inputs, list(self.widths), dim=1)
        shares = [torch.ones(self.counts[0], len(inputs), device=inputs.device)]
        for gate, view, count, is_there in zip(
            self.gates, views, self.counts[1:], there.unbind(dim=1), strict=True
        ):
            if count:
                shares.append(gate(view).float().softmax(dim=1).T * is_there)
        return torch.cat(shares)

    def codes(self, latents: Tensor) -> Tensor:
        """M×B codes of the largest cosine."""
        return self.cosines(latents).argmax(dim=2)

    def cosines(self, latents: Tensor) -> Tensor:
        """M×B×K cosines with the codewords."""
        return latents @ normalize(self.codebooks, dim=-1).transpose(1, 2)

    def words(self, codes: Tensor) -> Tensor:
        """M×B×latent unit codewords of M×B codes."""
        books = normalize(self.codebooks, dim=-1)
        return torch.stack([book[code] for book, code in zip(books, codes, strict=True)])

    def decoded(self, words: Tensor) -> Tensor:
        """B×D standardised vectors of M×B×latent weighted codewords.

        Either modality is decoded from the sum of all, or of the shared ones and its own.
        """
        groups = torch.split(words, list(self.counts))
        shared, *specific = (group.sum(dim=0) for group in groups)
        if self.crosses:
            specific = [specific[0] + specific[1]] * 2
        parts = [
            decoder(shared + part) for decoder, part in zip(self.decoders, specific, strict=True)
        ]
        return torch.cat(parts, dim=1)

    def losses(self, vectors: Tensor, recipe: Any) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """The parts of the loss, the latents M×B×latent, and their codes M×B."""
        inputs, there = self.standardised(vectors)
        latents, weights = self.latents(inputs), self.weights(inputs, there)
        codes = self.codes(latents.detach())
        words = self.words(codes)
        through = straight(latents, words)
        decoded = self.decoded(weights[:, :, None] * through)
        masks = there.float().repeat_interleave(
            torch.tensor(self.widths, device=vectors.device), dim=1
        )
        error = ((decoded - inputs).square() * masks).sum() / masks.sum().clamp(min=1)
        quantization = recipe.beta * mse_loss(latents, words.detach())
        if recipe.codebook == "gradient":
            quantization = quantization + mse_loss(words, latents.detach())
        parts = {"reconstruction": error, "quantization": quantization}
        if recipe.orthogonality_weight:
            parts["orthogonality"] = self.orthogonality(latents, recipe.orthogonality)
        return parts, latents, codes

    def orthogonality(self, latents: Tensor, reading: str) -> Tensor:
        """How alike experts are, by one of four readings of the abstract's words.

        `outputs`: mean squared cosine of all pairs' vectors; `cross`: of shared with specific ones
        and of those of one modality; `weights`: of the experts' first layers, flattened;
        `subspace`: squared cross-correlation of all coordinates of the pairs of `cross` (the
        difference loss of Bousmalis et al. 2016), which forbids what a linear map could find.
        """
        group = [kind for kind, count in enumerate(self.counts) for _ in range(count)]
        pairs = list(itertools.combinations(range(len(group)), 2))
        if reading in ("cross", "subspace"):
            pairs = [(m, n) for m, n in pairs if {group[m], group[n]} != {1, 2}]
        if not pairs:
            return latents.new_zeros(())
        first, second = (
            torch.tensor(side, device=latents.device) for side in zip(*pairs, strict=True)
        )
        if reading == "subspace":
            units = (latents - latents.mean(dim=1, keepdim=True)) / latents.std(
                dim=1, keepdim=True
            ).clamp(min=1e-6)
            crossed = units[first].transpose(1, 2) @ units[second] / units.shape[1]
            return crossed.square().mean()
        if reading != "weights":
            return (latents[first] * latents[second]).sum(dim=-1).square().mean()
        rows = []
        for kind, expert in zip(group, self.experts, strict=True):
            layer: Any = expert[0]  # type: ignore[index]
            weight = layer.weight
            before = self.widths[0] if kind == 2 else 0
            after = self.widths[1] if kind == 1 else 0
            rows.append(nn.functional.pad(weight, (before, after)).flatten())
        units = normalize(torch.stack(rows), dim=-1)
        return (units[first] * units[second]).sum(dim=-1).square().mean()

    @torch.no_grad()
    def of_catalogue(self, vectors: np.ndarray) -> tuple[np.ndarray, Tensor]:
        """N×M int32 codes, and the mean weight M of each expert."""
        device = self.codebooks.device
        parts, total = [], torch.zeros(len(self.experts), device=device)
        for start in range(0, len(vectors), CHUNK):
            inputs, there = self.standardised(as_tensor(vectors[start : start + CHUNK], device))
            parts.append(self.codes(self.latents(inputs)).T.to(torch.int32).cpu().numpy())
            total += self.weights(inputs, there).sum(dim=1)
        return np.concatenate(parts), total / len(vectors)


def _blocks(widths: tuple[int, int]) -> tuple[slice, slice]:
    return slice(0, widths[0]), slice(widths[0], sum(widths))


def _mlp(width: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, out))
