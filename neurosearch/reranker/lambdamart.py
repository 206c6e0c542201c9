"""LambdaMART (Burges 2010) by LightGBM, over words and over scores of models.

It learns from the train queries' candidates, so scores of models that were trained on the same
queries are taken out of fold: with `folds` K, every such model is trained K times more, each time
without the queries that it then scores. `folds` 0 takes their scores as they are, which leaks.

Candidates that nobody judged count as worth nothing. A learner that is told so of all of them
learns which products were judged (`AUC judged` in tables), so they may be drawn, and weigh less.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.query import QueryProcessor
from neurosearch.core.retrieval import RetrievalRequest, Retriever
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.encoder.base import Encoder, pair_cosines
from neurosearch.evaluation.gain import Gain
from neurosearch.implicit.base import CLICK_GAIN, Implicit, from_clicks, pool_of, taught
from neurosearch.negatives.base import check_worth
from neurosearch.query.analyzer import Analyzer
from neurosearch.query.pair_words import Lexical
from neurosearch.reranker.base import Candidates, Fold, LiveScorer, PairScores, Reranker
from neurosearch.reranker.features import Features, of_first_stage
from neurosearch.training.boosting import check_installed, options_of

STEPS = 10  # labels are the share of the largest gain in so many steps


@dataclass(frozen=True)
class LambdaMART(Reranker):
    """Attributes:
    encoders: whose cosines are features, by name.
    rerankers: whose scores are features, by name.
    legs: what each member of the first stage said is a feature too, where it fuses lists.
    folds: K of the out-of-fold scores; 0: leaking ones.
    unjudged: candidates of a train query that nobody judged, drawn from all; None for all of them.
    unjudged_weight: of such a candidate of train, where a judged one has 1.
    pool_depth: candidates a train query.
    analyzer: of the features of words.
    implicit: labels from clicks, which are learnt from instead of people's judgments.
    trees, leaves, rate, min_data, share, truncation, patience: of LightGBM.
    """

    gain: Gain = field(kw_only=True)
    encoders: Mapping[str, Encoder] = field(default_factory=dict)
    rerankers: Mapping[str, Reranker] = field(default_factory=dict)
    legs: bool = False
    folds: int = 0
    unjudged: int | None = setting(None, least=0)
    unjudged_weight: float = setting(1.0, above=0, most=1)
    pool_depth: int = setting(50, least=1)
    trees: int = setting(500, least=1)
    leaves: int = setting(31, least=2)
    rate: float = setting(0.05, above=0)
    min_data: int = setting(50, least=1)
    share: float = setting(0.8, above=0, most=1)
    truncation: int = setting(20, least=1)
    patience: int = setting(50, least=1)
    analyzer: Analyzer = field(default_factory=Analyzer)
    implicit: Implicit | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.folds == 1 or self.folds < 0:
            raise self.error("folds", f"must be 0, or at least 2, not {self.folds}")

    def features(
        self,
        candidates: Artifact[Run],
        data: Artifact[Dataset],
        request: RetrievalRequest,
        first: Retriever,
    ) -> Artifact[pl.DataFrame]:
        """Features of these candidates, by models that were trained on `data`.

        Args:
            candidates: the first stage's run, cut to the depth that is re-ranked.
            data: the data set, or a view of it.
            request: which queries, how they are processed, how deep, and from which pool.
            first: the retriever that finds the candidates.

        Returns:
            One table of features for each split, as artifacts.
        """
        split, query = request.split, request.query
        cosines = {
            name: (encoder.query_embeddings(data, split, query), encoder.product_embeddings(data))
            for name, encoder in self.encoders.items()
        }
        scored = {
            name: reranker.scores(candidates, data, request, first)
            for name, reranker in self.rerankers.items()
        }
        legs = first.legs(data, request) if self.legs else {}
        parts = request.view(data), request, cosines, scored, self.analyzer, legs
        return Features(candidates, *parts)

    def trained(
        self, data: Artifact[Dataset], query: QueryProcessor, first: Retriever
    ) -> Artifact[Path]:
        """The trees.

        Args:
            data: the data set, or a view of it.
            query: how the query texts are processed first.
            first: the retriever that finds the candidates.

        Returns:
            The training as an artifact.
        """

        def pool(source: Artifact[Dataset], split: str) -> Artifact[pl.DataFrame]:
            request = RetrievalRequest(query.fitted(source), split, 200, pool_of(self))
            depth = self.pool_depth if request.pool == "catalogue" else None
            whole = source is data
            found = first.run(data, request) if whole else first.held(data, source, request)
            candidates = Candidates(found, depth)
            return self.features(candidates, source, request, first)

        data = view.before(data)
        if self.folds:
            folds = [Fold.of(data, self.folds, number) for number in range(self.folds)]
            train = tuple(pool(fold, "test") for fold in folds)
        else:
            train = (pool(data, "train"),)
        recipe, source = taught(self, data)
        return TrainedTrees(recipe, view.learning(source), train, pool(data, "dev"))

    def scores(
        self,
        candidates: Artifact[Run],
        data: Artifact[Dataset],
        request: RetrievalRequest,
        first: Retriever,
    ) -> Artifact[Run]:
        features = self.features(candidates, data, request, first)
        trained = self.trained(data, request.query, first)
        return TreeScores(candidates, request.view(data), request, features, trained)

    @property
    def is_live(self) -> bool:
        return all(reranker.is_live for reranker in self.rerankers.values())

    @property
    def reads_legs(self) -> bool:
        return self.legs

    def live(
        self, data: Artifact[Dataset], request: RetrievalRequest, first: Retriever, runtime: Runtime
    ) -> LiveScorer:
        trees, names = load_trees(runtime.get(self.trained(data, request.query, first)))
        words = Lexical(runtime.get(data).catalogue.all_texts(("title",)), self.analyzer)
        encoders = {
            name: (encoder.loaded(runtime, data), encoder.product_embeddings(data))
            for name, encoder in self.encoders.items()
        }
        rerankers = {
            name: reranker.live(data, request, first, runtime)
            for name, reranker in self.rerankers.items()
        }

        def inputs(texts: list[str], pairs: pl.DataFrame) -> np.ndarray:
            query, row = pairs["query"].to_numpy(), pairs["row"].to_numpy()
            columns = of_first_stage(pairs) | words.features(texts, query, row)
            columns |= {
                name: pairs[name].to_numpy() for name in pairs.columns if name.startswith("leg")
            }
            for name, (live, products) in encoders.items():
                query_vectors = live.encode(texts)
                shown = runtime.get(products).vectors
                columns[f"cosine {name}"] = pair_cosines(query_vectors, shown, query, row)
            for name, scorer in rerankers.items():
                columns[f"score {name}"] = scorer(texts, pairs)
            return np.stack([columns[name].astype(np.float32) for name in names], axis=1)

        return LiveTrees(trees, names, inputs, runtime.cpu_threads)

    def serving(
        self, data: Artifact[Dataset], request: RetrievalRequest, first: Retriever
    ) -> list[Any]:
        artifacts: list[Any] = [self.trained(data, request.query, first)]
        artifacts += [encoder.product_embeddings(data) for encoder in self.encoders.values()]
        for reranker in self.rerankers.values():
            artifacts += reranker.serving(data, request, first)
        return artifacts

    def label(self) -> str:
        if not self.encoders and not self.rerankers:
            return f"LambdaMART, words{from_clicks(self)}"
        return f"LambdaMART{'' if self.folds else ', leaking'}{from_clicks(self)}"


@dataclass(frozen=True)
class TrainedTrees(Artifact[Path]):
    """trees.txt, importance.csv (gain and splits of each feature)."""

    kind: ClassVar[str] = "lambdamart"
    reranker: LambdaMART
    data: Artifact[Dataset]
    train: tuple[Artifact[pl.DataFrame], ...]
    dev: Artifact[pl.DataFrame]

    def check(self, runtime: Runtime) -> None:
        check_installed("reranker=lambdamart")
        data = runtime.get(self.data)
        for split in ("train", "dev"):
            graded = self.reranker.gain.graded(data.judgments(split))
            check_worth(graded, split, self.reranker.gain)

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        import lightgbm

        recipe, data = self.reranker, runtime.get(self.data)
        parts = {
            "train": pl.concat([runtime.get(features) for features in self.train]),
            "dev": runtime.get(self.dev),
        }
        sets: dict[str, Any] = {}
        names: list[str] = []
        for split, frame in parts.items():
            graded = recipe.gain.graded(data.judgments(split))
            share = pl.col("gain") / graded["gain"].max()
            label = (share * STEPS).round().cast(pl.Int32)
            labels = graded.select("query_id", "product_id", label=label)
            known = frame.join(
                labels, on=["query_id", "product_id"], how="left", maintain_order="left"
            )
            if recipe.gain != CLICK_GAIN:
                known = self._weighed(known, split)
            else:  # nobody saw the others: they are not known to be worse
                known = known.filter(pl.col("label").is_not_null())
                known = known.with_columns(weight=pl.lit(1.0))
            # LightGBM wants the pairs of a query together.
            known = known.sort("query_id", maintain_order=True)
            groups = known.group_by("query_id", maintain_order=True).len()["len"].to_list()
            names = [c for c in frame.columns if c not in ("query_id", "product_id")]
            sets[split] = lightgbm.Dataset(
                known.select(names).to_numpy(),
                known["label"].to_numpy(),
                weight=known["weight"].to_numpy(),
                group=groups,
                feature_name=[name.replace(" ", "_") for name in names],
                reference=sets.get("train"),
                free_raw_data=False,
            )
        options = {
            "objective": "lambdarank",
            "metric": "ndcg",
            "eval_at": [10],
            "label_gain": list(range(STEPS + 1)),  # linear, as the metric is
            "lambdarank_truncation_level": recipe.truncation,
            "bagging_fraction": recipe.share,
            "bagging_freq": 1,
            **options_of(recipe, runtime.cpu_threads),
        }
        trees = lightgbm.train(
            options,
            sets["train"],
            recipe.trees,
            valid_sets=[sets["dev"]],
            callbacks=[lightgbm.early_stopping(recipe.patience, verbose=False)],
        )
        trees.save_model(str(folder / "trees.txt"), num_iteration=trees.best_iteration)
        importance = pl.DataFrame(
            {
                "feature": names,
                "gain": trees.feature_importance("gain"),
                "splits": trees.feature_importance("split"),
            }
        ).sort("gain", descending=True)
        importance.write_csv(folder / "importance.csv")
        (folder / "features.json").write_text(json.dumps(names), encoding="utf-8")
        total = max(float(importance["gain"].sum()), 1e-9)
        shares = {row[0]: round(row[1] / total, 4) for row in importance.iter_rows()}
        return {"trees": trees.best_iteration, "importance": shares}

    def _weighed(self, known: pl.DataFrame, split: str) -> pl.DataFrame:
        """With `weight`; of the train candidates that nobody judged only those that are drawn."""
        recipe, unjudged = self.reranker, pl.col("label").is_null()
        if split == "train" and recipe.unjudged is not None:
            drawn = np.random.default_rng(recipe.seed).random(known.height)
            place = pl.col("drawn").rank("ordinal").over("query_id", unjudged)
            known = known.with_columns(drawn=pl.Series(drawn))
            known = known.filter(~unjudged | (place <= recipe.unjudged)).drop("drawn")
        # Weights of dev would weigh its queries by their judged share in what stops the training.
        light = recipe.unjudged_weight if split == "train" else 1.0
        weight = pl.when(unjudged).then(light).otherwise(1.0)
        return known.with_columns(weight=weight, label=pl.col("label").fill_null(0))

    def load(self, folder: Path) -> Path:
        return folder


@dataclass(frozen=True)
class LiveTrees:
    """Loaded trees. `inputs`: from texts and pairs to P×F features, in the order of `names`."""

    trees: Any
    names: list[str]
    inputs: Callable[[list[str], pl.DataFrame], np.ndarray]
    threads: int

    def __call__(self, texts: list[str], pairs: pl.DataFrame) -> np.ndarray:
        return np.asarray(self.trees.predict(self.inputs(texts, pairs), num_threads=self.threads))

    def parts(self, texts: list[str], pairs: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """What each feature adds to a pair's score (Shapley values of the trees), and the rest.

        Args:
            texts: of the queries, processed.
            pairs: as `LiveScorer` takes them.

        Returns:
            P×F features, and P×(F + 1) parts; the last one is the expected score.
        """
        inputs = self.inputs(texts, pairs)
        return inputs, np.asarray(self.trees.predict(inputs, pred_contrib=True))


def load_trees(folder: Path) -> tuple[Any, list[str]]:
    """The booster and the names of its features, in their order."""
    import lightgbm

    names = json.loads((folder / "features.json").read_text(encoding="utf-8"))
    return lightgbm.Booster(model_file=str(folder / "trees.txt")), names


@dataclass(frozen=True)
class TreeScores(PairScores):
    features: Artifact[pl.DataFrame]
    trained: Artifact[Path]

    def score(self, query: np.ndarray, row: np.ndarray, runtime: Runtime) -> np.ndarray:
        trees, names = load_trees(runtime.get(self.trained))
        inputs = runtime.get(self.features).select(names).to_numpy()
        scores = trees.predict(inputs, num_threads=runtime.cpu_threads)
        return np.asarray(scores, dtype=np.float32)
