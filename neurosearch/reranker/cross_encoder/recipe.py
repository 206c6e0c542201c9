"""Cross-encoders: query and product are read together (Nogueira & Cho 2019).

Trained on lists: a train query's judged products, and unjudged ones of the very run that will be
re-ranked, which count as worth nothing. Objectives: `pointwise` (BCE on the share of the gain),
`ranknet` (Burges et al. 2005), `lambda` (LambdaLoss), `listwise` (ListNet), `classes` (four
classes of gain; the score is the expected gain).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.digests import content
from neurosearch.core.distributed import world
from neurosearch.core.errors import InputError
from neurosearch.core.exportable import Exportable
from neurosearch.core.query import QueryProcessor
from neurosearch.core.recipe import PRECISIONS
from neurosearch.core.retrieval import RetrievalRequest, Retriever
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, check_fields
from neurosearch.encoder.sentence import model_label
from neurosearch.evaluation.gain import Gain
from neurosearch.implicit.base import Implicit, from_clicks, pool_of, taught
from neurosearch.negatives.base import check_judged
from neurosearch.nn.pretrained import check_reads, weights_digest
from neurosearch.reranker.base import Candidates, LiveScorer, PairScores, Reranker
from neurosearch.training.schedule import Schedule
from neurosearch.training.trainer import fit
from neurosearch.training.weights import save_weights

OBJECTIVES = ("pointwise", "ranknet", "lambda", "listwise", "classes")


@dataclass(frozen=True)
class CrossEncoder(Reranker):
    """Attributes:
    model: any encoder, which gets a new head; a published cross-encoder goes on from its own.
    objective: see above.
    judged, drawn: judged products and unjudged candidates of a query's list, at most.
    pool_depth: candidates that unjudged products are drawn from.
    batch_queries: lists of a step.
    fields, separator, *_max_length: what is read.
    dev_queries: of the validation, which re-ranks their candidates.
    precision: of inference, `fp32` or `bf16`; that of the training is the schedule's.
    implicit: labels from clicks, which are learnt from instead of people's judgments.
    """

    gain: Gain = field(kw_only=True)
    model: str = content(weights_digest, default="sentence-transformers/all-MiniLM-L6-v2")
    objective: str = setting("listwise", choices=OBJECTIVES)
    judged: int = setting(4, least=1)
    drawn: int = setting(4, least=0)
    pool_depth: int = setting(50, least=1)
    batch_queries: int = setting(32, least=1)
    fields: tuple[str, ...] = ("title",)
    separator: str = " "
    query_max_length: int = setting(24, least=4)
    product_max_length: int = setting(64, least=4)
    schedule: Schedule = field(default_factory=lambda: Schedule(epochs=4, lr=5e-5, patience=0))
    dev_queries: int = setting(400, least=1)
    precision: str = setting("fp32", choices=PRECISIONS)
    implicit: Implicit | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.judged + self.drawn < 2:
            raise InputError("reranker.judged + reranker.drawn: a list has two products or more")
        check_fields("reranker.fields", self.fields)
        check_reads(self.model, *self.longest)

    @property
    def longest(self) -> tuple[str, int]:
        """Tokens of a pair at most, after the config keys that say so."""
        message = "reranker.query_max_length + reranker.product_max_length"
        return message, self.query_max_length + self.product_max_length

    @property
    def outputs(self) -> int:
        """Of the network's head."""
        from neurosearch.reranker.cross_encoder.network import CLASSES

        return len(CLASSES) if self.objective == "classes" else 1

    def trained(
        self, data: Artifact[Dataset], query: QueryProcessor, first: Retriever
    ) -> Artifact[Path]:
        """The network after training on what `first` finds for the train queries.

        Args:
            data: the data set, or a view of it.
            query: how the query texts are processed first.
            first: the retriever that finds the candidates.

        Returns:
            The training as an artifact.
        """
        data, depth = view.before(data), max(self.pool_depth, 10)
        pools = tuple(
            Candidates(first.run(data, RetrievalRequest(query, split, 200, pool_of(self))), depth)
            for split in ("train", "dev")
        )
        recipe, source = taught(self, data)
        return TrainedCrossEncoder(recipe, view.learning(source), query, pools)

    def scores(
        self,
        candidates: Artifact[Run],
        data: Artifact[Dataset],
        request: RetrievalRequest,
        first: Retriever,
    ) -> Artifact[Run]:
        trained = self.trained(data, request.query, first)
        return CrossScores(candidates, request.view(data), request, self, trained)

    def serving(
        self, data: Artifact[Dataset], request: RetrievalRequest, first: Retriever
    ) -> list[Any]:
        return [self.trained(data, request.query, first)]

    def exported(
        self, data: Artifact[Dataset], request: RetrievalRequest, first: Retriever
    ) -> Exportable:
        def write(folder: Path, runtime: Runtime) -> None:
            from neurosearch.nn.export import save_cross_encoder
            from neurosearch.reranker.cross_encoder.network import LiveCross

            cross = LiveCross(self, runtime.get(self.trained(data, request.query, first)), runtime)
            save_cross_encoder(cross.tower, self, folder)

        lines = (
            "from sentence_transformers import CrossEncoder",
            "",
            'model = CrossEncoder("this/folder")',
            'scores = model.predict([("query", "product"), ...])',
        )
        query, product = self.query_max_length, self.product_max_length
        note = (
            f"NeuroSearch cuts queries at {query} and products at {product} tokens; here a pair is "
            f"cut at {query + product}, the longer text first."
        )

        def networks(runtime: Runtime) -> dict[str, Any]:
            from neurosearch.nn.exchange import PairScores
            from neurosearch.reranker.cross_encoder.network import LiveCross

            cross = LiveCross(self, runtime.get(self.trained(data, request.query, first)), runtime)
            return {"model": PairScores(cross.tower.cpu().float())}

        library = "sentence-transformers"
        whole = Exportable(self.label(), library, self.model, lines, write, note)
        return replace(whole, networks=networks)

    def live(
        self, data: Artifact[Dataset], request: RetrievalRequest, first: Retriever, runtime: Runtime
    ) -> LiveScorer:
        from neurosearch.reranker.cross_encoder.network import LiveCross

        cross = LiveCross(self, runtime.get(self.trained(data, request.query, first)), runtime)
        products = cross.products(runtime.get(data).catalogue)

        def score(texts: list[str], pairs: pl.DataFrame) -> np.ndarray:
            query, row = pairs["query"].to_numpy(), pairs["row"].to_numpy()
            return cross.scores(cross.queries(texts), products, query, row)

        return score

    def label(self) -> str:
        return f"cross-encoder ({model_label(self.model)}, {self.objective}{from_clicks(self)})"


