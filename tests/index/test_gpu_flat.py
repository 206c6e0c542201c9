"""index=gpu_flat: the rows of brute force, on one device and on several (here: CPUs)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.vectors import Embeddings
from neurosearch.index.flat import Flat
from neurosearch.index.gpu_flat import GpuFlat
from neurosearch.nn.exact_search import GROUP, ExactSearch, best_of
from tests.index.test_flat import Drawn

CPU = torch.device("cpu")


@pytest.mark.parametrize("reduction", ["none", "truncate", "pca"])
def test_its_results_are_those_of_flat(runtime: Runtime, reduction: str) -> None:
    embeddings = Drawn(700)
    kept = {} if reduction == "none" else {"reduction": reduction, "dimensions": 8}
    queries = Embeddings(np.asarray(runtime.get(embeddings).vectors)[:9] * 1.0, "drawn")
    flat = runtime.get(Flat(**kept).build(embeddings))
    loaded = runtime.get(GpuFlat(**kept).build(embeddings))
    for several in (loaded, loaded.on(runtime), loaded.on(replace(runtime, devices=3))):
        rows, scores = several.search(queries, 20)
        wanted, expected = flat.search(queries, 20)
        assert rows.tolist() == wanted.tolist()
        assert scores == pytest.approx(expected, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 900), st.integers(1, 40), st.integers(1, 4), st.sampled_from([1, 100, 256, 512])
)
def test_devices_and_blocks_change_nothing(count: int, k: int, devices: int, block: int) -> None:
    rng = np.random.default_rng(count)
    # Small whole numbers: products are exact in float32, and many are equal.
    vectors = rng.integers(-2, 3, size=(count, 6)).astype(np.float32)
    queries = rng.integers(-2, 3, size=(5, 6)).astype(np.float32)
    k = min(k, count)
    rows, scores = ExactSearch(vectors, [CPU] * devices, block).search(queries, k)
    exact = queries @ vectors.T
    order = np.argsort(-exact, axis=1, kind="stable")[:, :k]
    assert (scores == np.take_along_axis(exact, order, axis=1)).all()
    assert (np.take_along_axis(exact, rows, axis=1) == scores).all()
    assert all(len(set(line)) == k for line in rows.tolist())
    one, _ = ExactSearch(vectors, [CPU], block).search(queries, k)
    assert (rows == one).all()


@pytest.mark.parametrize("count", [GROUP * 40, GROUP * 40 + 1, GROUP])
def test_the_best_of_groups_are_the_best(count: int) -> None:
    scores = torch.randn(3, count, generator=torch.Generator().manual_seed(count))
    scores[0, :50] = scores[0].max() + torch.arange(50)  # all of the best in one group
    values, columns = best_of(scores, 30)
    assert values.shape == (3, 30)
    assert torch.equal(values.sort(descending=True).values, scores.topk(30).values)
    assert torch.equal(scores.gather(1, columns), values)
    assert (columns.diff() > 0).all()


def test_more_queries_than_fit_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    whole, _ = ExactSearch(vectors, [CPU]).search(vectors[:50], 5)
    monkeypatch.setattr("neurosearch.nn.exact_search.QUERIES", 7)
    cut, _ = ExactSearch(vectors, [CPU]).search(vectors[:50], 5)
    assert (whole == cut).all() and (whole[:, 0] == np.arange(50)).all()


def test_more_gpus_than_there_are_is_refused(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match=r"runtime\.devices=2, but torch sees 1 GPUs"):
        replace(runtime, device="cuda", devices=2).torch_devices()
