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
from neurosearch.nn.exact_search import GROUP, ExactSearch, best_of, packed, unpacked
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
    st.integers(1, 900), st.integers(1, 200), st.integers(1, 4), st.sampled_from([128, 256, 512])
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
    assert (rows == order).all()
    assert (scores == np.take_along_axis(exact, order, axis=1)).all()


def test_the_best_of_groups_are_the_best() -> None:
    scores = torch.randn(3, 4, GROUP * 40, generator=torch.Generator().manual_seed(0))
    scores[1, 2, 60:110] = scores.max() + torch.arange(50)  # all of the best in one group
    values, rows = unpacked(best_of(scores, 1000, 30))
    expected = scores.transpose(0, 1).reshape(4, -1).topk(30)
    assert torch.equal(values, expected.values)
    assert torch.equal(rows, expected.indices + 1000)
    assert rows[2].tolist() == [1000 + GROUP * 40 + 109 - place for place in range(30)]


def test_keys_are_ordered_as_scores_and_rows() -> None:
    scores = torch.tensor([-torch.inf, -2.5, -1e-30, -0.0, 0.0, 1e-30, 3.0, 3.0, torch.inf])
    rows = torch.tensor([5, 2**31 - 1, 0, 3, 4, 1, 9, 8, 0])
    keys = packed(scores, rows)
    assert keys.argsort(descending=True).tolist() == [8, 7, 6, 5, 3, 4, 2, 1, 0]
    values, found = unpacked(keys)
    assert torch.equal(values, scores) and torch.equal(found, rows)


def test_more_queries_than_fit_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    whole, _ = ExactSearch(vectors, [CPU], 128).search(vectors[:50], 5)
    monkeypatch.setattr("neurosearch.nn.exact_search.QUERIES", 7)
    monkeypatch.setattr("neurosearch.nn.exact_search.SCORES", 7 * 128)
    cut, _ = ExactSearch(vectors, [CPU], 128).search(vectors[:50], 5)
    assert (whole == cut).all() and (whole[:, 0] == np.arange(50)).all()


def test_more_gpus_than_there_are_is_refused(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match=r"runtime\.devices=2, but torch sees 1 GPUs"):
        replace(runtime, device="cuda", devices=2).torch_devices()
