"""The generator role: a model that writes the semantic IDs of the products a query asks for.

DSI (Tay et al. 2022): one model learns the catalogue (indexing: a product's text to its ID) and
what queries mean by it (retrieval: a query to its products' IDs). What reads the text differs by
choice; the decoder over codes, the examples and the search are shared.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.distributed import world
from neurosearch.core.query import QueryProcessor
from neurosearch.core.recipe import Recipe
from neurosearch.core.runtime import Runtime
from neurosearch.core.semantic_ids import SemanticIds
from neurosearch.core.types import Catalogue, Dataset, Queries, check_fields
from neurosearch.encoder.biencoder.generated import Generated
from neurosearch.evaluation.gain import Gain
from neurosearch.generator.doc2query import Doc2Query, PseudoQueries
from neurosearch.generator.examples import Crops
from neurosearch.negatives.base import check_judged
from neurosearch.query.none import NoProcessing
from neurosearch.training.schedule import Schedule
from neurosearch.training.trainer import fit
from neurosearch.training.weights import save_weights


@dataclass(frozen=True)
class Generator(Recipe):
    """Attributes:
    gain, positive_share: a train judgment worth this share of the largest gain is a positive.
    fields, separator: of a product's text, for indexing.
    max_length: tokens of a text.
    index_ratio: indexing examples for one of retrieval in each batch; 0 for none.
    crops: what indexing examples show.
    doc2query: a model that writes queries for products, or None.
    generated: queries of a writer that is trained here, instead of that; their share of the
        indexing examples is `crops.pseudo`.
    batch_size: examples. An epoch of the schedule is as many examples as there are products.
    label_smoothing: of the codes.
    soft_targets: a level's target is the share of each code among all the query's positives
        below the prefix, not the code of the one that was drawn.
    ranking: weight of the prefix-oriented ranking loss (RIPOR, Zeng et al. 2023): each prefix of a
        positive should score above the prefix of a worse product.
    schedule: of the optimisation.
    reader_rate: the text reader's learning rate, as a share of the schedule's.
    beam: of the validation.
    """

    gain: Gain = field(kw_only=True)
    positive_share: float = setting(0.66, above=0, most=1)
    fields: tuple[str, ...] = ("title",)
    separator: str = " "
    max_length: int = setting(32, least=4)
    index_ratio: float = setting(3.0, least=0)
    crops: Crops = field(default_factory=Crops)
    doc2query: Doc2Query | None = None
    generated: Generated | None = None
    batch_size: int = setting(512, least=2)
    label_smoothing: float = setting(0.0, least=0, below=1)
    soft_targets: bool = False
    ranking: float = setting(0.0, least=0)
    schedule: Schedule = field(
        default_factory=lambda: Schedule(epochs=12, lr=1e-3, warmup=0.05, patience=0)
    )
    reader_rate: float = setting(0.1, least=0)
    beam: int = setting(20, least=1)
    query: QueryProcessor = field(default_factory=NoProcessing)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields("generator.fields", self.fields)
        if self.batch_size - round(self.batch_size * self.index_ratio / (1 + self.index_ratio)) < 1:
            raise self.error(
                "index_ratio",
                f"is {self.index_ratio}, which leaves no place for retrieval examples "
                f"in batches of {self.batch_size}",
            )

    reads_words: ClassVar[bool] = True  # a live query will do

    @property
    def is_t5(self) -> bool:
        """Whether what it has trained can be a T5 of transformers.

        Returns:
            False, unless it trains one.
        """
        return False

    @property
    def prefix(self) -> str:
        """What goes before every text that is read."""
        return ""

    def query_texts(self, queries: Queries, catalogue: Catalogue, ids: SemanticIds) -> list[str]:
        """What is read of queries: their texts.

        Args:
            queries: after query processing.
            catalogue: the products.
            ids: the semantic IDs of the catalogue's products.

        Returns:
            One text a query.
        """
        return queries.texts

    def network(self, sizes: tuple[int, ...], pretrained: Path | None) -> Any:
        """The CodeModel before training; `pretrained` is what `pretrained_weights` built.

        Args:
            sizes: codes of each level.
            pretrained: the folder that it starts from, or None.

        Returns:
            A torch module.
        """
        raise TypeError(f"{type(self).__name__} does not say what its network is")

    def pretrained_weights(self, data: Artifact[Dataset]) -> Artifact[Path] | None:
        """A training that this one starts from.

        Args:
            data: to be trained on.

        Returns:
            The earlier training as an artifact, or None.
        """
        return None

    def trained(
        self, data: Artifact[Dataset], ids: Artifact[SemanticIds]
    ) -> Artifact[CodeModelFiles]:
        """The network trained to write the IDs of these products.

        Args:
            data: to be trained on; only train and dev are read.
            ids: the semantic IDs of the catalogue's products.

        Returns:
            The training as an artifact.
        """
        pseudo: Artifact[pl.DataFrame] | None = None
        if self.generated is not None and self.index_ratio:
            pseudo = self.generated.pairs(data)
        elif self.doc2query is not None and self.index_ratio:
            texts = (self.fields, self.separator)
            pseudo = PseudoQueries(view.products(data), self.doc2query, *texts, self.schedule.seed)
        source, start = view.learning(data), self.pretrained_weights(data)
        recipe = replace(self, query=self.query.fitted(data))
        return TrainedGenerator(recipe, source, ids, start, pseudo)


@dataclass(frozen=True)
class CodeModelFiles:
    """A trained generator's weights, and what is needed to load them."""

    generator: Generator
    folder: Path
    sizes: tuple[int, ...]

    def network(self) -> Any:
        """The trained CodeModel, in evaluation mode.

        Returns:
            A torch module.
        """
        from safetensors.torch import load_model

        model = self.generator.network(self.sizes, None)
        load_model(model, str(self.folder / "generator.safetensors"))
        return model.eval()


