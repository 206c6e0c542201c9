"""The network of MMQ: experts that both modalities share or that only one has, a code for each.

Every expert maps its modality (the shared ones: both) to a unit vector and takes the code of its
own codebook with the largest cosine. Reconstruction is from the sum of the codewords, the
specific ones weighted by gates; orthogonality keeps experts from saying the same thing.
METHODS 7.3 says which of this the paper's abstract states and which is reconstructed.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytorch_lightning as lightning
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, normalize

from neurosearch.errors import InputError
from neurosearch.tokenizer.autoencoder import CHUNK, QUALITY, straight
from neurosearch.tokenizer.codebook import Bookkeeping, batch_rows
from neurosearch.training import optimizer_of


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
        found = [expert(view) for expert, view in zip(self.experts, views, strict=True)]
        return normalize(torch.stack(found).float(), dim=-1)

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
        return torch.stack([book[own] for book, own in zip(books, codes, strict=True)])

    def decoded(self, words: Tensor) -> Tensor:
        """B×D standardised vectors of M×B×latent weighted codewords.

        Either modality is decoded from the sum of all, or of the shared ones and its own.
        """
        groups = torch.split(words, list(self.counts))
        shared, *own = (group.sum(dim=0) for group in groups)
        if self.crosses:
            own = [own[0] + own[1]] * 2
        parts = [decoder(shared + part) for decoder, part in zip(self.decoders, own, strict=True)]
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
            inputs, there = self.standardised(_tensor(vectors[start : start + CHUNK], device))
            parts.append(self.codes(self.latents(inputs)).T.to(torch.int32).cpu().numpy())
            total += self.weights(inputs, there).sum(dim=1)
        return np.concatenate(parts), total / len(vectors)


class ExpertsModule(lightning.LightningModule):
    """Stage 1: reconstruction from codes. A batch is a function of seed and step."""

    def __init__(self, network: Experts, recipe: Any, vectors: np.ndarray, steps: int) -> None:
        super().__init__()
        self.network, self.keeping = network, Bookkeeping(network.codebooks, recipe)
        self._recipe, self._vectors, self._steps = recipe, vectors, steps

    def configure_optimizers(self) -> Any:
        return optimizer_of(self, self._recipe.schedule, self._steps)

    @torch.no_grad()
    def start(self) -> None:
        """Standardise by the catalogue; codebooks by k-means over each expert's first latents."""
        network, rng = self.network, np.random.default_rng(self._recipe.seed)
        rows = np.sort(rng.permutation(len(self._vectors))[:CHUNK])
        sample = _tensor(self._vectors[rows], "cpu")
        for part, width in zip(_blocks(network.widths), network.widths, strict=True):
            block = sample[:, part]
            there = block[(block != 0).any(dim=1)]
            if len(there):
                network.mean[part] = there.mean(dim=0)
                # One scale a modality: dimensions keep their proportions.
                spread = (there - there.mean(dim=0)).square().sum(dim=1).mean().sqrt()
                network.deviation[part] = (spread / width**0.5).clamp(min=1e-6)
        latents = network.latents(network.standardised(sample)[0]).cpu().numpy()
        for level, own in enumerate(latents):
            seed = self._recipe.seed * 1009 + level
            self.keeping.start(network.codebooks.data, level, np.ascontiguousarray(own), seed)

    def training_step(self, step: int, batch_idx: int) -> Tensor:
        recipe = self._recipe
        torch.manual_seed(recipe.schedule.seed * 1_000_003 + step)
        rows = batch_rows(len(self._vectors), recipe.batch_size, recipe.schedule.seed, step)
        vectors = _tensor(self._vectors[rows], self.device)
        parts, latents, codes = self.network.losses(vectors, recipe)
        for level, (own, chosen) in enumerate(zip(latents.detach(), codes, strict=True)):
            self.keeping.renew(self.network.codebooks.data, level, own, chosen)
        for name, value in parts.items():
            self.log(name, value.detach())
        loss: Tensor = parts["reconstruction"] + parts["quantization"]
        if "orthogonality" in parts:
            loss = loss + recipe.orthogonality_weight * parts["orthogonality"]
        return loss

    def validation(self) -> dict[str, float]:
        """Error, collision rate and quality. Raises InputError where the error is not finite."""
        error, collisions = self.validate()
        if not np.isfinite(error):
            hint = "a lower tokenizer.schedule.lr may help"
            raise InputError(f"training diverged before step {self.global_step}; {hint}")
        return {"error": error, "collision rate": collisions, QUALITY: -(error + collisions)}

    @torch.no_grad()
    def validate(self) -> tuple[float, float]:
        """Mean squared error of standardised vectors, and 1 less IDs per product."""
        errors, network = [], self.network
        for start in range(0, len(self._vectors), CHUNK):
            vectors = _tensor(self._vectors[start : start + CHUNK], self.device)
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
    for level, own in enumerate(codes.T):
        counts = np.bincount(own, minlength=words.shape[1]).astype(np.float32)
        weights = torch.from_numpy(counts / counts.sum()).to(words.device)
        network.typical_word[level] = (weights[:, None] * words[level]).sum(dim=0)
    return codes


def _blocks(widths: tuple[int, int]) -> tuple[slice, slice]:
    return slice(0, widths[0]), slice(widths[0], sum(widths))


def _mlp(width: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, out))


def _tensor(vectors: np.ndarray, device: Any) -> Tensor:
    return torch.from_numpy(np.array(vectors, dtype=np.float32)).to(device)
