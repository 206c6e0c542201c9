"""Two processes train as one: the gradient of a batch that they share is the batch's."""

from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import numpy as np
import polars as pl
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import normalize

from neurosearch.encoder.biencoder.pairs import TrainingPairs
from neurosearch.loss.base import Targets
from neurosearch.loss.infonce import InfoNCE
from neurosearch.loss.listnet import ListNet
from neurosearch.loss.weighted import Weighted
from neurosearch.training.gather import Part, gathered, shares, sum_gradients, world
from neurosearch.training.gradcache import cached_backward
from tests.commands import START

B, M, D = 5, 12, 6  # 17 texts: the two shares differ in size
LOSS = Weighted({"a": InfoNCE(learned=True, symmetric=True), "b": ListNet()}, {"a": 1, "b": 0.5})


def step(chunk: int) -> dict[str, list[float]]:
    """Gradients of one training step over fixed texts, as the module takes it."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, D)).double()
    texts = torch.randn(B + M, 4, dtype=torch.float64)
    gain = torch.rand(B, M)
    positive = torch.eye(B, M, dtype=torch.bool)
    targets = Targets(positive, torch.zeros_like(positive), gain)
    objective = LOSS.objective()
    order = shares(np.random.default_rng(0).permutation(B + M))
    counts = [len(share) for share in order]
    back = torch.from_numpy(np.argsort(np.concatenate(order)))
    own = order[world()[0]]

    def encode(rows: np.ndarray) -> torch.Tensor:
        return normalize(network(texts[rows]), dim=1)

    def loss_of(vectors: torch.Tensor) -> torch.Tensor:
        whole = gathered(vectors, counts)[back]
        return objective(whole[:B], whole[B:], targets)

    if chunk:
        chunks = np.split(own, range(chunk, len(own), chunk))
        loss = cached_backward(encode, chunks, loss_of, torch.Tensor.backward)
    else:
        loss = loss_of(encode(own))
        loss.backward()
    sum_gradients(network.parameters())
    found = {name: p.grad.flatten().tolist() for name, p in network.named_parameters()}
    temperature = next(p for p in objective.parameters() if p.requires_grad)
    return {**found, "temperature": [temperature.grad.item()], "loss": [loss.item()]}


def process(rank: int, chunk: int, folder: str) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    Path(folder, f"{rank}.json").write_text(json.dumps(step(chunk)))
    dist.destroy_process_group()


@pytest.mark.parametrize("chunk", [0, 3])
def test_two_processes_have_the_gradient_of_one(chunk: int, tmp_path: Path) -> None:
    alone = step(0)
    mp.start_processes(process, args=(chunk, str(tmp_path)), nprocs=2, start_method=START)
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found.keys() == alone.keys()
        for name in alone:
            assert found[name] == pytest.approx(alone[name], abs=1e-6), name


@given(st.permutations(range(11)), st.integers(1, 5))
def test_shares_hold_every_text_once(order: list[int], processes: int) -> None:
    with mock.patch("neurosearch.training.gather.world", lambda: (0, processes)):
        parts = shares(np.array(order))
    assert len(parts) == processes
    assert sorted(np.concatenate(parts).tolist()) == list(range(11))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("loss", [InfoNCE(0.1), InfoNCE(0.1, multi_positive=True)])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_losses_of_parts_add_up_to_the_batch(loss: InfoNCE, processes: int, monkeypatch) -> None:
    rng = np.random.default_rng(0)
    judged = [
        (q, int(r), float(s)) for q in range(6) for r, s in enumerate(rng.random(9)) if s > 0.3
    ]
    graded = pl.DataFrame(judged, ["query", "row", "share"], orient="row")
    titles = [f"title {n // 2}" for n in range(9)]  # twins: refused as negatives
    texts = ["a", "b", "a", "c", "d", "b"]  # as are positives of a query with the same text
    pairs = TrainingPairs.of(graded, titles, texts, positive_share=0.66)
    queries, rows = np.array([0, 1, 2, 3, 4, 5, 0]), np.array([3, 1, 4, 8, 2, 6, 0, 7, 5, 1])
    vectors = normalize(torch.randn(17, D, generator=torch.Generator().manual_seed(1)), dim=1)
    asked, shown = vectors[:7], vectors[7:]
    whole = loss.objective()(asked, shown, pairs.targets(queries, rows, mask=True))
    total, seen = torch.zeros(()), []
    for rank in range(processes):
        monkeypatch.setattr(
            "neurosearch.training.gather.world", lambda rank=rank: (rank, processes)
        )
        part = Part.of(7, 10, loss.by_query)
        others = queries[part.documents[len(part.queries) : 7]]
        targets = pairs.targets(queries[part.queries], rows[part.documents], True, others)
        own = loss.objective()(asked[part.queries], shown[part.documents], targets)
        total += part.weight * own
        seen += part.queries.tolist()
        assert sorted(part.documents.tolist()) == list(range(10))
    assert sorted(seen) == list(range(7))
    assert float(total) == pytest.approx(float(whole), rel=1e-6)
    assert not InfoNCE(0.1, symmetric=True).by_query and not InfoNCE(0.1, learned=True).by_query
