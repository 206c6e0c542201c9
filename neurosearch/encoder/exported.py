"""An encoder computed by ONNX Runtime or OpenVINO, in as many bits as wanted: `encoder=exported`.

Precision changes vectors, so it is part of the recipe. What is written is compared with the network
it comes from, on dev queries and products: an export that departs by more than its precision allows
is refused. With `queries_only` the index keeps the encoder's own vectors, and only a tower that
stays close enough to them may ask it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.exportable import Exportable
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import PRODUCTS, Dataset, queries_of
from neurosearch.core.vectors import Embeddings
from neurosearch.encoder.base import Encoder, LiveEncoder
from neurosearch.encoder.sentence import Sentence
from neurosearch.nn.tokens import character_lengths

if TYPE_CHECKING:
    from neurosearch.nn.text_encoder import LiveText

BACKENDS = ("onnx", "openvino")
PRECISIONS = ("fp32", "fp16", "int8", "int8_static")
# One minus the cosine to the network itself: of any text at most, and on average.
ALLOWED = {
    "fp32": (1e-5, 1e-5),
    "fp16": (1e-3, 1e-3),
    "int8": (0.1, 0.01),
    "int8_static": (0.1, 0.01),
}
COMPARED = 300  # dev queries, and as many products
SIDES = ("query", "product")


@dataclass(frozen=True)
class Exported(Encoder):
    """Attributes:
    encoder: a sentence encoder or a bi-encoder, whose fields and prefixes these are too.
    backend: `onnx` or `openvino`.
    precision: `fp32`, `fp16`, `int8` (ranges from each text) or `int8_static` (learnt ranges).
    calibration: texts of train that ranges are learnt from, half of them queries.
    queries_only: products keep the encoder's own vectors.
    refuse: an export that departs too far; otherwise it is built and its manifest says how far.
    """

    encoder: Encoder = field(default_factory=Sentence)
    backend: str = setting("onnx", choices=BACKENDS)
    precision: str = setting("fp32", choices=PRECISIONS)
    calibration: int = setting(512, least=16)
    queries_only: bool = False
    refuse: bool = True

    def __post_init__(self) -> None:
        inner = self.encoder
        names = ("fields", "separator", "query_prefix", "product_prefix")
        own, theirs = (tuple(getattr(x, name) for name in names) for x in (self, inner))
        if own not in (theirs, (("title",), " ", None, None)):
            raise self.error("fields", "and prefixes are those of exported.encoder")
        for name, value in zip(names, theirs, strict=True):
            object.__setattr__(self, name, value)
        super().__post_init__()
        if not inner.has_network:
            raise self.error("encoder", f"must have a network, and {inner.label()} has none")

    @property
    def prefixes(self) -> tuple[str, str]:
        return self.encoder.prefixes

    def live(self, runtime: Runtime, weights: Path | None = None) -> LiveEncoder:
        assert weights is not None, "an exported encoder is loaded with its files"
        return LiveExported(weights, runtime)

    def trained(self, data: Artifact[Dataset]) -> Artifact[Path]:
        asked = (queries_of(split) for split in ("train", "dev"))
        texts = view.only(data, PRODUCTS, *asked)
        return ExportedNetwork(self, self.encoder.trained(data), texts)

    def identity(self, data: Artifact[Dataset]) -> str:
        # Asked of an index of the encoder's own vectors, which `ExportedNetwork` has certified.
        return self.encoder.identity(data) if self.queries_only else super().identity(data)

    def product_embeddings(self, data: Artifact[Dataset]) -> Artifact[Embeddings]:
        if self.queries_only:
            return self.encoder.product_embeddings(data)
        return super().product_embeddings(data)

    def exported(self, data: Artifact[Dataset]) -> Exportable:
        def write(folder: Path, runtime: Runtime) -> None:
            shutil.copytree(runtime.get(self.trained(data)), folder, dirs_exist_ok=True)

        lines = (
            "import onnxruntime, tokenizers",
            "",
            'tokenizer = tokenizers.Tokenizer.from_file("this/folder/query.tokenizer.json")',
            'network = onnxruntime.InferenceSession("this/folder/query.onnx")',
            'text = tokenizer.encode("a query")',
            'feed = {"input_ids": [text.ids], "attention_mask": [text.attention_mask]}',
            "vectors = network.run(None, feed)[0]  # pooled and scaled",
        )
        note = "OpenVINO reads the same file: openvino.Core().compile_model(…)."
        return Exportable(self.label(), "onnx", self._base(), lines, write, note)

    def _base(self) -> str:
        return str(getattr(self.encoder, "model", ""))

    def label(self) -> str:
        side = " queries" if self.queries_only else ""
        name = {"onnx": "ONNX", "openvino": "OpenVINO"}[self.backend]
        return f"{self.encoder.label()}, {name} {self.precision}{side}"


@dataclass(frozen=True)
class ExportedNetwork(Artifact[Path]):
    """query.onnx and product.onnx (the same file once where towers are shared), their tokenizers,
    exported.json; the manifest says how far vectors departed."""

    kind: ClassVar[str] = "exported"
    recipe: Exported
    source: Artifact[Path] | None
    data: Artifact[Dataset]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        from neurosearch.nn import exchange

        recipe, data = self.recipe, runtime.get(self.data)
        source = None if self.source is None else runtime.get(self.source)
        live = self._network(runtime, source)
        towers = live.towers
        whole = folder / "whole.onnx"
        train = self._texts(data, "train", recipe.calibration // 2)
        for number, (side, tower) in enumerate(zip(SIDES, towers, strict=True)):
            tower.tokenizer.save(str(folder / f"{side}.tokenizer.json"))
            if number and towers[1] is towers[0]:
                break
            exchange.write_onnx(exchange.Vectors(tower.cpu().float()), whole)
            if recipe.precision == "fp32":
                whole.rename(folder / f"{side}.onnx")
                continue
            shared = towers[1] is towers[0]
            texts = [text for part in train for text in part] if shared else train[number]
            tokens = live.tokens(texts, number)
            path = folder / f"{side}.onnx"
            exchange.quantised(whole, path, recipe.precision, exchange.in_batches(tokens))
            whole.unlink()
        facts: dict[str, Any] = {
            "backend": recipe.backend,
            "precision": recipe.precision,
            "dimensions": live.dimensions,
            "max_lengths": list(live.max_lengths),
        }
        (folder / "exported.json").write_text(json.dumps(facts), encoding="utf-8")
        return self._compared(folder, runtime, live, data)

    def _network(self, runtime: Runtime, source: Path | None) -> LiveText:
        from neurosearch.nn.text_encoder import LiveText

        live = self.recipe.encoder.live(replace(runtime, device="cpu"), source)
        if not isinstance(live, LiveText):
            label = self.recipe.encoder.label()
            raise InputError(f"{label} has no network of its own that could be written as ONNX")
        return live

    def _texts(self, data: Dataset, split: str, count: int) -> list[list[str]]:
        """Queries of a split, and products, with the encoder's prefixes."""
        prefixes, recipe = self.recipe.prefixes, self.recipe
        rng = np.random.default_rng(0)
        queries = data.queries(split).texts
        products = next(data.catalogue.texts(recipe.fields, recipe.separator))
        found = []
        for prefix, texts in zip(prefixes, (queries, products), strict=True):
            some = rng.permutation(len(texts))[:count]
            found.append([prefix + texts[row] for row in np.sort(some)])
        return found

    def _compared(
        self, folder: Path, runtime: Runtime, live: LiveText, data: Dataset
    ) -> dict[str, Any]:
        """Cosines to the network itself; raises InputError for what departs too far."""
        recipe, made = self.recipe, LiveExported(folder, runtime)
        split = "dev" if data.has("dev") else "train"
        losses = []
        for side, texts in enumerate(self._texts(data, split, COMPARED)):
            theirs, ours = (live.for_products(), made.for_products()) if side else (live, made)
            one, other = theirs.encode(texts), ours.encode(texts)
            lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
            losses.append(1 - np.einsum("nd,nd->n", one, other) / np.maximum(lengths, 1e-12))
        loss = np.concatenate(losses)
        facts = {"mean cosine": 1 - float(loss.mean()), "least cosine": 1 - float(loss.max())}
        most, average = ALLOWED[recipe.precision]
        departs = loss.max() > most or loss.mean() > average or not np.isfinite(loss).all()
        if departs and (recipe.refuse or recipe.queries_only):
            raise InputError(
                f"{recipe.label()} departs from its network: a cosine of 1 falls by "
                f"{loss.mean():.2g} on average and by {loss.max():.2g} at most; "
                f"{recipe.precision} may lose {average:g} and {most:g}"
            )
        size = sum(path.stat().st_size for path in folder.glob("*.onnx"))
        return {**facts, "MB": round(size / 1e6, 1)}

    def load(self, folder: Path) -> Path:
        return folder


