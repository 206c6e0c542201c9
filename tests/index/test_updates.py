"""Products that come and go: the updated index finds what an index of the later catalogue finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurosearch.core.errors import InputError
from neurosearch.index.base import Index
from neurosearch.index.binary import Binary
from neurosearch.index.flat import Flat
from neurosearch.index.hnsw import HNSW
from neurosearch.index.ivf import IVF
from neurosearch.index.ivfpq import IVFPQ
from neurosearch.index.refine import Refine
from neurosearch.index.sq import SQ
from neurosearch.index.updates import imbalance, update
from tests.commands import run

N, D = 1_200, 32
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(N, D)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
IDS: list[str | None] = [f"P{number}" for number in range(N)]
LATER = RNG.normal(size=(100, D)).astype(np.float32)
LATER /= np.linalg.norm(LATER, axis=1, keepdims=True)
FORGETFUL: dict[str, Index] = {
    "flat": Flat(),
    "sq8": SQ(),
    "binary": Binary(),
    "ivf": IVF(cells=8, probes=8),
    "ivfpq": IVFPQ(cells=8, probes=8, parts=16, rotation="random"),
    "pca": Flat(reduction="pca", dimensions=31),
}


@pytest.mark.parametrize("name", FORGETFUL)
def test_twice_updated_it_finds_what_is_there_now(name: str) -> None:
    """Removing shifts flat vectors and keeps the numbers of lists: ids must follow either way."""
    recipe = FORGETFUL[name]
    index = recipe.filled(VECTORS)
    gone = {f"P{number}" for number in range(0, N, 3)}
    new = [f"N{number}" for number in range(60)]
    once = update(index, list(IDS), gone, LATER[:60], new)
    last = update(index, once.ids, {"P1", "N0"}, LATER[60:], [f"N{n}" for n in range(60, 100)])
    there = {name for name in last.ids if name is not None}
    expected = ({*IDS, *(f"N{n}" for n in range(100))} - gone) - {"P1", "N0"}
    assert there == expected and index.ntotal == len(expected)
    live = recipe.live(index, "e")
    for vectors, prefix in ((VECTORS, "P"), (LATER, "N")):
        names = [f"{prefix}{number}" for number in range(len(vectors))]
        rows, _ = live.nearest(vectors, 1)
        found = [last.ids[row] for row in rows[:, 0]]
        kept = [n for n, name in enumerate(names) if name in there]
        same = np.mean([found[n] == names[n] for n in kept])
        assert same > (0.99 if name in ("flat", "sq8", "ivf", "pca") else 0.9), (name, same)
        assert not {found[n] for n in range(len(names))} & (gone | {"P1", "N0"})


@pytest.mark.parametrize(
    "recipe", [HNSW(neighbours=8, construction=40), Refine(coarse=IVF(cells=8, probes=8))]
)
def test_what_forgets_nothing_is_refused_and_learns_all_the_same(recipe: Any) -> None:
    index = recipe.filled(VECTORS)
    with pytest.raises(
        InputError, match=r"1 products are gone or changed, and Index.* forgets none"
    ):
        update(index, list(IDS), {"P1"}, LATER[:0], [])
    assert index.ntotal == N
    updated = update(index, list(IDS), set(), LATER, [f"N{n}" for n in range(100)])
    rows, _ = recipe.live(index, "e").nearest(LATER, 1)
    assert np.mean([updated.ids[row] == f"N{n}" for n, row in enumerate(rows[:, 0])]) > 0.97


def test_imbalance_by_hand() -> None:
    index = IVF(cells=4, probes=4).filled(VECTORS)
    sizes = np.array([index.invlists.list_size(n) for n in range(4)])
    assert imbalance(index) == pytest.approx(4 * (sizes**2).sum() / N**2)
    assert imbalance(Flat().filled(VECTORS)) == 1
    index.add_with_ids(np.repeat(VECTORS[:1], 5 * N, axis=0), np.arange(N, 6 * N))
    assert imbalance(index) > 2.5  # nearly all in one of four


def test_an_export_follows_its_catalogue(tmp_path: Path) -> None:
    """The shop's first products do not depend on how many there are."""
    common = ["data=shop", "data.images=false", "data.n_sessions=0", "retriever=dense"]
    common += ["encoder@retriever.encoder=hashing", "index@retriever.index=ivf"]
    outputs = {"NEUROSEARCH_OUTPUTS": str(tmp_path)}
    folder = tmp_path / "exports" / "adhoc"
    assert run([*common, "data.n_products=600", "task=export"], outputs).returncode == 0
    for count, told in (
        (700, "100 products added, 0 removed, 700 there"),
        (500, "0 products added, 200 removed, 500 there"),
        (500, "0 products added, 0 removed, 500 there"),
    ):
        done = run([*common, f"data.n_products={count}", "task=update"], outputs)
        assert done.returncode == 0 and told in done.stdout, done.stderr
        ids = [name for name in json.loads((folder / "ids.json").read_text()) if name]
        assert len(ids) == count
    other = run([*common, "retriever.encoder.dimensions=64", "task=update"], outputs)
    assert other.returncode == 1 and "its vectors are of encoder" in other.stderr
    (folder / "ids.json").unlink()
    damaged = run([*common, "task=update"], outputs)
    assert damaged.returncode == 1 and "ids.json: no such file; export an index" in damaged.stderr
