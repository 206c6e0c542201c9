"""IVF and HNSW: exact at full effort, and honest about what they compare."""

from __future__ import annotations

import numpy as np
import pytest

from neurosearch.core.errors import InputError
from neurosearch.index.flat import Flat
from neurosearch.index.hnsw import HNSW
from neurosearch.index.ivf import IVF

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(800, 16)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
QUERIES = VECTORS[:20] + RNG.normal(scale=0.1, size=(20, 16)).astype(np.float32)


def live(recipe):
    return recipe.live(recipe.filled(VECTORS), "encoder")


def test_at_full_effort_both_are_exact() -> None:
    wanted, _ = live(Flat()).nearest(QUERIES, 10)
    ivf, _ = live(IVF(cells=8, probes=8)).nearest(QUERIES, 10)
    hnsw, _ = live(HNSW(neighbours=64, construction=800, search=800)).nearest(QUERIES, 10)
    assert (ivf == wanted).all() and (hnsw == wanted).mean() > 0.99


def test_less_effort_compares_less() -> None:
    few, many = live(IVF(cells=8, probes=1)), live(IVF(cells=8, probes=8))
    assert (many.compared(QUERIES) == 808).all()
    cells = few.index.quantizer.search(QUERIES, 1)[1][:, 0]
    sizes = np.array([few.index.invlists.list_size(int(c)) for c in cells])
    assert few.compared(QUERIES).tolist() == (sizes + 8).tolist()
    near, far = (live(HNSW(neighbours=4, search=n)).compared(QUERIES) for n in (4, 200))
    assert (near < far).all() and (near > 4).all()


def test_small_catalogues_have_fewer_cells() -> None:
    assert IVF(cells=256).filled(VECTORS[:100]).nlist == 2


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match=r"probes is 9: 1 to index\.cells=8"):
        IVF(cells=8, probes=9)
    with pytest.raises(InputError, match=r"search must be at least 2"):
        HNSW(search=1)
