"""FAISS's search parameters and selectors, also of indexes behind transforms."""

from __future__ import annotations

from typing import Any

import numpy as np

FEW, SHARE = 20_000, 0.02  # of a subset, up to which every vector of it is scored


def is_narrow(subset: np.ndarray) -> bool:
    """Whether all vectors of a subset are scored: graphs and lists lose too much there.

    Args:
        subset: N bool.

    Returns:
        True for few vectors.
    """
    return int(subset.sum()) <= max(FEW, int(SHARE * len(subset)))


def selected(subset: np.ndarray) -> Any:
    """FAISS's selector of some vectors.

    Args:
        subset: N bool.

    Returns:
        A selector, which keeps what it points to.
    """
    import faiss

    kind: Any = faiss.IDSelectorBitmap
    return kind(np.packbits(subset, bitorder="little"))  # which keeps what it points to


def best_of(scores: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The best of some rows.

    Args:
        scores: Q×M float32.
        rows: M int64.
        k: results of each query.

    Returns:
        Rows (-1 padded) and scores, each Q×k, best first; equal ones in the order of rows.
    """
    found = np.full((len(scores), k), -1, dtype=np.int64)
    given = np.full((len(scores), k), -np.inf, dtype=np.float32)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    found[:, : best.shape[1]] = rows[best]
    given[:, : best.shape[1]] = np.take_along_axis(scores, best, axis=1)
    return found, given


def made_of(kind: Any, **fields: Any) -> Any:
    """Search parameters; a selector of None is left out.

    Args:
        kind: FAISS's class.
        fields: of the parameters.

    Returns:
        An object of `kind`.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    return kind(**given)  # which keeps what it points to


def through(index: Any, parameters: Any) -> Any:
    """Search parameters for an index behind transforms.

    Args:
        index: FAISS's.
        parameters: of the index behind the transforms.

    Returns:
        The same parameters, wrapped once for each transform.
    """
    import faiss

    whole: Any = faiss.downcast_index(index)
    if not isinstance(whole, faiss.IndexPreTransform):
        return parameters
    inner = through(whole.index, parameters)
    return made_of(faiss.SearchParametersPreTransform, index_params=inner)


def behind_reduction(index: Any, vectors: np.ndarray) -> tuple[Any, np.ndarray]:
    """The FAISS index that holds the reduced vectors, and Q×D vectors reduced as those were.

    Args:
        index: a FAISS index.
        vectors: Q×D float32.

    Returns:
        The inner index and Q×d vectors for it.
    """
    import faiss

    whole: Any = faiss.downcast_index(index)
    while isinstance(whole, faiss.IndexPreTransform):
        chain: Any = whole.chain
        for number in range(chain.size()):
            vectors = faiss.downcast_VectorTransform(chain.at(number)).apply(vectors)
        whole = faiss.downcast_index(whole.index)
    return whole, vectors


def innermost(index: Any) -> Any:
    """The FAISS index behind all transforms.

    Args:
        index: a FAISS index.

    Returns:
        Itself, where there are none.
    """
    import faiss

    whole: Any = faiss.downcast_index(index)
    while isinstance(whole, faiss.IndexPreTransform):
        whole = faiss.downcast_index(whole.index)
    return whole
