"""Models that sentence-transformers computes, behind our protocols: vectors, or weights of terms.

Slower than the networks of `text_encoder` (it sorts and pads by batches of texts, not of tokens),
and never trained here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neurosearch.core.digests import files_below
from neurosearch.core.errors import InputError, first_line
from neurosearch.core.ragged import offsets_of
from neurosearch.core.runtime import Runtime
from neurosearch.nn.pretrained import check_tokenizer, check_weights, declared_kind
from neurosearch.nn.tokens import character_lengths

BATCH = 32  # texts


def loaded(
    kind: str,
    folder: Path,
    precision: str,
    allow: tuple[str, ...],
    runtime: Runtime,
    **options: Any,
) -> Any:
    """A model of sentence-transformers on the runtime's device.

    Args:
        kind: the class, such as `SentenceTransformer`.
        allow: `pickle`: weights that may hold code; `remote_code`: code that lies in the folder.
        options: of the class.

    Raises:
        InputError: sentence-transformers is missing or too old, or can't load the folder; or the
            folder needs what is not allowed.
    """
    try:
        import sentence_transformers

        model_class = getattr(sentence_transformers, kind)
    except (ImportError, AttributeError):
        reason = "needs sentence-transformers 6 or newer: pip install sentence-transformers"
        raise InputError(f"{folder}: {reason}") from None
    for place in sorted({file.parent for file in files_below(folder)}):
        if "pickle" not in allow:
            check_weights(place)
    if not any(file.name.startswith(("tokenizer", "vocab")) for file in files_below(folder)):
        check_tokenizer(folder)
    try:
        device = str(runtime.torch_device())
        model = model_class(
            str(folder),
            device=device,
            local_files_only=True,
            trust_remote_code="remote_code" in allow,
            model_kwargs={} if "pickle" in allow else {"use_safetensors": True},
            **options,
        )
    except Exception as error:  # of many kinds, some of many lines
        first = first_line(error)
        if "trust_remote_code" in str(error):
            first = "it brings code of its own, which runs with allow=[remote_code] only"
        raise InputError(f"{folder}: can't be loaded ({first})") from None
    return model.to(torch.bfloat16 if precision == "bf16" else torch.float32).eval()


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
        self,
        folder: Path,
        max_length: int | None,
        prompts: tuple[str, str],
        precision: str,
        allow: tuple[str, ...],
        runtime: Runtime,
    ) -> None:
        self._model = loaded("SentenceTransformer", folder, precision, allow, runtime)
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
            prompt=self._prompts[self._side],  # '' is none; None would be the model's default
            batch_size=BATCH,
            show_progress_bar=False,
            convert_to_numpy=True,
            normalize_embeddings=self._normalizes,
        )
        return vectors.astype(np.float32)

    def stream(self, collections: Iterable[Sequence[str]]) -> Iterator[np.ndarray]:
        return map(self.encode, collections)


class ForeignTokens:
    """A MultiVectorEncoder as a live encoder of tokens.

    Args:
        folder: of the model, in the layout of PyLate, ColBERTv2 or sentence-transformers.
        max_lengths: tokens of queries and of products; None for the model's own.

    Raises:
        InputError: the folder is of another kind, or can't be loaded.
    """

    def __init__(
        self,
        folder: Path,
        max_lengths: tuple[int | None, int | None],
        precision: str,
        allow: tuple[str, ...],
        runtime: Runtime,
    ) -> None:
        _check_late_interaction(folder)
        self.device = runtime.torch_device()
        self._model = loaded("MultiVectorEncoder", folder, precision, allow, runtime)
        first = self._model[0]
        query, product = max_lengths
        if product is not None:
            first.document_length = product
        if query is not None and first.query_expansion is not None:
            first.query_length = None
            first.query_expansion = {**first.query_expansion, "length": query}
        elif query is not None:
            first.query_length = query

    def encode(self, texts: list[str], side: int) -> tuple[np.ndarray, np.ndarray]:
        encode = (self._model.encode_query, self._model.encode_document)[side]
        parts = encode(texts, batch_size=BATCH, show_progress_bar=False)
        counts = np.fromiter(map(len, parts), dtype=np.int64, count=len(parts))
        vectors = [part.float().cpu().numpy() for part in parts]
        return np.concatenate(vectors), offsets_of(counts)


def _check_late_interaction(folder: Path) -> None:
    """Raise InputError for a model of another kind, to which a random layer would be added."""
    kind, names = declared_kind(folder)
    if kind not in ("ColBERT", "MultiVectorEncoder") and not any(
        name == "HF_ColBERT" or name.endswith("ForRetrieval") for name in names
    ):
        raise InputError(
            f"{folder}: no model of late interaction (PyLate, ColBERTv2, or a MultiVectorEncoder)"
        )


class ForeignTerms:
    """A SparseEncoder as a live encoder of terms.

    Args:
        folder: of the model, in the layout of sentence-transformers, or a masked language model.
        max_lengths: tokens of queries and of products; None for the model's own.

    Raises:
        InputError: the folder is of another kind, or can't be loaded.
    """

    def __init__(
        self,
        folder: Path,
        max_lengths: tuple[int | None, int | None],
        precision: str,
        allow: tuple[str, ...],
        runtime: Runtime,
    ) -> None:
        kind, names = declared_kind(folder)
        if kind != "SparseEncoder" and not any(name.endswith("ForMaskedLM") for name in names):
            raise InputError(f"{folder}: no SparseEncoder, and no masked language model")
        self._model = loaded("SparseEncoder", folder, precision, allow, runtime)
        self._lengths = max_lengths

    def encode(self, texts: list[str], side: int) -> Any:
        """N×V CSR matrix of float32; `side`: 0 for queries, 1 for products."""
        from scipy.sparse import csr_matrix

        encode = (self._model.encode_query, self._model.encode_document)[side]
        if self._lengths[side] is not None:
            self._model.max_seq_length = self._lengths[side]
        options = {"batch_size": BATCH, "show_progress_bar": False}
        weights = encode(texts, convert_to_sparse_tensor=True, **options).coalesce().cpu()
        place, values = weights.indices().numpy(), weights.values().float().numpy()
        matrix = csr_matrix((values, (place[0], place[1])), shape=tuple(weights.shape))
        matrix.eliminate_zeros()
        matrix.sort_indices()
        return matrix
