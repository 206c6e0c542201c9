"""Stage 2 of MMQ: IDs that also serve what people did, through soft indices.

A product is the sum over experts of y_m Emb_m, where y_m is the one-hot code with the gradient of
p_m = softmax(cos(z_m, Z_m) / t) (straight-through). Tasks: `queries`, a train query's vector
against the products judged relevant for it (InfoNCE); `next_item`, the products of a history
(through a GRU) against the next one. Both compete within the batch and with random products. The
reconstruction loss stays, so that IDs keep describing content; the task learns ten times as fast as
the experts. IDs that changed are counted, and are final before any generator sees them: a
generator's input is this artifact.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.recipe import Recipe
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.core.vectors import Embeddings
from neurosearch.encoder.base import Encoder
from neurosearch.evaluation.gain import Gain
from neurosearch.query.none import NoProcessing
from neurosearch.tokenizer.base import Quantizer, SemanticTokenizer
from neurosearch.tokenizer.mmq.examples import examples_of
from neurosearch.training.schedule import Schedule
from neurosearch.training.trainer import fit

TASKS, INDICES = ("queries", "next_item"), ("soft", "hard")


@dataclass(frozen=True)
class Behaviour(Recipe):
    """Attributes:
    task: `queries` or `next_item` (data whose queries have a `history`).
    index: `soft`, or `hard`: the task's gradient reaches its own tables only.
    temperature: of the soft index; the task's own is `task_temperature`.
    reconstruction: weight of the reconstruction loss.
    width: of the table's vectors.
    negatives: random products that every batch's targets compete with.
    rate: of the experts' learning, as a share of the schedule's.
    """

    gain: Gain = field(kw_only=True)
    positive_share: float = setting(0.66, above=0, most=1)
    task: str = setting("next_item", choices=TASKS)
    index: str = setting("soft", choices=INDICES)
    temperature: float = setting(0.1, above=0)
    task_temperature: float = setting(0.1, above=0)
    reconstruction: float = setting(1.0, least=0)
    width: int = setting(128, above=0)
    negatives: int = setting(2048, least=0)
    batch_size: int = setting(256, least=2)
    rate: float = setting(0.1, least=0)
    schedule: Schedule = field(
        default_factory=lambda: Schedule(epochs=20, lr=1e-3, warmup=0.05, validations=10)
    )

    def queries(
        self, encoder: Encoder, data: Artifact[Dataset]
    ) -> tuple[Artifact[Embeddings], ...]:
        """Vectors of the train and dev queries, for the task that needs them."""
        if self.task != "queries":
            return ()
        return tuple(
            encoder.query_embeddings(data, split, NoProcessing()) for split in ("train", "dev")
        )

    def label(self) -> str:
        message = self.task.replace("_", " ")
        return message if self.index == "soft" else f"{message}, hard index"


@dataclass(frozen=True)
class BehaviourAware(Artifact[Quantizer]):
    """Experts after stage 2; the manifest says which share of the IDs changed."""

    kind: ClassVar[str] = "tokenizer"
    resumable: ClassVar[bool] = True
    tokenizer: SemanticTokenizer
    embeddings: Artifact[Embeddings]
    first: Artifact[Quantizer]
    data: Artifact[Dataset]
    behaviour: Behaviour
    queries: tuple[Artifact[Embeddings], ...]

    @property
    def _mmq(self) -> Any:
        return self.tokenizer

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        from neurosearch.tokenizer.mmq.behaviour_training import BehaviourModule

        recipe, data = self.behaviour, runtime.get(self.data)
        vectors = np.asarray(runtime.get(self.embeddings).vectors)
        query_vectors = [np.asarray(runtime.get(part).vectors) for part in self.queries]
        examples = [
            examples_of(data, split, recipe, query_vectors[place] if query_vectors else None)
            for place, split in enumerate(("train", "dev"))
        ]
        before: Any = self._mmq.quantizer(runtime.store.ensure(self.first))
        codes = before.network.of_catalogue(vectors)[0]
        per_epoch = max(1, len(examples[0].target) // recipe.batch_size)
        steps = recipe.schedule.steps(per_epoch)
        module = BehaviourModule(before.network, self._mmq, recipe, vectors, examples, steps)
        outcome = fit(module, folder, runtime)
        network = module.network.cpu()
        after = network.of_catalogue(vectors)[0]
        self._mmq.save(network, vectors, folder)
        churn = float((after != codes).any(axis=1).mean())
        return {**outcome, "churn": round(churn, 6), "examples": len(examples[0].target)}

    def load(self, folder: Path) -> Quantizer:
        quantizer: Quantizer = self._mmq.quantizer(folder)
        return quantizer
