"""MMQ (arXiv 2508.15281), reconstructed: codes for what modalities share and for what is theirs.

Stage 1 reconstructs both modalities from one code an expert. Stage 2 (`behaviour`) continues with
what people asked for or bought, through differentiable soft indices, reconstruction kept. Only
the paper's abstract was at hand: shared and specific experts, orthogonality, and behaviour-aware
fine-tuning are the paper's; the formulas are reconstructed here, and every choice is a field.

Codes are parallel, not coarse to fine. `order=gain` puts first the code that tells most apart,
then the one that adds most, so that prefixes are of use.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.collisions.keep import Keep
from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.tokenizer.base import Quantizer
from neurosearch.tokenizer.mmq.behaviour import Behaviour, BehaviourAware
from neurosearch.tokenizer.thresholds import Thresholds
from neurosearch.tokenizer.views import FittedViews, ViewTokenizer
from neurosearch.training.schedule import Schedule
from neurosearch.training.trainer import fit
from neurosearch.training.weights import save_weights

READINGS, ORDERS = ("outputs", "cross", "weights", "subspace"), ("experts", "gain")


@dataclass(frozen=True)
class MMQ(ViewTokenizer):
    """Attributes:
    shared, text, image: how many experts see both modalities, the words, the picture. One code
        each: `levels` is their sum.
    hidden, latent: of the experts and decoders.
    beta: of the commitment.
    codebook, decay, dead_after: see `RQVAE`.
    orthogonality: its reading (see `Experts.orthogonality`); orthogonality_weight: 0 for none.
    decoding: of a modality, from the shared experts' codes and its `own`, or from `all`.
    order: of the codes: `experts` (shared, words, picture) or `gain` (of information).
    behaviour: stage 2, or None.
    """

    levels: int = 4
    shared: int = setting(2, least=0)
    text: int = setting(1, least=0)
    image: int = setting(1, least=0)
    hidden: int = setting(512, least=1)
    latent: int = setting(64, least=1)
    beta: float = setting(0.25, least=0)
    codebook: str = setting("ema", choices=("ema", "gradient"))
    decay: float = setting(0.99, above=0, below=1)
    dead_after: int = setting(50, least=0)
    orthogonality: str = "subspace"
    orthogonality_weight: float = setting(1.0, least=0)
    decoding: str = "own"
    order: str = "gain"
    batch_size: int = setting(1024, least=2)
    schedule: Schedule = field(
        default_factory=lambda: Schedule(
            epochs=100,
            lr=1e-3,
            weight_decay=0.0,
            warmup=0.02,
            decay="cosine",
            validations=10,
            patience=0,
        )
    )
    behaviour: Behaviour | None = None

    has_costs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        total = self.shared + self.text + self.image
        if total != self.levels:
            message = (
                f"tokenizer.shared + text + image are {total}, tokenizer.levels is {self.levels}"
            )
            raise InputError(f"{message}: one code an expert")
        switches = {"orthogonality": READINGS, "order": ORDERS, "decoding": ("own", "all")}
        for name, known in switches.items():
            if getattr(self, name) not in known:
                raise InputError(f"tokenizer.{name} must be one of {', '.join(known)}")

    def fit_on(self, data: Artifact[Dataset]) -> Artifact[Quantizer]:
        plain = replace(self, collisions=Keep(), thresholds=Thresholds(), behaviour=None)
        words = self.views.views(data)[0]
        first = FittedViews(plain, self.encoder.product_embeddings(data), words)
        if self.behaviour is None:
            return first
        queries = self.behaviour.queries(self.encoder, data)
        vectors = self.encoder.product_embeddings(data)
        source = view.learning(data)
        return BehaviourAware(plain, vectors, first, source, self.behaviour, queries)

    def network(self, widths: tuple[int, int], size: int) -> Any:
        """The Experts, untrained.

        Args:
            widths: dimensions of the words' and the pictures' vectors.
            size: codes of each codebook.

        Returns:
            A torch module.
        """
        import torch

        from neurosearch.tokenizer.mmq.network import Experts

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return Experts(widths, self, size)

    def fit_views(
        self, vectors: np.ndarray, width: int, folder: Path, runtime: Runtime
    ) -> dict[str, Any]:
        import faiss

        from neurosearch.tokenizer.mmq.training import ExpertsModule

        faiss.omp_set_num_threads(runtime.cpu_threads)
        widths = (width, vectors.shape[1] - width)
        network = self.network(widths, min(self.codes, len(vectors)))
        steps = self.schedule.steps(max(1, len(vectors) // self.batch_size))
        module = ExpertsModule(network, self, np.asarray(vectors), steps)
        module.start()
        outcome = fit(module, folder, runtime)
        error, collisions = module.validate()
        self.save(network, vectors, folder)
        return {**outcome, "error": round(error, 6), "collision rate": round(collisions, 6)}

    def save(self, network: Any, vectors: np.ndarray, folder: Path) -> np.ndarray:
        """Write a trained network; returns the catalogue's N×M codes in the order of IDs.

        Args:
            network: the trained Experts.
            vectors: N×D float32.
            folder: of the artifact.

        Returns:
            Details for the manifest.
        """
        from neurosearch.tokenizer.mmq.training import settle

        codes = settle(network, vectors)
        order = np.arange(codes.shape[1])
        if self.order == "gain":
            order = by_information_gain(codes)
        save_weights(network.cpu(), folder / "experts.safetensors")
        facts = {
            "widths": list(network.widths),
            "size": int(network.codebooks.shape[1]),
            "order": order.tolist(),
        }
        (folder / "experts.json").write_text(json.dumps(facts), encoding="utf-8")
        return codes[:, order]

    def quantizer(self, folder: Path) -> ExpertCodes:
        from safetensors.torch import load_model

        facts = json.loads((folder / "experts.json").read_text(encoding="utf-8"))
        network = self.network(tuple(facts["widths"]), facts["size"])
        load_model(network, str(folder / "experts.safetensors"))
        return ExpertCodes(network.eval(), np.array(facts["order"]))

    def label(self) -> str:
        return "MMQ" if self.behaviour is None else f"MMQ, {self.behaviour.label()}"


def by_information_gain(codes: np.ndarray) -> np.ndarray:
    """Order of the columns of N×M codes: each next one leaves the least entropy in what follows."""
    left, chosen = list(range(codes.shape[1])), []
    prefix = np.zeros(len(codes), dtype=np.int64)
    while left:
        joined = {m: np.unique(prefix * 65_536 + codes[:, m], return_inverse=True)[1] for m in left}
        best = max(left, key=lambda m: (_entropy(joined[m]), -m))
        prefix = joined[best].astype(np.int64)
        chosen.append(best)
        left.remove(best)
    return np.array(chosen)


def _entropy(labels: np.ndarray) -> float:
    shares = np.bincount(labels) / len(labels)
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum())


class ExpertCodes:
    """Trained experts, with the order of their codes."""

    def __init__(self, network: Any, order: np.ndarray) -> None:
        self.network, self.order = network, order
        size: int = network.codebooks.shape[1]
        self.sizes = (size,) * len(order)

    def assign(self, vectors: np.ndarray, known: bool = False) -> np.ndarray:
        codes: np.ndarray = self.network.of_catalogue(vectors)[0]
        return codes[:, self.order]

    def decode(self, codes: np.ndarray) -> Iterator[np.ndarray]:
        """What is not known yet counts as typical: mean codeword, mean gate."""
        import torch
        from torch.nn.functional import normalize

        network = self.network
        books = normalize(network.codebooks, dim=-1)
        with torch.no_grad():
            gates = network.typical_gates
            words = (gates[:, None] * network.typical_word)[:, None].repeat(1, len(codes), 1)
            for level, expert in enumerate(self.order[: codes.shape[1]]):
                codewords = books[expert][torch.from_numpy(codes[:, level].astype(np.int64))]
                words[expert] = gates[expert] * codewords
                yield (network.decoded(words) * network.deviation + network.mean).numpy()

    def costs(self, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """1 less the cosine with each code of the last expert."""
        import torch

        network, parts = self.network, []
        for start in range(0, len(vectors), 16_384):
            part = torch.from_numpy(np.array(vectors[start : start + 16_384], np.float32))
            with torch.no_grad():
                latents = network.latents(network.standardised(part)[0])
                parts.append(1 - network.cosines(latents)[self.order[-1]].numpy())
        return np.concatenate(parts)
