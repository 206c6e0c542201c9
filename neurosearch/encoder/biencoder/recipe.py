"""Bi-encoders fine-tuned by contrastive learning with hard negatives (Karpukhin et al. 2020).

The recipe says how the encoder was trained; retrievers use it like any other. Training pairs
are the train split's judged positives; every step sees them, hard negatives, what is known of
all pairs of the batch, and the false-negative mask; the gradient is the whole batch's, chunk
by chunk (GradCache) where it doesn't fit. The best checkpoint by nDCG@10 of retrieval from a
dev sub-catalogue is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.digests import content
from neurosearch.core.distributed import world
from neurosearch.core.errors import InputError
from neurosearch.core.exportable import Exportable
from neurosearch.core.query import QueryProcessor
from neurosearch.core.recipe import PRECISIONS, Recipe, remembered
from neurosearch.core.retrieval import RetrievalRequest, Retriever
from neurosearch.core.run import Run, numbered_pairs
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.core.vectors import Embeddings
from neurosearch.encoder.base import Encoder, LiveEncoder
from neurosearch.encoder.biencoder.averaged import AveragedWeights
from neurosearch.encoder.biencoder.generated import Generated, Pretraining
from neurosearch.encoder.biencoder.network import TowerShape, load_towers, save_towers
from neurosearch.encoder.sentence import Sentence, model_label
from neurosearch.evaluation.gain import Gain
from neurosearch.implicit.base import Implicit, from_clicks, taught
from neurosearch.loss.base import Loss
from neurosearch.loss.infonce import InfoNCE
from neurosearch.negatives.base import Negatives, TrainingContext, check_judged, graded_pairs
from neurosearch.negatives.in_batch import InBatch
from neurosearch.nn.pretrained import weights_digest
from neurosearch.nn.sentence_folder import prompts_of
from neurosearch.query.none import NoProcessing
from neurosearch.query.typos import Typos
from neurosearch.training.schedule import Schedule
from neurosearch.training.trainer import fit

BATCHES = ("random", "neighbours")


@dataclass(frozen=True)
class Objective(Recipe):
    """What a step minimises: loss, negatives, batch, mask.

    Attributes:
        chunk: texts encoded at a time by GradCache; 0 for the whole batch at once.
        mask: the false-negative mask.
        typos: share of a batch's queries that are read with a planted typing error, after which
            they pass the query processing as typed queries do.
        generated_share: of a batch whose queries were generated.
    """

    loss: Loss
    negatives: Negatives
    batch_size: int = setting(256, least=2)
    chunk: int = setting(0, least=0)
    mask: bool = True
    typos: float = setting(0.0, least=0, most=1)
    generated_share: float = setting(0.0, least=0, most=1)


@dataclass(frozen=True)
class BiEncoder(Encoder):
    """Attributes:
    model, pooling, projection, towers, *_max_length, lora: see `TowerShape`.
    loss, negatives, batch_size, chunk, mask, typos: see `Objective`.
    batches: `random`, or `neighbours`: pairs of similar products share a batch, which are hard
        negatives for each other (Morris and Rush 2024, arXiv 2410.02525).
    generated: queries that a writer made for products, beside judged pairs; None for none.
    pretraining: on generated pairs alone, before all else; None for none.
    averaged: trainings from one start whose weights are averaged (Wortsman et al. 2022); further
        ones have the schedule's seed plus 1,000, 2,000, …, so rows of seeds below 1,000 share none.
    schedule: of the optimisation.
    gain, positive_share: a train judgment worth this share of the largest gain is a positive.
    teacher: a retriever whose train run gives teacher scores to losses that learn from one.
    implicit: labels from clicks, which are learnt from instead of people's judgments.
    dev_products: size of the dev sub-catalogue that validation retrieves from.
    precision: of inference, `fp32` or `bf16`; that of the training is the schedule's.
    """

    gain: Gain = field(kw_only=True)
    model: str = content(weights_digest, default="sentence-transformers/all-MiniLM-L6-v2")
    pooling: str | None = None
    towers: str = "shared"
    projection: int | None = None
    query_max_length: int = 32
    product_max_length: int = 64
    lora: int = 0
    loss: Loss = field(default_factory=InfoNCE)
    negatives: Negatives = field(default_factory=InBatch)
    batch_size: int = setting(256, least=2)
    chunk: int = setting(0, least=0)
    mask: bool = True
    typos: float = setting(0.0, least=0, most=1)
    batches: str = setting("random", choices=BATCHES)
    generated: Generated | None = None
    pretraining: Pretraining | None = None
    averaged: int = setting(1, least=1)
    schedule: Schedule = field(default_factory=Schedule)
    positive_share: float = setting(0.66, above=0, most=1)
    teacher: Retriever | None = None
    implicit: Implicit | None = None
    query: QueryProcessor = field(default_factory=NoProcessing)
    dev_products: int = setting(10_000, least=1)
    precision: str = setting("fp32", choices=PRECISIONS)

    has_network: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_training(self)
        _ = self.shape

    @property
    def shape(self) -> TowerShape:
        """The network."""
        lengths = self.query_max_length, self.product_max_length
        parts = self.pooling, self.towers, self.projection, *lengths, self.lora, self.model
        return TowerShape(*parts)

    @property
    def _texts(self) -> tuple[tuple[str, ...], str, str | None, str | None]:
        """Fields, separator and prefixes: what a training reads."""
        return tuple(self.fields), self.separator, self.query_prefix, self.product_prefix

    @remembered
    def trained(self, data: Artifact[Dataset]) -> Artifact[Path]:
        data = view.before(data)
        start = None if self.pretraining is None else self._pretrained(self.pretraining, data)
        packed = None
        if self.batches == "neighbours":
            plain = Sentence(self.fields, self.separator, *self._texts[2:], model=self.model)
            packed = plain.product_embeddings(data)
        trainings = []
        for number in range(self.averaged):
            schedule = replace(self.schedule, seed=self.schedule.seed + 1000 * number)
            recipe = replace(self, averaged=1, schedule=schedule)
            trainings.append(
                TrainedBiEncoder.of(recipe, data, self._texts, start=start, packed=packed)
            )
        return trainings[0] if self.averaged == 1 else AveragedWeights(tuple(trainings))

    def _pretrained(self, first: Pretraining, data: Artifact[Dataset]) -> Artifact[Path]:
        """The network after a training on generated pairs alone."""
        recipe = replace(
            self,
            pretraining=None,
            teacher=None,
            implicit=None,
            typos=0.0,
            batches="random",
            loss=InfoNCE(),
            negatives=InBatch(),
            generated=first.generated,
            schedule=replace(first.schedule, seed=self.schedule.seed),
        )
        whole = TrainedBiEncoder.of(recipe, data, self._texts)
        return replace(whole, objective=replace(whole.objective, generated_share=1.0))

    def live(self, runtime: Runtime, weights: Path | None = None) -> LiveEncoder:
        assert weights is not None, "a trained encoder is loaded with its weights"
        from neurosearch.nn.text_encoder import LiveText

        towers = load_towers(self.shape, weights)
        lengths = self.shape.max_lengths
        return LiveText(towers.query, towers.product, lengths, self.precision, runtime)

    def tower(self, weights: Path | None = None) -> Any:
        return load_towers(self.shape, weights).query

    def prompts(self) -> tuple[str, str]:
        return prompts_of(self.model)

    def exported(self, data: Artifact[Dataset]) -> Exportable:
        def write(folder: Path, runtime: Runtime) -> None:
            self._write(folder, load_towers(self.shape, runtime.get(self.trained(data))))

        load = "from sentence_transformers import SentenceTransformer"
        query, product = self.shape.max_lengths
        if self.towers == "shared":
            lines = [load, "", 'model = SentenceTransformer("this/folder")']
            sides = "model", "model"
            note = f"Queries are cut at {query} tokens by NeuroSearch, and at {product} here."
        else:
            names = ("query", "product")
            loads = [f'{side} = SentenceTransformer("this/folder/{side}")' for side in names]
            lines, sides, note = [load, "", *loads], names, ""
        lines += [f"queries = {sides[0]}.encode_query([...])"]
        lines += [f"products = {sides[1]}.encode_document([...])"]
        library = "sentence-transformers"
        note = note if query < product else ""

        def networks(runtime: Runtime) -> dict[str, Any]:
            from neurosearch.nn.exchange import Vectors

            towers = load_towers(self.shape, runtime.get(self.trained(data)))
            if self.towers == "shared":
                return {"model": Vectors(towers.query)}
            return {side: Vectors(getattr(towers, side)) for side in ("query", "product")}

        whole = Exportable(self.label(), library, self.model, tuple(lines), write, note)
        return replace(whole, networks=networks)

    def _write(self, folder: Path, towers: Any) -> None:
        """One folder for shared towers, which cuts every text at the greater length, or two."""
        from neurosearch.nn.export import save_sentence_transformer

        query, product = self.prefixes
        prompts = {"query": query, "document": product}
        lengths = self.shape.max_lengths
        if self.towers == "shared":
            save_sentence_transformer(towers.query, folder, prompts, max(lengths))
            return
        for name, length in zip(("query", "product"), lengths, strict=True):
            save_sentence_transformer(getattr(towers, name), folder / name, prompts, length)

    def label(self) -> str:
        how = f", LoRA of rank {self.lora}" if self.lora else ""
        return f"{model_label(self.model)} fine-tuned ({self.loss.label()}{how}{from_clicks(self)})"


def check_training(recipe: Any) -> None:
    """Raise InputError for a contrastive training of an encoder that can't be."""
    if recipe.loss.needs_teacher and recipe.teacher is None:
        raise InputError("this loss learns from a teacher, and encoder.teacher is null")
    if getattr(recipe, "averaged", 1) > 1 and recipe.projection is not None:
        raise recipe.error("averaged", "needs one start for all seeds: projection must be null")


