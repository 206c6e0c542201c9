"""Classes by gradient-boosted trees (LightGBM) over words and cosines of a pair.

The probabilities are those of cross-entropy, which micro-F1 wants. Rare classes are hardly ever the
most likely one then. With `adjust` they are divided by the classes' frequencies to the power of
tau (logit adjustment, Menon et al. 2021), which is chosen on dev by macro-F1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from neurosearch.classifier.base import Classifier, Probabilities
from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.retrieval import RetrievalRequest, Retriever
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.encoder.base import Encoder
from neurosearch.evaluation.classes import Classes
from neurosearch.evaluation.labels import f1_by_class
from neurosearch.query.analyzer import Analyzer
from neurosearch.reranker.features import Features
from neurosearch.training.boosting import check_installed, options_of

PAIR = ["query_id", "product_id"]
TAUS = tuple(round(0.1 * step, 1) for step in range(16))


@dataclass(frozen=True)
class Trees(Classifier):
    """Attributes:
    retriever: whose score and rank among a query's judged products are features.
    encoders: whose cosines are features, by name.
    analyzer: of the features of words.
    adjust: probabilities by logit adjustment.
    trees, leaves, rate, min_data, patience: of LightGBM.
    """

    retriever: Retriever = field(kw_only=True)
    encoders: Mapping[str, Encoder] = field(default_factory=dict)
    adjust: bool = False
    trees: int = setting(500, least=1)
    leaves: int = setting(31, least=2)
    rate: float = setting(0.05, above=0)
    min_data: int = setting(50, least=1)
    patience: int = setting(50, least=1)
    analyzer: Analyzer = field(default_factory=Analyzer)
    seed: int = 0

    def probabilities(
        self, data: Artifact[Dataset], request: RetrievalRequest
    ) -> Artifact[pl.DataFrame]:
        for name, encoder in self.encoders.items():
            if encoder.trained(data) is not None:
                reason = "is trained on the queries whose labels are learnt: its cosines would leak"
                raise self.error(f"encoders.{name}", reason)
        earlier, dev = request.learning(data)
        learnt = [self._features(earlier, replace(dev, split=s)) for s in ("train", "dev")]
        trained = TrainedClasses(self, view.learning(earlier), *learnt)
        features = self._features(data, request)
        return ByTrees(request.view(data), request, self.classes, features, trained)

    def _features(
        self, data: Artifact[Dataset], request: RetrievalRequest
    ) -> Artifact[pl.DataFrame]:
        asked = replace(request, pool="judged")
        split, query = asked.split, asked.query
        cosines = {
            name: (encoder.query_embeddings(data, split, query), encoder.product_embeddings(data))
            for name, encoder in self.encoders.items()
        }
        run = self.retriever.run(data, asked)
        return Features(run, asked.view(data), asked, cosines, {}, self.analyzer, {})

    def label(self) -> str:
        names = ["words", *self.encoders]
        return f"trees ({', '.join(names)}{', adjusted' if self.adjust else ''})"


@dataclass(frozen=True)
class TrainedClasses(Artifact[Path]):
    """trees.txt, classes.json (features, tau, frequencies)."""

    kind: ClassVar[str] = "class_trees"
    classifier: Trees
    data: Artifact[Dataset]
    train: Artifact[pl.DataFrame]
    dev: Artifact[pl.DataFrame]

    def check(self, runtime: Runtime) -> None:
        check_installed("classifier=trees")
        check_present("classifier=trees", self.classifier.classes, runtime.get(self.data))

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        import lightgbm

        recipe = self.classifier
        sets: dict[str, Any] = {}
        inputs: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        names: list[str] = []
        for split, features in (("train", self.train), ("dev", self.dev)):
            frame = runtime.get(features)
            judged = runtime.get(self.data).judgments(split).frame
            known = frame.join(judged, on=PAIR, how="inner", maintain_order="left")
            names = [column for column in frame.columns if column not in PAIR]
            inputs[split] = (
                known.select(names).to_numpy(),
                recipe.classes.of(known["label"]),
            )
            sets[split] = lightgbm.Dataset(*inputs[split], reference=sets.get("train"))
        options = {
            "objective": "multiclass",
            "num_class": len(recipe.classes.names),
            "metric": "multi_logloss",
            **options_of(recipe, runtime.cpu_threads),
        }
        stop = lightgbm.early_stopping(recipe.patience, verbose=False)
        trees = lightgbm.train(
            options, sets["train"], recipe.trees, valid_sets=[sets["dev"]], callbacks=[stop]
        )
        trees.save_model(str(folder / "trees.txt"), num_iteration=trees.best_iteration)
        prior = np.bincount(inputs["train"][1], minlength=len(recipe.classes.names))
        prior = prior / prior.sum()
        tau = 0.0
        if recipe.adjust:
            shares = np.asarray(trees.predict(inputs["dev"][0]))
            tau = best_tau(shares, inputs["dev"][1], prior)
        facts = {"features": names, "tau": tau, "prior": prior.tolist()}
        (folder / "classes.json").write_text(json.dumps(facts), encoding="utf-8")
        return {"trees": trees.best_iteration, "chosen": {"tau": tau} if recipe.adjust else {}}

    def load(self, folder: Path) -> Path:
        return folder


def check_present(key: str, classes: Classes, data: Dataset) -> None:
    """Raise InputError, naming the config `key`, unless train has pairs of every class."""
    found = classes.of(data.judgments("train").frame["label"])
    absent = sorted(set(range(len(classes.names))) - set(found.tolist()))
    if absent:
        raise InputError(f"{key}: no train pair has the class {classes.names[absent[0]]!r}")


def best_tau(shares: np.ndarray, wanted: np.ndarray, prior: np.ndarray) -> float:
    """The tau of the best macro-F1.

    Args:
        shares: P×C probabilities of dev pairs.
        wanted: P classes.
        prior: C frequencies in train.

    Returns:
        One of `TAUS`, the least of equals.
    """

    def macro(tau: float) -> float:
        said = adjusted(shares, prior, tau).argmax(axis=1)
        return float(np.mean(f1_by_class(wanted, said, shares.shape[1])))

    return max(TAUS, key=macro)


def adjusted(shares: np.ndarray, prior: np.ndarray, tau: float) -> np.ndarray:
    """p / prior^tau, rows of sum 1 again.

    Args:
        shares: P×C probabilities.
        prior: C frequencies.
        tau: 0 for no change.

    Returns:
        P×C float64.
    """
    weighed: np.ndarray = shares / np.maximum(prior, 1e-12) ** tau
    weighed /= weighed.sum(axis=1, keepdims=True)
    return weighed


@dataclass(frozen=True)
class ByTrees(Probabilities):
    features: Artifact[pl.DataFrame]
    trained: Artifact[Path]

    def shares(self, pairs: pl.DataFrame, runtime: Runtime) -> np.ndarray:
        import lightgbm

        folder = runtime.get(self.trained)
        facts = json.loads((folder / "classes.json").read_text(encoding="utf-8"))
        trees = lightgbm.Booster(model_file=str(folder / "trees.txt"))
        known = pairs.join(runtime.get(self.features), on=PAIR, how="left", maintain_order="left")
        inputs = known.select(facts["features"]).to_numpy()
        found = np.asarray(trees.predict(inputs, num_threads=runtime.cpu_threads))
        return adjusted(found, np.array(facts["prior"]), facts["tau"])
