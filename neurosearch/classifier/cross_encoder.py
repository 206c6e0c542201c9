"""Classes by a cross-encoder: query and product are read together, cross-entropy over classes.

ESCI's own baseline for its second and third task is such a network (Reddy et al. 2022). With
`adjust` its probabilities are adjusted for the classes' frequencies as those of `trees` are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from neurosearch.classifier.base import Classifier, Probabilities
from neurosearch.classifier.trees import adjusted, best_tau, check_present
from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.digests import content
from neurosearch.core.distributed import world
from neurosearch.core.query import QueryProcessor
from neurosearch.core.recipe import PRECISIONS
from neurosearch.core.retrieval import RetrievalRequest
from neurosearch.core.run import Run, numbered_pairs
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, check_fields
from neurosearch.encoder.sentence import model_label
from neurosearch.nn.pretrained import check_reads, weights_digest
from neurosearch.training.schedule import Schedule
from neurosearch.training.trainer import fit
from neurosearch.training.weights import save_weights


@dataclass(frozen=True)
class CrossClassifier(Classifier):
    """Attributes:
    model: any encoder, which gets a new head.
    fields, separator, *_max_length: what is read.
    batch_size: pairs of a step.
    adjust: probabilities by logit adjustment.
    precision: of inference, `fp32` or `bf16`; that of the training is the schedule's.
    """

    model: str = content(weights_digest, default="sentence-transformers/all-MiniLM-L6-v2")
    fields: tuple[str, ...] = ("title",)
    separator: str = " "
    query_max_length: int = setting(24, least=4)
    product_max_length: int = setting(64, least=4)
    batch_size: int = setting(128, least=2)
    adjust: bool = False
    schedule: Schedule = field(default_factory=lambda: Schedule(epochs=3, lr=5e-5, patience=0))
    precision: str = setting("fp32", choices=PRECISIONS)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields("classifier.fields", self.fields)
        check_reads(self.model, *self.longest)

    @property
    def longest(self) -> tuple[str, int]:
        """Tokens of a pair at most, after the config keys that say so."""
        message = "classifier.query_max_length + classifier.product_max_length"
        return message, self.query_max_length + self.product_max_length

    @property
    def outputs(self) -> int:
        """Of the network's head."""
        return len(self.classes.names)

    def probabilities(
        self, data: Artifact[Dataset], request: RetrievalRequest
    ) -> Artifact[pl.DataFrame]:
        # What is adjusted afterwards is the same network: it is trained once.
        plain = replace(self, adjust=False, precision="fp32")
        earlier, dev = request.learning(data)
        trained = TrainedCross(plain, view.learning(earlier), dev.query)
        return ByCross(request.view(data), request, self.classes, self, trained)

    def label(self) -> str:
        name = model_label(self.model)
        return f"cross-encoder ({name}, classes{', adjusted' if self.adjust else ''})"


@dataclass(frozen=True)
class TrainedCross(Artifact[Path]):
    """cross.safetensors, curves.csv, classes.json (tau, frequencies)."""

    kind: ClassVar[str] = "class_cross_encoder"
    resumable: ClassVar[bool] = True
    spreads: ClassVar[bool] = True
    classifier: CrossClassifier
    data: Artifact[Dataset]
    query: QueryProcessor

    def check(self, runtime: Runtime) -> None:
        data = runtime.get(self.data)
        check_present("classifier=cross_encoder", self.classifier.classes, data)

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        from neurosearch.classifier.cross_training import ClassModule

        module = ClassModule(self.classifier, runtime.get(self.data), self.query, runtime)
        outcome = fit(module, folder, runtime)
        if world()[0]:
            return {}
        save_weights(module.network, folder / "cross.safetensors")
        tau = best_tau(module.dev_shares(), module.wanted["dev"], module.prior)
        facts = {"tau": tau, "prior": module.prior.tolist()}
        (folder / "classes.json").write_text(json.dumps(facts), encoding="utf-8")
        return {**outcome, "chosen": {"tau if adjusted": tau}}

    def load(self, folder: Path) -> Path:
        return folder


@dataclass(frozen=True)
class ByCross(Probabilities):
    classifier: CrossClassifier
    trained: Artifact[Path]

    def shares(self, pairs: pl.DataFrame, runtime: Runtime) -> np.ndarray:
        from neurosearch.reranker.cross_encoder.network import LiveCross

        data, folder = runtime.get(self.data), runtime.get(self.trained)
        cross = LiveCross(self.classifier, folder, runtime)
        queries = self.request.processed(data, runtime)
        numbered = numbered_pairs(Run(queries.split, pairs), queries.ids, data.catalogue.ids)
        places = numbered["query"].to_numpy(), numbered["row"].to_numpy()
        asked, products = cross.queries(queries.texts), cross.products(data.catalogue)
        shares = cross.shares(asked, products, *places)
        facts = json.loads((folder / "classes.json").read_text(encoding="utf-8"))
        tau = facts["tau"] if self.classifier.adjust else 0.0
        return adjusted(shares, np.array(facts["prior"]), tau)