@dataclass(frozen=True)
class TrainedBiEncoder(Artifact[Path]):
    """The network's weights, curves.csv, and how the training went (in the manifest)."""

    kind: ClassVar[str] = "biencoder"
    resumable: ClassVar[bool] = True
    spreads: ClassVar[bool] = True
    context: TrainingContext
    shape: TowerShape
    objective: Objective
    schedule: Schedule
    texts: tuple[Any, ...]
    dev_products: int
    negatives: tuple[Artifact[Any], ...]
    counts: tuple[int, ...]
    teacher: Artifact[Run] | None
    generated: Artifact[pl.DataFrame] | None
    start: Artifact[Path] | None
    packed: Artifact[Embeddings] | None

    @classmethod
    def of(
        cls, recipe: Any, data: Artifact[Dataset], texts: tuple[Any, ...], **more: Any
    ) -> TrainedBiEncoder:
        """The training that an encoder's recipe describes.

        Args:
            recipe: of the encoder.
            data: to be trained on; only train and dev are read.
            texts: fields, separator, prefixes.
            more: fields that a subclass adds.

        Returns:
            The training as an artifact.
        """
        query = recipe.query.fitted(data)
        recipe, data = taught(recipe, data)
        source = view.learning(data)
        context = TrainingContext(source, query, recipe.gain, recipe.positive_share)
        batch = recipe.batch_size, recipe.chunk, recipe.mask, recipe.typos
        made = getattr(recipe, "generated", None)
        share = 0.0 if made is None else made.share
        objective = Objective(recipe.loss, recipe.negatives, *batch, share)
        # Mined from train alone: another dev judgment mines nothing anew.
        lists = recipe.negatives.lists(replace(context, data=view.learning(data, "train")))
        teacher = None
        if recipe.teacher is not None:
            request = RetrievalRequest(query, "train", 200)
            teacher = recipe.teacher.run(data, request)
        return cls(
            context,
            recipe.shape,
            objective,
            recipe.schedule,
            texts,
            recipe.dev_products,
            tuple(artifact for _, artifact in lists),
            tuple(count for count, _ in lists),
            teacher,
            None if made is None else made.pairs(data),
            **{"start": None, "packed": None, **more},
        )

    def check(self, runtime: Runtime) -> None:
        check_judged(runtime.get(self.context.data), self.context.gain)

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        module = self.module(folder, runtime)
        outcome = fit(module, folder, runtime)
        if world()[0] == 0:
            save_towers(module.towers, folder)
        return {**outcome, **module.facts()}

    def towers(self, runtime: Runtime) -> Any:
        """The network before training."""
        weights = None if self.start is None else runtime.get(self.start)
        return load_towers(self.shape, weights, self.schedule.seed)

    def module_class(self) -> Any:
        """What trains it."""
        from neurosearch.encoder.biencoder.training import BiEncoderModule

        return BiEncoderModule

    def module(self, folder: Path, runtime: Runtime) -> Any:
        """The Lightning module before its first step."""
        from neurosearch.encoder.biencoder.pairs import PairBatches, TrainingPairs, clusters
        from neurosearch.encoder.biencoder.training import TrainingTexts

        data = runtime.get(self.context.data)
        graded = graded_pairs(data, data.judgments("train"), self.context.gain)
        products = data.catalogue.all_texts(("title",))
        read = self.context.query.reader(runtime).texts
        typed = data.queries("train").texts
        asked, judged = list(typed), graded.height
        if self.generated is not None:
            made = runtime.get(self.generated)
            numbers = pl.int_range(len(typed), len(typed) + made.height, dtype=pl.Int64, eager=True)
            pairs_made = made.select(query=numbers, row=pl.col("row"), share=pl.lit(1.0))
            graded = pl.concat([graded, pairs_made])
            asked += made["text"].to_list()
        queries = read(asked)
        teacher = None
        if self.teacher is not None:
            teacher = numbered_pairs(
                runtime.get(self.teacher), data.queries("train").ids, data.catalogue.ids
            )
        pairs = TrainingPairs.of(graded, products, queries, self.context.positive_share, teacher)
        lists = [
            (n, runtime.get(a).padded(len(asked)))
            for n, a in zip(self.counts, self.negatives, strict=True)
        ]
        size = self.schedule.batch(self.objective.batch_size)
        good = graded.head(judged).filter(pl.col("share") >= self.context.positive_share).height
        batches = PairBatches(
            pairs,
            lists,
            size,
            0,
            self.schedule.seed,
            good,
            self.objective.generated_share,
            None if self.packed is None else clusters(runtime.get(self.packed).vectors[pairs.row]),
        )
        batches.steps = self.schedule.steps(batches.steps_per_epoch)
        shown = [queries]
        if self.objective.typos:
            shown.append(read(Typos(seed=self.schedule.seed).process(asked)))
        texts = TrainingTexts.of(
            data, self.context, read, self.texts, self.shape, self.dev_products, shown
        )
        return self.module_class()(
            self.towers(runtime),
            self.objective,
            self.schedule,
            texts,
            batches,
            graded,
            folder,
            runtime,
        )

    def load(self, folder: Path) -> Path:
        return folder
