"""The warm-up of a vocabulary head: masked language modelling on titles and train queries.

A sentence encoder ships no such head. It starts near the answer (`VocabularyHead`), and learns the
rest, with the network below it, from the texts that it will see.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import bounds, setting
from neurosearch.core.digests import content
from neurosearch.core.query import QueryProcessor
from neurosearch.core.recipe import Recipe
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.nn.pretrained import weights_digest
from neurosearch.training.schedule import Schedule
from neurosearch.training.trainer import fit
from neurosearch.training.weights import save_weights

QUERIES = ("encoded", "idf")


@dataclass(frozen=True)
class TermShape(Recipe):
    """Attributes:
    model: any BERT-like encoder.
    expansion: texts may have terms that they do not contain (SPLADE); else each token has a
        weight.
    queries: `encoded` by the network, or `idf`: their tokens' inverse document frequencies, for
        which no network runs.
    """

    query_max_length: int = field(metadata=bounds(least=3))
    product_max_length: int = field(metadata=bounds(least=3))
    expansion: bool
    queries: str = field(metadata=bounds(choices=QUERIES))
    model: str = content(weights_digest)

    @property
    def max_lengths(self) -> tuple[int, int]:
        """Of queries, of products."""
        return self.query_max_length, self.product_max_length

    def live(self, weights: Path | None, precision: str, runtime: Runtime) -> Any:
        """The network on the runtime's device, with its trained weights."""
        assert weights is not None, "a trained encoder is loaded with its weights"
        return TrainedTerms(self, weights, precision, runtime)


def load_tower(shape: TermShape, weights: Path | None, seed: int = 0) -> Any:
    """A TermTower from the pretrained model, or from a folder of trained `weights`."""
    import torch

    from neurosearch.encoder.splade.network import TermTower

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tower = TermTower(shape)
    if weights is not None:
        from safetensors.torch import load_model

        load_model(tower, str(weights / "towers.safetensors"))
    return tower


class TrainedTerms:
    """A trained tower; texts to term weights."""

    def __init__(self, shape: TermShape, weights: Path, precision: str, runtime: Runtime) -> None:
        import torch

        self._device = runtime.torch_device()
        kind = torch.bfloat16 if precision == "bf16" else torch.float32
        self.tower = load_tower(shape, weights).to(self._device, kind).eval()
        self._budget = runtime.batch_budget(self._device)

    def encode(self, texts: list[str], side: int) -> Any:
        import torch

        with torch.inference_mode():
            return self.tower.sparse(
                self.tower.tokens(texts, side), side, self._budget, self._device
            )


@dataclass(frozen=True)
class WarmUp(Recipe):
    """Attributes:
    share: of the tokens that are masked (Devlin et al. 2019: of these 80 % become [MASK], 10 %
        another token, 10 % stay).
    batch_size: texts.
    held_out: share of the texts that the masked accuracy is measured on.
    terms: that a text has when the training of its weights begins, on average: logits are lowered
        alike until it does, for a masked language model leaves their level open.
    schedule: of the optimisation.
    """

    share: float = setting(0.15, above=0, below=1)
    batch_size: int = setting(256, least=2)
    held_out: float = setting(0.02, above=0, below=1)
    terms: int = setting(200, least=1)
    schedule: Schedule = field(
        default_factory=lambda: Schedule(epochs=10.0, lr=2e-4, validations=4, patience=0)
    )


@dataclass(frozen=True)
class WarmedUp(Artifact[Path]):
    """The network's weights, curves.csv, and the masked accuracy (in the manifest)."""

    kind: ClassVar[str] = "warm_up"
    resumable: ClassVar[bool] = True
    data: Artifact[Dataset]
    recipe: WarmUp
    shape: TermShape
    texts: tuple[Any, ...]  # fields, separator
    query: QueryProcessor

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        from neurosearch.encoder.splade.masking import MaskingModule

        data = runtime.get(self.data)
        queries = self.query.reader(runtime).texts(data.queries("train").texts)
        texts = [*data.catalogue.all_texts(*self.texts), *queries]
        tower = load_tower(self.shape, None, self.recipe.schedule.seed)
        module = MaskingModule(tower, self.recipe, texts, runtime)
        outcome = fit(module, folder, runtime)
        module.lower_logits()
        save_weights(module.tower, folder / "towers.safetensors")
        return {**outcome, "texts": len(texts)}

    def load(self, folder: Path) -> Path:
        return folder
