"""The test split is sealed: nothing that learns can read its judgments, or changes with them.

Also: parts of a data set are fingerprinted apart, so a change rebuilds what it touches and no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import SealedError
from neurosearch.core.retrieval import Retriever
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, judgments_of, queries_of
from neurosearch.core.view import DataSource, View
from neurosearch.data import base
from neurosearch.data.shop import Shop
from neurosearch.encoder.biencoder.recipe import BiEncoder
from neurosearch.encoder.colbert.recipe import ColBERT
from neurosearch.encoder.hashing import Hashing
from neurosearch.encoder.sentence import Sentence
from neurosearch.encoder.splade.recipe import Splade
from neurosearch.encoder.splade.warm_up import WarmUp
from neurosearch.evaluation.catalogue import CatalogueProtocol
from neurosearch.evaluation.gain import LabelGain
from neurosearch.evaluation.opened import opened
from neurosearch.fusion.convex import Convex
from neurosearch.generator.decoder_config import Shape
from neurosearch.generator.dense_prefix import DensePrefix
from neurosearch.implicit.doubly_robust import DoublyRobust
from neurosearch.index.multivector import MultiVector
from neurosearch.logs.simulated import Simulated
from neurosearch.negatives.judged import Judged
from neurosearch.negatives.retrieved import Retrieved
from neurosearch.propensity.harvest import Harvest
from neurosearch.query.none import NoProcessing
from neurosearch.reranker.cross_encoder.recipe import CrossEncoder
from neurosearch.reranker.lambdamart import LambdaMART
from neurosearch.retriever.bm25 import BM25
from neurosearch.retriever.bm25_tuned import TunedBM25
from neurosearch.retriever.dense import Dense
from neurosearch.retriever.generative import Generative
from neurosearch.retriever.hybrid import Hybrid
from neurosearch.retriever.late_interaction import LateInteraction
from neurosearch.retriever.reranked import Reranked
from neurosearch.retriever.sparse import Sparse
from neurosearch.tokenizer.rqkmeans import RQKMeans
from neurosearch.training.schedule import Schedule
from tests.requests import ask

GAIN = LabelGain(
    "esci", {"E": 1, "S": 0.1, "C": 0.01, "I": 0}, {"E": 3, "S": 2, "C": 1, "I": 0}, ("E",)
)
WORDS = BM25(engine="bm25s")
HASHED = Dense(Hashing(dimensions=32))
BRIEF = Schedule(epochs=1.0, lr=2e-3, validations=2, patience=0)
ROOT = Path(__file__).resolve().parents[2] / "neurosearch"


@dataclass(frozen=True)
class Altered(base.Data):
    """The shop with other judgments, queries or products in one place."""

    name: ClassVar[str] = "shop"
    change: str = "none"
    shop: Shop = field(
        default_factory=lambda: Shop(n_products=500, n_queries=60, n_sessions=0, images=False)
    )

    def tables(self, runtime: Runtime) -> base.Tables:
        made = self.shop.tables(runtime)
        of = dict(made.queries.select("query_id", "split").iter_rows())
        split = made.judgments["query_id"].replace_strict(of)
        label, text = pl.col("label"), pl.col("text")
        if self.change in ("test judgments", "dev judgments"):
            mine = pl.Series(split == self.change.split()[0])
            other = {"E": "I", "I": "E", "S": "C", "C": "S"}
            garbage = pl.when(mine).then(label.replace(other)).otherwise(label)
            return replace(made, judgments=made.judgments.with_columns(label=garbage))
        if self.change == "test query":
            asked = pl.when(pl.col("split") == "test").then(text + " new").otherwise(text)
            return replace(made, queries=made.queries.with_columns(text=asked))
        if self.change == "product":
            frames = [f.with_columns(title=pl.col("title") + " x") for f in made.products]
            return replace(made, products=frames)
        return made


def learners(model: str) -> dict[str, Retriever]:
    """Everything that trains, tunes, mines, selects or stops, at toy size."""
    sizes: dict[str, Any] = {"product_max_length": 24, "batch_size": 16, "schedule": BRIEF}
    mined = Retrieved(retriever=WORDS, last=20, max_ratio=0.95)
    biencoder = BiEncoder(gain=GAIN, model=model, negatives=mined, **sizes)
    colbert = ColBERT(
        gain=GAIN,
        model=model,
        markers=(None, None),
        dimensions=16,
        negatives=Judged(),
        expansion=False,
        **sizes,
    )
    splade = Splade(
        gain=GAIN, model=model, negatives=Judged(), warm_up=WarmUp(schedule=BRIEF), **sizes
    )
    shape = Shape(width=32, heads=2, head_width=16, feed=64, layers=1, dropout=0.1)
    reader = Sentence(model=model, max_length=16)
    writer = DensePrefix(
        gain=GAIN, encoder=reader, shape=shape, batch_size=64, schedule=BRIEF, beam=5
    )
    cross = CrossEncoder(
        gain=GAIN,
        model=model,
        query_max_length=16,
        product_max_length=32,
        batch_queries=8,
        schedule=BRIEF,
    )
    trees = LambdaMART(gain=GAIN, encoders={"e": biencoder}, folds=2, min_data=5, trees=5)
    logs = Simulated(ranker=WORDS, gain=GAIN, lists=500)
    clicked = LambdaMART(
        gain=GAIN,
        min_data=5,
        trees=5,
        implicit=DoublyRobust(logs=logs, gain=GAIN, propensity=Harvest(overlap=0)),
    )
    ids = RQKMeans(encoder=Hashing(dimensions=32), levels=2, codes=16)
    return {
        "tuned BM25": TunedBM25(BM25(), GAIN, k1=(0.3, 2.0), b=(0.0, 1.0)),
        "convex fusion": Hybrid({"a": WORDS, "b": HASHED}, Convex(step=0.25), GAIN),
        "bi-encoder": Dense(biencoder),
        "SPLADE": Sparse(encoder=splade),
        "ColBERT": LateInteraction(encoder=colbert, index=MultiVector(bits=2)),
        "generator": Generative(generator=writer, tokenizer=ids),
        "cross-encoder": Reranked(WORDS, cross, GAIN, depth=20, weight=None),
        "LambdaMART": Reranked(WORDS, trees, GAIN, depth=20, weight=None),
        "clicks": Reranked(WORDS, clicked, GAIN, depth=20, weight=None),
    }


def graph(artifact: Artifact[Any]) -> Iterator[Artifact[Any]]:
    """An artifact and all that it stands on, data sets and views left out."""
    if isinstance(artifact, DataSource | View):
        return
    yield artifact
    for source in artifact.inputs():
        yield from graph(source)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sealed")


def changed(change: str, outputs: Path) -> tuple[base.DatasetArtifact, Runtime]:
    """A shop with a change, and a store of its own."""
    place = outputs / change.replace(" ", "-")
    runtime = Runtime(place, device="cpu", progress=False, threads=2)
    return Altered(change=change).bound(runtime), runtime


def test_test_judgments_are_refused(shop_runtime: Runtime, shop) -> None:
    data = shop_runtime.get(shop)
    with pytest.raises(SealedError, match="open to the evaluation alone"):
        data.judgments("test")
    assert len(data.judgments("dev").frame) and len(opened(data).judgments("test").frame)
    assert data.pool("test").columns == ["query_id", "product_id"]


def test_a_view_gives_its_parts_and_nothing_else(shop_runtime: Runtime, shop) -> None:
    seen = shop_runtime.get(view.with_queries(shop, "dev"))
    assert len(seen.catalogue) == 500 and len(seen.queries("dev"))
    for read in (
        lambda: seen.queries("train"),
        lambda: seen.judgments("dev"),
        lambda: seen.pool("dev"),
        lambda: seen.behaviour,
    ):
        with pytest.raises(LookupError, match="is not part of this view"):
            read()
    with pytest.raises(SealedError):
        seen.judgments("test")


@dataclass(frozen=True)
class Peeking(Artifact[int]):
    """Stands for a training that asks for the test split."""

    kind: ClassVar[str] = "peeking"
    data: Artifact[Dataset]

    def build(self, folder: Path, runtime: Runtime) -> None:
        raise AssertionError("it must not come to this")


def test_the_store_refuses_who_asks_for_them(shop_runtime: Runtime, shop) -> None:
    peeking = Peeking(view.learning(shop, "train", "test"))
    with pytest.raises(SealedError, match=r"peeking \(Peeking\) asks for the judgments"):
        shop_runtime.get(peeking)
    assert not shop_runtime.store.folder(peeking).exists()


def test_only_reports_open_everything() -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if "neurosearch.evaluation.opened import" in path.read_text()
    }
    assert users == {"comparison.py", "task/explore.py", "task/base.py"}


def test_no_fingerprint_of_a_system_hangs_on_test_judgments(outputs: Path, tiny_model: str) -> None:
    (whole, _), (garbage, _) = (changed(c, outputs) for c in ("none", "test judgments"))
    assert whole.artifact_fingerprint != garbage.artifact_fingerprint
    protocol = CatalogueProtocol(gain=GAIN)
    for name, system in learners(tiny_model).items():
        runs = [system.run(data, ask()) for data in (whole, garbage)]
        one, two = ([x.address for x in graph(run)] for run in runs)
        assert one == two and len(one) > 2, name
        for artifact in graph(runs[0]):
            held = [x for x in artifact.inputs() if isinstance(x, DataSource)]
            assert not held, f"{type(artifact).__name__} holds a whole data set"
        metrics = [protocol.metrics(system, data, NoProcessing()) for data in (whole, garbage)]
        assert metrics[0].address != metrics[1].address, name
        latency = [protocol.latency_of(system, data, NoProcessing()) for data in (whole, garbage)]
        assert latency[0] is not None and latency[1] is not None
        assert latency[0].address == latency[1].address, name


@pytest.mark.parametrize(
    "name",
    [
        *("tuned BM25", "convex fusion", "bi-encoder", "ColBERT", "generator"),
        *("SPLADE", "cross-encoder", "LambdaMART", "clicks"),
    ],
)
def test_what_learns_is_the_same_byte_for_byte(name: str, outputs: Path, tiny_model: str) -> None:
    """Built twice, in two stores: with the test judgments, and with garbage in their place."""
    files = []
    for change in ("none", "test judgments"):
        data, runtime = changed(change, outputs)
        run = learners(tiny_model)[name].run(data, ask())
        runtime.get(run)
        manifests = {x.address: runtime.store.manifest(x) for x in graph(run)}
        # Lucene numbers its segments by chance; what was built on them is compared.
        learnt = {k: m for k, m in manifests.items() if m and not k.startswith("lucene/")}
        files.append({key: manifest["files"] for key, manifest in learnt.items()})
    assert files[0] == files[1] and len(files[0]) > 1


def test_a_change_rebuilds_what_it_touches(outputs: Path, tiny_model: str) -> None:
    data = {
        change: changed(change, outputs)[0]
        for change in ("none", "dev judgments", "test query", "product")
    }
    encoder = learners(tiny_model)["bi-encoder"].encoder  # type: ignore[attr-defined]
    zero_shot = Sentence(model=tiny_model, max_length=16)

    def kept(change: str, made) -> bool:
        return made(data["none"]).address == made(data[change]).address

    def queries(split: str):
        return lambda source: zero_shot.query_embeddings(source, split, NoProcessing())

    for change in ("dev judgments", "test query"):
        assert kept(change, zero_shot.product_embeddings), change
        assert kept(change, lambda source: WORDS.indexes(source)[0]), change
    assert not kept("product", zero_shot.product_embeddings)
    assert kept("test query", queries("dev")) and not kept("test query", queries("test"))
    assert kept("test query", encoder.trained)
    assert not kept("dev judgments", encoder.trained)  # its checkpoint is chosen on dev
    assert data["none"].part_digest(queries_of("dev")) == data["dev judgments"].part_digest(
        queries_of("dev")
    )
    assert data["none"].part_digest(judgments_of("train")) == data["product"].part_digest(
        judgments_of("train")
    )


def test_a_part_s_digest_is_of_its_own_rows() -> None:
    """Long strings of other splits lie in the same buffers; they must not count."""
    rows = {"query_id": ["d1", "t1"], "split": ["dev", "test"]}
    digests = {
        base._content(
            pl.DataFrame({**rows, "text": ["a dev query that is long enough", text]}).filter(
                pl.col("split") == "dev"
            )
        )
        for text in ("short", "another test query that is long enough to be kept apart")
    }
    assert len(digests) == 1


def test_what_was_made_of_test_judgments_is_sealed_too(shop_runtime: Runtime, shop) -> None:
    """A hybrid of the ideal list, or a choice by test metrics, would be a system of its own."""
    from neurosearch.fusion.rrf import RRF
    from neurosearch.retriever.oracle import Oracle

    hybrid = Hybrid({"a": WORDS, "b": Oracle(GAIN)}, RRF(), GAIN)
    with pytest.raises(SealedError, match=r"run \(HybridRun\) asks for the judgments of the test"):
        shop_runtime.get(hybrid.run(shop, ask()))
    metrics = CatalogueProtocol(gain=GAIN).metrics(WORDS, shop, NoProcessing())
    with pytest.raises(SealedError):
        shop_runtime.get(Peeking(metrics))  # type: ignore[arg-type]
    on_dev = shop_runtime.get(hybrid.run(shop, ask(split="dev")))
    assert on_dev.split == "dev"


@dataclass(frozen=True)
class Sneaking(Artifact[int]):
    """Asks for a view of the test judgments while it is built, not as an input."""

    kind: ClassVar[str] = "sneaking"
    data: Artifact[Dataset]

    def build(self, folder: Path, runtime: Runtime) -> None:
        runtime.get(view.only(self.data, judgments_of("test")))


def test_the_store_opens_nothing_while_something_else_is_built(shop_runtime, shop) -> None:
    with pytest.raises(SealedError, match="sneaking asks for the judgments of the test split"):
        shop_runtime.get(Sneaking(view.products(shop)))
