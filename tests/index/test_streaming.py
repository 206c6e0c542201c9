"""Built block by block, nothing differs from built at once; half precision is a rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurosearch.core import shards
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.vectors import Embeddings
from neurosearch.data.shop import Shop
from neurosearch.encoder import base as encoders
from neurosearch.encoder.hashing import Hashing
from neurosearch.encoder.image import ImageEncoder
from neurosearch.index import base as indexes
from neurosearch.index.base import Index
from neurosearch.index.exact import Exact
from neurosearch.index.flat import Flat
from neurosearch.index.ivf import IVF
from neurosearch.index.ivfpq import IVFPQ
from neurosearch.index.refine import Refine
from neurosearch.index.sq import SQ

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(1_003, 32)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)


@pytest.mark.parametrize(
    "recipe",
    [
        Flat(),
        SQ(),
        IVF(cells=8, probes=3),
        Refine(coarse=IVFPQ(cells=8, probes=8, parts=8), code="half", candidates=50),
        Flat(reduction="pca", dimensions=16),
    ],
    ids=lambda recipe: recipe.label(),
)
def test_blocks_change_nothing(recipe: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = recipe.live(recipe.filled(VECTORS), "e").nearest(VECTORS[:40], 5)
    monkeypatch.setattr(indexes, "BLOCK", 7)
    monkeypatch.setattr(shards.blocks_of, "__defaults__", (97,))
    parts = recipe.live(recipe.filled(VECTORS), "e").nearest(VECTORS[:40], 5)
    assert (whole[0] == parts[0]).all() and np.allclose(whole[1], parts[1])


def test_a_sample_is_drawn_from_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catalogues are sorted: ranges that were learnt from its first products would cut the last."""
    ordered = np.concatenate([0.1 * VECTORS[:500], VECTORS[:500]])
    monkeypatch.setattr(indexes, "SAMPLE", 200)
    monkeypatch.setattr(SQ, "sampled", lambda self, count: 200)
    live = SQ().live(SQ().filled(ordered), "e")
    rows, _ = live.nearest(VECTORS[:100], 1)
    assert (rows[:, 0] == np.arange(500, 600)).mean() > 0.95


def test_exact_answers_are_those_of_one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards.blocks_of, "__defaults__", (101,))
    exact = Exact.of(VECTORS[:300], VECTORS, 7)
    wanted = np.sort(VECTORS[:300] @ VECTORS.T, axis=1)[:, -7]
    assert np.allclose(exact.last, wanted, atol=1e-6)
    rows = np.argsort(-(VECTORS[:300] @ VECTORS.T), axis=1)[:, :7]
    assert (exact.recall(rows) == 1).all() and (exact.recall(np.full_like(rows, -1)) == 0).all()


def test_what_is_not_finite_is_refused_in_any_block(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = VECTORS.copy()
    broken[900, 3] = np.nan
    monkeypatch.setattr(shards.blocks_of, "__defaults__", (100,))
    for recipe in (Flat(), IVF(cells=4, probes=2)):
        with pytest.raises((InputError, RuntimeError), match=r"not finite|NaN|finite"):
            recipe.filled(broken)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """700 products, encoded in blocks of 300 and shards of 64."""
    runtime = Runtime(outputs=tmp_path_factory.mktemp("large"), device="cpu", progress=False)
    return runtime, Shop(n_products=700, n_queries=20, n_sessions=0, images=False).dataset()


def test_products_are_encoded_in_their_order(large: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime, data = large
    monkeypatch.setattr(encoders, "BLOCK", 300)
    monkeypatch.setattr(encoders, "SHARD", 64)
    catalogue = type(runtime.get(data).catalogue)
    batches = catalogue.batches
    monkeypatch.setattr(
        catalogue, "batches", lambda self, columns, size=150: batches(self, columns, size)
    )
    found: Embeddings = runtime.get(Hashing().product_embeddings(data))
    live = Hashing().live(runtime)
    wanted = live.encode(runtime.get(data).catalogue.all_texts(("title",)))
    assert found.vectors.dtype == np.float32 and np.array_equal(found.vectors, wanted)
    half: Embeddings = runtime.get(Hashing(stored="half").product_embeddings(data))
    assert half.vectors.dtype == np.float16
    assert np.array_equal(half.vectors, wanted.astype(np.float16))
    folder: Path = runtime.store.folder(Hashing(stored="half").product_embeddings(data))
    assert (folder / "vectors.npy").stat().st_size < 0.51 * wanted.nbytes + 200


def test_half_precision_moves_no_list(large: Any) -> None:
    runtime, data = large
    lists = []
    for stored in ("float", "half"):
        encoder = Hashing(stored=stored)
        index = runtime.get(Flat().build(encoder.product_embeddings(data)))
        queries = encoder.live(runtime).encode(runtime.get(data).catalogue.ids.to_list()[:50])
        asked = Embeddings(queries, encoder.identity(data))
        lists.append(index.search(asked, 10)[1])
    assert np.abs(lists[0] - lists[1]).max() < 2e-3


def test_pictures_are_floats() -> None:
    with pytest.raises(InputError, match=r"ImageEncoder\.stored must be float for ImageEncoder"):
        ImageEncoder(stored="half")
