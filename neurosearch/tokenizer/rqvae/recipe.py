"""RQ-VAE (Lee et al. 2022; semantic IDs: TIGER, Rajput et al. 2023): residual codes of a learnt
latent space.

What keeps it from collapsing: standardised inputs, codebooks that start from k-means over the
first latents, moving averages, and the replacement of unused codes. The checkpoint
that is kept has the least reconstruction error plus collision rate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.tokenizer import residual
from neurosearch.tokenizer.base import Quantizer, SemanticTokenizer
from neurosearch.training.schedule import Schedule
from neurosearch.training.trainer import fit
from neurosearch.training.weights import save_weights

CODEBOOKS, ESTIMATORS = ("ema", "gradient"), ("straight", "rotation")


@dataclass(frozen=True)
class RQVAE(SemanticTokenizer):
    """Attributes:
    hidden, latent: widths of the encoder, mirrored by the decoder.
    beta: of the commitment.
    codebook: learns by `ema` (moving averages, `decay`) or by `gradient`.
    estimator: of the gradient through the codes: `straight` or `rotation`.
    dead_after: steps without use after which a code is replaced; 0 for never.
    sinkhorn_epsilon: the last level's codes are shared out evenly in training; 0 for nearest.
    diversity: weight of the even use of codes.
    beam: of assignment.
    """

    hidden: tuple[int, ...] = (512, 256, 128)
    latent: int = 64
    beta: float = 0.25
    codebook: str = setting("ema", choices=CODEBOOKS)
    decay: float = 0.99
    estimator: str = setting("straight", choices=ESTIMATORS)
    kmeans_init: bool = True
    dead_after: int = 50
    sinkhorn_epsilon: float = 0.0
    diversity: float = 0.0
    beam: int = 1
    batch_size: int = 2048
    schedule: Schedule = field(
        default_factory=lambda: Schedule(
            epochs=60, lr=2e-3, weight_decay=0.0, warmup=0.02, decay="cosine", validations=10
        )
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {"batch_size": 2, "latent": 1, "beam": 1, "dead_after": 0, "beta": 0}
        least |= {"sinkhorn_epsilon": 0, "diversity": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                message = f"must be at least {low}, not {getattr(self, name)}"
                raise InputError(f"tokenizer.{name} {message}")
        if min(self.hidden, default=1) < 1:
            raise self.error("hidden", f"must be positive, not {list(self.hidden)}")
        if not 0 < self.decay < 1:
            raise self.error("decay", f"must be between 0 and 1, not {self.decay}")

    def fit(self, vectors: np.ndarray, folder: Path, runtime: Runtime) -> dict[str, Any]:
        import faiss
        import torch

        from neurosearch.tokenizer.rqvae.training import RQVAEModule

        faiss.omp_set_num_threads(runtime.cpu_threads)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = self._network(vectors.shape[1], min(self.codes, len(vectors)))
        per_epoch = max(1, len(vectors) // min(self.batch_size, len(vectors)))
        steps = self.schedule.steps(per_epoch)
        module = RQVAEModule(network, self, self.schedule, vectors, steps)
        module.start()
        outcome = fit(module, folder, runtime)
        error, collisions = module.validate()
        save_weights(network, folder / "rqvae.safetensors")
        return {**outcome, "error": round(error, 6), "collision rate": round(collisions, 6)}

    def _network(self, dimensions: int, size: int) -> Any:
        from neurosearch.tokenizer.rqvae.network import Autoencoder

        return Autoencoder(dimensions, self, size)

    def quantizer(self, folder: Path) -> Quantizer:
        from safetensors.torch import load_file

        state = load_file(str(folder / "rqvae.safetensors"))
        network = self._network(len(state["mean"]), state["codebooks"].shape[1])
        network.load_state_dict(state)
        return LatentCodes(network.eval(), self.beam)


class LatentCodes:
    """An Autoencoder, with codes assigned in its latent space."""

    def __init__(self, network: Any, beam: int) -> None:
        self._network, self._beam = network, beam
        self.codebooks: np.ndarray = network.codebooks.detach().numpy()
        self.sizes = (self.codebooks.shape[1],) * len(self.codebooks)

    def assign(self, vectors: np.ndarray, known: bool = False) -> np.ndarray:
        return residual.assign(self._network.latents(vectors), self.codebooks, self._beam)

    def decode(self, codes: np.ndarray) -> Iterator[np.ndarray]:
        import torch

        for level in range(1, codes.shape[1] + 1):
            total = torch.from_numpy(residual.decode(self.codebooks, codes[:, :level]))
            with torch.no_grad():
                yield self._network.decode(total).numpy()

    def costs(self, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
        return residual.last_costs(self._network.latents(vectors), self.codebooks, codes)