@dataclass(frozen=True)
class TrainedGenerator(Artifact[CodeModelFiles]):
    """generator.safetensors, curves.csv, and how the training went (in the manifest).

    `start`: a decoder of the same shape that continues training (see `continued`), instead of one
    that begins as the recipe says.
    """

    kind: ClassVar[str] = "generator"
    resumable: ClassVar[bool] = True
    spreads: ClassVar[bool] = True
    generator: Generator
    data: Artifact[Dataset]
    ids: Artifact[SemanticIds]
    pretrained: Artifact[Path] | None
    pseudo: Artifact[pl.DataFrame] | None
    start: Artifact[CodeModelFiles] | None = field(default=None, kw_only=True)

    def check(self, runtime: Runtime) -> None:
        check_judged(runtime.get(self.data), self.generator.gain)

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        from safetensors.torch import load_model

        module = self.module(runtime)
        if self.start is not None:
            start = runtime.get(self.start).folder / "generator.safetensors"
            load_model(module.model, str(start))
            module.starts_good = False
        outcome = fit(module, folder, runtime)
        if world()[0] == 0:
            save_weights(module.model, folder / "generator.safetensors")
            facts = {"sizes": list(runtime.get(self.ids).sizes)}
            (folder / "generator.json").write_text(json.dumps(facts), encoding="utf-8")
        return {**outcome, **module.facts()}

    def module(self, runtime: Runtime) -> Any:
        """The Lightning module before its first step.

        Args:
            runtime: devices, threads, progress and the store of artifacts.

        Returns:
            A LightningModule.
        """
        from neurosearch.generator.training import GeneratorModule

        return GeneratorModule(*self.module_parts(runtime))

    def module_parts(self, runtime: Runtime) -> tuple[Any, ...]:
        """What a `GeneratorModule` is made of.

        Args:
            runtime: devices, threads, progress and the store of artifacts.

        Returns:
            Its arguments.
        """
        pseudo = None if self.pseudo is None else runtime.get(self.pseudo)
        pretrained = None if self.pretrained is None else runtime.get(self.pretrained)
        data, ids = runtime.get(self.data), runtime.get(self.ids)
        return self.generator, data, ids, pretrained, pseudo, runtime

    def load(self, folder: Path) -> CodeModelFiles:
        facts = json.loads((folder / "generator.json").read_text(encoding="utf-8"))
        return CodeModelFiles(self.generator, folder, tuple(facts["sizes"]))
