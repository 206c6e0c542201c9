"""Indexes that move to GPUs: what moves and how, with a stand-in for FAISS's GPU parts.

On real GPUs `experiments/ann/gpus.py` compares results and measures.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faiss
import numpy as np
import pytest

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.index.base import Index
from neurosearch.index.fastscan import FastScan
from neurosearch.index.flat import Flat
from neurosearch.index.hnsw import HNSW
from neurosearch.index.ivf import IVF
from neurosearch.index.ivfpq import IVFPQ
from neurosearch.index.on_gpus import LONGEST, can_move
from neurosearch.index.refine import Refine

ROOT = Path(__file__).resolve().parents[2]
VECTORS = np.random.default_rng(0).normal(size=(3_000, 16)).astype(np.float32)
QUERIES = VECTORS[:20] + 0.1


@dataclass
class Gpus:
    """What was asked of FAISS's GPU parts, and the copies that were made."""

    moves: list[tuple[Any, list[int]]] = field(default_factory=list)
    fault: str = ""

    def move(self, resources: Any, index: Any, options: Any, places: list[int]) -> Any:
        if self.fault:
            raise RuntimeError(self.fault)
        self.moves.append((options, places))
        return faiss.clone_index(index)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpus]:
    """Two GPUs that are CPUs."""
    found = Gpus()

    class Space:
        def set_index_parameter(self, index: Any, name: str, value: int) -> None:
            inner = faiss.extract_index_ivf(index)
            setattr(inner, name, value)

    options = lambda: SimpleNamespace(shard=None, useFloat16=False)  # noqa: E731
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 2, raising=False)
    monkeypatch.setattr(faiss, "StandardGpuResources", lambda: None, raising=False)
    monkeypatch.setattr(faiss, "GpuMultipleClonerOptions", options, raising=False)
    monkeypatch.setattr(faiss, "GpuParameterSpace", Space, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu_multiple_py", found.move, raising=False)
    device = SimpleNamespace(type="cuda", index=None)
    monkeypatch.setattr(Runtime, "torch_device", lambda self: device)
    yield found


MOVING = [
    Flat(),
    Flat(reduction="pca", dimensions=8),
    IVF(cells=16, probes=4),
    IVF(cells=16, probes=4, code="half"),
    IVF(cells=16, probes=16, code="sq8"),
    IVFPQ(cells=16, probes=4, parts=4),
    IVFPQ(cells=16, probes=4, parts=4, rotation="opq"),
]


@pytest.mark.parametrize("recipe", MOVING, ids=lambda recipe: recipe.label())
def test_results_are_those_of_the_cpu(recipe: Index, gpus: Gpus, tmp_path: Path) -> None:
    live = recipe.live(recipe.filled(VECTORS), "encoder")
    moved = live.on(Runtime(tmp_path))
    assert moved.moved is not None
    expected, scores = live.nearest(QUERIES, 10)
    found, given = moved.nearest(QUERIES, 10)
    assert np.array_equal(found, expected)
    np.testing.assert_allclose(given, scores, rtol=1e-6)


@pytest.mark.parametrize("spread", ["shards", "replicas"])
def test_spread_over_devices(spread: str, gpus: Gpus, tmp_path: Path) -> None:
    live = Flat().live(Flat().filled(VECTORS), "encoder")
    live.on(Runtime(tmp_path, devices=2, spread=spread))
    ((options, places),) = gpus.moves
    assert places == [0, 1] and options.shard == (spread == "shards")
    live.on(Runtime(tmp_path, devices=5))  # more than there are
    assert gpus.moves[-1][1] == [0, 1]


def test_large_tables_are_halved(gpus: Gpus, tmp_path: Path) -> None:
    """64 parts of 256 floats are 64 KB, more than a block's shared memory; 4 are 4 KB."""
    wide = np.random.default_rng(0).normal(size=(1_000, 64)).astype(np.float32)
    for parts, vectors, halved in ((4, VECTORS, False), (64, wide, True)):
        recipe = IVFPQ(cells=8, probes=2, parts=parts, bits=8)
        recipe.live(recipe.filled(vectors), "encoder").on(Runtime(tmp_path))
        assert gpus.moves[-1][0].useFloat16 == halved


def test_filters_and_long_lists_stay_on_the_cpu(gpus: Gpus, tmp_path: Path) -> None:
    live = Flat().live(Flat().filled(VECTORS), "encoder").on(Runtime(tmp_path))
    broken = replace(live, moved=SimpleNamespace(search=None))  # type: ignore[arg-type]
    subset = np.arange(len(VECTORS)) % 2 == 0
    assert (broken.nearest(QUERIES, 5, subset)[0] % 2 == 0).all()
    assert broken.nearest(QUERIES[:1], LONGEST + 1)[0].shape == (1, LONGEST + 1)


def test_what_does_not_fit_stays_on_the_cpu(
    gpus: Gpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gpus.fault = "out of memory\nin a file"
    with caplog.at_level("WARNING", logger="neurosearch"):
        live = Flat().live(Flat().filled(VECTORS), "encoder").on(Runtime(tmp_path))
    assert live.moved is None and "stays on the CPU: out of memory" in caplog.text


def test_without_gpus_nothing_moves(tmp_path: Path) -> None:
    live = Flat().live(Flat().filled(VECTORS), "encoder").on(Runtime(tmp_path, device="cpu"))
    assert live.moved is None


def test_kinds_that_can_not_move() -> None:
    coarse = IVFPQ(cells=8, probes=2, parts=4)
    for recipe in (HNSW(), FastScan(cells=8, probes=2, parts=4), Refine(coarse=coarse)):
        assert not can_move(recipe.filled(VECTORS))
    assert not can_move(object())


def test_spread_is_checked() -> None:
    with pytest.raises(InputError, match=r"runtime\.spread must be one of shards, replicas"):
        Runtime("unused", spread="both")


def extras(name: str, known: dict[str, list[str]]) -> set[str]:
    """Packages of an extra and of those that it names."""
    found: set[str] = set()
    for one in known[name]:
        if one.startswith("neurosearch["):
            for part in one.removeprefix("neurosearch[").removesuffix("]").split(","):
                found |= extras(part, known)
        else:
            found.add(one.split(">")[0].split("=")[0].split("<")[0].split("[")[0])
    return found


def test_gpu_installs_faiss_for_gpus_instead() -> None:
    """Both packages own the module `faiss`: never both."""
    known = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    optional = known["optional-dependencies"]
    gpu, everything = extras("gpu", optional), extras("all", optional)
    assert "faiss-gpu" in gpu and "faiss-cpu" not in gpu
    assert "faiss-cpu" in everything and everything - gpu == {"faiss-cpu"}
    assert not any(one.startswith("faiss") for one in known["dependencies"])