class LiveExported(LiveEncoder):
    """Files of `ExportedNetwork` at work."""

    def __init__(self, folder: Path, runtime: Runtime, side: int = 0) -> None:
        from tokenizers import Tokenizer

        from neurosearch.nn import exchange

        facts = json.loads((folder / "exported.json").read_text(encoding="utf-8"))
        self._folder, self._runtime = folder, runtime
        self.dimensions: int = facts["dimensions"]
        self._length = facts["max_lengths"][side]
        self._alone = facts["precision"] == "int8"  # its ranges come from the whole input
        path = folder / f"{SIDES[side]}.onnx"
        path = path if path.exists() else folder / f"{SIDES[0]}.onnx"  # shared
        tokens = folder / f"{SIDES[side]}.tokenizer.json"
        self._tokenizer = Tokenizer.from_file(str(tokens))
        self._network = exchange.loaded(path, facts["backend"], runtime.cpu_threads)

    def for_products(self) -> LiveEncoder:
        return LiveExported(self._folder, self._runtime, 1)

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        return character_lengths(texts)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        import torch

        from neurosearch.nn import exchange
        from neurosearch.nn.tokens import batches_by_budget, tokenize

        if not texts:
            return np.empty((0, self.dimensions), dtype=np.float32)
        tokens = tokenize(self._tokenizer, texts, self._length)
        if self._alone:
            batches = [np.array([row]) for row in range(len(tokens))]
        else:
            budget = self._runtime.batch_budget(torch.device("cpu"))
            batches = batches_by_budget(tokens.lengths, budget)
        return exchange.joined_vectors(self._network, tokens, batches)

    def stream(self, collections: Iterable[Sequence[str]]) -> Iterator[np.ndarray]:
        return map(self.encode, collections)
