"""Static encoders: a text's vector is the mean of its tokens' vectors, from a table.

Read are sentence-transformers' `StaticEmbedding` folders, model2vec's (Tulkens and van Dongen
2024), which may weight tokens and map them to fewer rows, and the package wordllama.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from neurosearch.core.errors import InputError, first_line
from neurosearch.core.ragged import offsets_of
from neurosearch.nn.sentence_folder import static_files
from neurosearch.nn.tokens import character_lengths

NAMES = ("embedding.weight", "embeddings")


class LiveStatic:
    """A loaded table. Queries and products are encoded alike.

    Args:
        folder: with `tokenizer.json` and `model.safetensors`, or the package wordllama.
        max_length: tokens of a text; None for all.

    Raises:
        InputError: naming the file that is missing, or whose sizes do not fit.
    """

    def __init__(self, folder: Path, max_length: int | None) -> None:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        tokenizer, weights = static_files(folder)
        for path in (tokenizer, weights):
            if not path.is_file():
                raise InputError(f"{path}: no such file: the model's folder is not whole")
        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
            tensors = load_file(weights)
        except Exception as error:  # the two libraries raise of many kinds
            raise InputError(f"{folder}: can't be read ({first_line(error)})") from None
        name = next((name for name in NAMES if name in tensors), None)
        if name is None:
            raise InputError(f"{weights}: no table of token vectors ({' or '.join(NAMES)})")
        self._table = tensors[name].astype(np.float32)
        self._row_of = tensors.get("mapping")
        rows = len(self._table) if self._row_of is None else len(self._row_of)
        size = self._tokenizer.get_vocab_size()
        if size > rows:
            raise InputError(f"{weights}: {rows} token vectors for a vocabulary of {size}")
        token_weights = tensors.get("weights")
        self._weights = None if token_weights is None else token_weights.astype(np.float32)
        self._unknown = self._tokenizer.token_to_id("[UNK]") if name == "embeddings" else None
        self._tokenizer.no_padding()
        if max_length is None:
            self._tokenizer.no_truncation()
        else:
            self._tokenizer.enable_truncation(max_length)
        self.dimensions = int(self._table.shape[1])

    def for_products(self) -> LiveStatic:
        return self

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        return character_lengths(texts)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """N×D float32 of length 1; zeros for a text without any known token."""
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        # model2vec leaves unknown tokens out.
        ids = [[n for n in encoding.ids if n != self._unknown] for encoding in encoded]
        counts = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
        flat = np.concatenate(
            [np.asarray(row, dtype=np.int64) for row in ids] or [np.empty(0, int)]
        )
        rows = flat if self._row_of is None else self._row_of[flat]
        vectors = self._table[rows]
        if self._weights is not None:
            vectors = vectors * self._weights[flat][:, None]
        sums = np.zeros((len(ids), self.dimensions), dtype=np.float32)
        worded = counts > 0
        if worded.any():
            starts = offsets_of(counts)[:-1][worded]
            sums[worded] = np.add.reduceat(vectors, starts, axis=0)
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        scaled: np.ndarray = (sums / np.maximum(length, 1e-12)).astype(np.float32)
        return scaled

    def stream(self, collections: Iterable[Sequence[str]]) -> Iterator[np.ndarray]:
        return map(self.encode, collections)