@dataclass(frozen=True)
class TrainedCrossEncoder(Artifact[Path]):
    """cross.safetensors, curves.csv."""

    kind: ClassVar[str] = "cross_encoder"
    resumable: ClassVar[bool] = True
    spreads: ClassVar[bool] = True
    reranker: CrossEncoder
    data: Artifact[Dataset]
    query: QueryProcessor
    pools: tuple[Artifact[Run], ...]

    def check(self, runtime: Runtime) -> None:
        check_judged(runtime.get(self.data), self.reranker.gain)

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        from neurosearch.reranker.cross_encoder.training import CrossModule

        data = runtime.get(self.data)
        train, dev = (runtime.get(pool) for pool in self.pools)
        module = CrossModule(self.reranker, data, self.query, train, dev, runtime)
        outcome = fit(module, folder, runtime)
        if world()[0] == 0:
            save_weights(module.network, folder / "cross.safetensors")
        return {**outcome, "lists": len(module.lists)}

    def load(self, folder: Path) -> Path:
        return folder


@dataclass(frozen=True)
class CrossScores(PairScores):
    reranker: CrossEncoder
    trained: Artifact[Path]

    def score(self, query: np.ndarray, row: np.ndarray, runtime: Runtime) -> np.ndarray:
        from neurosearch.reranker.cross_encoder.network import LiveCross

        data = runtime.get(self.data)
        cross = LiveCross(self.reranker, runtime.get(self.trained), runtime)
        queries = cross.queries(self.request.processed(data, runtime).texts)
        return cross.scores(queries, cross.products(data.catalogue), query, row)
