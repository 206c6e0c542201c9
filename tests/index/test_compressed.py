"""Compressed indexes: what each keeps, against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.vectors import Embeddings
from neurosearch.index.base import Index
from neurosearch.index.binary import Binary
from neurosearch.index.flat import Flat
from neurosearch.index.sq import SQ
from tests.index.test_flat import Drawn


def found(runtime: Runtime, recipe: Index, count: int = 400, k: int = 10):
    embeddings = Drawn(count)
    index = runtime.get(recipe.build(embeddings))
    vectors = np.asarray(runtime.get(embeddings).vectors)
    rows, scores = index.search(Embeddings(vectors[:20], "drawn"), k)
    return vectors, rows, scores


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_truncation_is_the_first_dimensions(runtime: Runtime) -> None:
    vectors, _, scores = found(runtime, Flat(reduction="truncate", dimensions=8))
    part = unit(vectors[:, :8])
    expected = -np.sort(-(part[:20] @ part.T), axis=1)[:, :10]
    assert scores == pytest.approx(expected, abs=1e-5)


def test_pca_is_scikit_learn_s(runtime: Runtime) -> None:
    from sklearn.decomposition import PCA

    vectors, _, scores = found(runtime, Flat(reduction="pca", dimensions=8))
    part = unit(PCA(8).fit(vectors).transform(vectors))
    expected = -np.sort(-(part[:20] @ part.T), axis=1)[:, :10]
    assert scores == pytest.approx(expected, abs=1e-4)


def test_eight_bits_lose_little_and_take_a_quarter(runtime: Runtime) -> None:
    vectors, rows, _ = found(runtime, SQ(), count=3000)
    exact = np.argsort(-(vectors[:20] @ vectors.T), axis=1)[:, :10]
    overlap = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows, exact, strict=True)])
    assert overlap > 0.95
    sizes = {}
    for recipe in (Flat(), SQ(), Binary()):
        artifact = recipe.build(Drawn(3000))
        runtime.get(artifact)
        sizes[type(recipe).__name__] = runtime.store.manifest(artifact)["details"][
            "bytes a product"
        ]
    assert sizes["Flat"] == pytest.approx(64, abs=1)
    assert sizes["SQ"] == pytest.approx(16, abs=1)
    assert sizes["Binary"] == pytest.approx(2, abs=1)


@pytest.mark.parametrize("reduction, dimensions", [("none", None), ("pca", 8)])
def test_binary_scores_are_the_float_query_with_the_signs(
    runtime: Runtime, reduction: str, dimensions: int | None
) -> None:
    recipe = Binary(reduction=reduction, dimensions=dimensions, oversample=400)
    vectors, rows, scores = found(runtime, recipe)
    if reduction == "none":
        medians = np.median(vectors, axis=0)
        signs = np.where(vectors >= medians, 1.0, -1.0)
        expected = np.sort(-((vectors[:20] - medians) @ signs.T), axis=1)[:, :10]
        assert (
            np.mean(np.abs(scores + expected)) < 0.02
        )  # FAISS takes another middle of even counts
    assert (np.diff(scores, axis=1) <= 1e-6).all()
    assert (rows >= 0).all()


def test_what_cannot_be_is_refused(runtime: Runtime) -> None:
    with pytest.raises(InputError, match=r"reduction must be one of none, truncate, pca"):
        Flat(reduction="svd", dimensions=3)
    with pytest.raises(InputError, match=r"dimensions goes with"):
        Flat(dimensions=3)
    with pytest.raises(InputError, match=r"dimensions is 99, the vectors have 16"):
        runtime.get(Flat(reduction="pca", dimensions=99).build(Drawn(50)))
    with pytest.raises(InputError, match="multiple of 8"):
        runtime.get(Binary(reduction="pca", dimensions=12).build(Drawn(50)))
