"""Models that only sentence-transformers can compute: it encodes, behind our protocol.

Slower than the networks of `text_encoder` (it sorts and pads by batches of texts, not of tokens),
and never trained here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.nn.tokens import character_lengths

BATCH = 32  # texts


class LiveForeign:
    """A SentenceTransformer as a live encoder.

    Args:
        folder: of the model.
        max_length: tokens of a text; None for the model's own limit.
        prompts: before queries, and before products. They are handed over, not put before the
            text, since a model may leave them out of its pooling.

    Raises:
        InputError: sentence-transformers is missing, or can't load the folder.
    """

    def __init__(
        self, folder: Path, max_length: int | None, prompts: tuple[str, str], runtime: Runtime
    ) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            message = "has a module that needs sentence-transformers: pip install"
            raise InputError(f"{folder}: {message} sentence-transformers") from None
        try:
            device = str(runtime.torch_device())
            self._model = SentenceTransformer(str(folder), device=device, local_files_only=True)
        except Exception as error:  # of many kinds, some of many lines
            raise InputError(f"{folder}: can't be loaded ({str(error).splitlines()[0]})") from None
        if max_length is not None:
            self._model.max_seq_length = max_length
        self._prompts, self._side = prompts, 0
        self._normalizes = self._model.similarity_fn_name != "dot"
        self.dimensions = int(self._model.get_sentence_embedding_dimension() or 0)

    def for_products(self) -> LiveForeign:
        self._side = 1
        return self

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        return character_lengths(texts)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """N×D float32, of length 1 unless the model compares by inner product."""
        vectors: np.ndarray = self._model.encode(
            list(texts),
            prompt=self._prompts[self._side] or None,
            batch_size=BATCH,
            show_progress_bar=False,
            convert_to_numpy=True,
            normalize_embeddings=self._normalizes,
        )
        return vectors.astype(np.float32)

    def stream(self, collections: Iterable[Sequence[str]]) -> Iterator[np.ndarray]:
        return map(self.encode, collections)
