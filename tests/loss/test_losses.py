"""Losses: sentence-transformers' or the written formula; GradCache is exact."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from neurosearch.core.errors import InputError
from neurosearch.loss.base import Loss, Targets
from neurosearch.loss.cosent import CoSENT
from neurosearch.loss.cosine import Cosine
from neurosearch.loss.infonce import InfoNCE
from neurosearch.loss.kl import KL
from neurosearch.loss.lambda_loss import LambdaLoss
from neurosearch.loss.listnet import ListNet
from neurosearch.loss.margin_mse import MarginMSE
from neurosearch.loss.matryoshka import Matryoshka
from neurosearch.loss.triplet import Triplet
from neurosearch.loss.weighted import Weighted
from neurosearch.training.gradcache import cached_backward

B, M, D = 6, 15, 12
LOSSES: dict[str, Loss] = {
    "infonce": InfoNCE(),
    "infonce learnt": InfoNCE(learned=True),
    "infonce symmetric": InfoNCE(symmetric=True),
    "infonce multi": InfoNCE(multi_positive=True),
    "cosine": Cosine(),
    "cosent": CoSENT(),
    "triplet": Triplet(),
    "triplet mean": Triplet(hardest=False),
    "margin_mse": MarginMSE(),
    "kl": KL(),
    "listnet": ListNet(),
    "lambda": LambdaLoss(),
    "weighted": Weighted({"a": InfoNCE(), "b": ListNet()}, {"a": 1.0, "b": 0.5}),
    "matryoshka": Matryoshka(InfoNCE(), (12, 6, 3)),
}


def batch(seed: int = 0, plain: bool = False):
    """Random unit vectors, and targets with gains, refusals and a teacher (or none of them)."""
    g = torch.Generator().manual_seed(seed)
    queries = normalize(torch.randn(B, D, generator=g), dim=1)
    documents = normalize(torch.randn(M, D, generator=g), dim=1)
    eye = torch.zeros(B, M, dtype=torch.bool)
    eye[:, :B] = torch.eye(B, dtype=torch.bool)
    gain = torch.full((B, M), float("nan"))
    gain[eye] = 1.0
    if plain:
        return queries, documents, Targets(eye, torch.zeros_like(eye), gain)
    judged = torch.rand(B, M, generator=g) < 0.4
    gain[judged & ~eye] = torch.randint(0, 4, (int((judged & ~eye).sum()),), generator=g) / 3
    positive = eye | (gain.nan_to_num() >= 0.66)
    refused = (torch.rand(B, M, generator=g) < 0.1) & ~positive
    teacher = torch.randn(B, M, generator=g)
    teacher[(torch.rand(B, M, generator=g) < 0.3) & ~eye] = float("nan")
    return queries, documents, Targets(positive, refused, gain, teacher)


def value(loss: Loss, queries, documents, targets) -> float:
    return float(loss.objective()(queries, documents, targets).detach())


def test_infonce_is_sentence_transformers_mnrl() -> None:
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    queries, documents, targets = batch(plain=True)
    theirs = MultipleNegativesRankingLoss(model=None, scale=20.0)
    # Their hard negatives come as columns of B.
    rest = documents[B : 2 * B]
    expected = theirs.compute_loss_from_embeddings([queries, documents[:B], rest], labels=None)
    used = torch.cat([documents[:B], rest])
    part = Targets(*(t[:, : 2 * B] for t in (targets.positive, targets.refused, targets.gain)))
    assert value(InfoNCE(temperature=0.05), queries, used, part) == pytest.approx(float(expected))


def test_cosent_and_cosine_are_sentence_transformers() -> None:
    """On pairs: query i with document i, label y_i."""
    from sentence_transformers.losses import CoSENTLoss

    queries, documents, _ = batch()
    labels = torch.tensor([0.0, 1.0, 0.3, 0.3, 0.6, 0.0])
    gain = torch.full((B, B), float("nan"))
    gain.fill_diagonal_(0.0)
    gain[range(B), range(B)] = labels
    eye = torch.eye(B, dtype=torch.bool)
    targets = Targets(eye, ~eye, gain)
    pairs = documents[:B]
    theirs = CoSENTLoss(model=None)
    expected = theirs.compute_loss_from_embeddings([queries, pairs], labels)
    assert value(CoSENT(), queries, pairs, targets) == pytest.approx(float(expected), rel=1e-5)
    squared = ((queries * pairs).sum(1) - labels).square().mean()
    assert value(Cosine(), queries, pairs, targets) == pytest.approx(float(squared), rel=1e-5)


def brute(name: str, queries, documents, targets) -> float:
    """The written formulas, entry by entry in Python."""
    s = (queries @ documents.T).double().numpy()
    positive, refused = targets.positive.numpy(), targets.refused.numpy()
    gain, teacher = targets.gain.double().numpy(), targets.teacher.double().numpy()
    negative = ~(positive | refused)
    total: list[float] = []
    if name == "infonce":
        for i in range(B):
            kept = [j for j in range(M) if negative[i, j] or j == i]
            total.append(-s[i, i] / 0.05 + math.log(sum(math.exp(s[i, j] / 0.05) for j in kept)))
    elif name == "infonce multi":
        for i in range(B):
            kept = [j for j in range(M) if negative[i, j] or positive[i, j]]
            below = math.log(sum(math.exp(s[i, j] / 0.05) for j in kept))
            mine = [j for j in range(M) if positive[i, j]]
            total.append(-sum(s[i, j] / 0.05 - below for j in mine) / len(mine))
    elif name == "triplet":
        for i in range(B):
            worst = max((s[i, j] for j in range(M) if negative[i, j]), default=None)
            if worst is not None:
                total.append(max(0.0, 0.2 - s[i, i] + worst))
    elif name == "margin_mse":
        for i in range(B):
            for j in range(M):
                if j != i and not math.isnan(teacher[i, j]):
                    apart = (s[i, i] - s[i, j]) - (teacher[i, i] - teacher[i, j])
                    total.append(apart**2)
    elif name == "kl":
        for i in range(B):
            known = [j for j in range(M) if not math.isnan(teacher[i, j])]
            t = np.exp(teacher[i, known])
            p = np.exp(s[i, known] / 0.05)
            t, p = t / t.sum(), p / p.sum()
            total.append(float((t * np.log(t / p)).sum()))
    elif name == "listnet":
        for i in range(B):
            known = [j for j in range(M) if not math.isnan(gain[i, j])]
            if len(known) > 1:
                y = np.exp(gain[i, known] / 0.25)
                p = np.exp(s[i, known] / 0.05)
                total.append(float(-(y / y.sum() * np.log(p / p.sum())).sum()))
    elif name == "lambda":
        for i in range(B):
            known = [j for j in range(M) if not math.isnan(gain[i, j])]
            if len(known) < 2:
                continue
            order = sorted(known, key=lambda j: -s[i, j])
            rank = {j: r for r, j in enumerate(order, 1)}
            best = sorted((gain[i, j] for j in known), reverse=True)
            ideal = sum(g / math.log2(1 + r) for r, g in enumerate(best, 1))
            row = 0.0
            for a in known:
                for b in known:
                    if gain[i, a] > gain[i, b]:
                        discount = abs(1 / math.log2(1 + rank[a]) - 1 / math.log2(1 + rank[b]))
                        weight = (gain[i, a] - gain[i, b]) * discount / ideal
                        row += weight * math.log2(1 + math.exp(-(s[i, a] - s[i, b]) / 0.05))
            total.append(row)
    return float(np.mean(total))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "name", ["infonce", "infonce multi", "triplet", "margin_mse", "kl", "listnet", "lambda"]
)
def test_the_written_formula(name: str, seed: int) -> None:
    queries, documents, targets = batch(seed)
    expected = brute(name, queries, documents, targets)
    assert value(LOSSES[name], queries, documents, targets) == pytest.approx(expected, rel=1e-4)


def test_refused_pairs_push_nothing() -> None:
    queries, documents, targets = batch(1)
    documents.requires_grad_()
    everything = Targets(targets.positive, ~targets.positive, targets.gain, targets.teacher)
    InfoNCE().objective()(queries, documents, everything).backward()
    assert documents.grad is not None and float(documents.grad.abs().max()) < 1e-6


def test_matryoshka_is_the_sum_over_prefixes() -> None:
    queries, documents, targets = batch(2)
    expected = sum(
        value(
            InfoNCE(), normalize(queries[:, :m], dim=1), normalize(documents[:, :m], dim=1), targets
        )
        for m in (12, 6, 3)
    )
    got = value(Matryoshka(InfoNCE(), (12, 6, 3, 99)), queries, documents, targets)
    assert got == pytest.approx(expected, rel=1e-5)
    longest = value(InfoNCE(), normalize(queries, dim=1), normalize(documents, dim=1), targets)
    lighter = Matryoshka(InfoNCE(), (12, 6, 3), shorter=0.25)
    expected = longest + 0.25 * (expected - longest)
    assert value(lighter, queries, documents, targets) == pytest.approx(expected, rel=1e-5)


def test_weights_and_teachers_are_checked() -> None:
    with pytest.raises(InputError, match=r"loss\.weights"):
        Weighted({"a": InfoNCE()}, {"b": 1.0})
    queries, documents, targets = batch(plain=True)
    with pytest.raises(InputError, match=r"teacher is null"):
        value(KL(), queries, documents, targets)
    with pytest.raises(InputError, match=r"temperature must be above 0"):
        InfoNCE(temperature=0.0)


class Net(torch.nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers = [torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Dropout(dropout)]
        self.layers = torch.nn.Sequential(*layers, torch.nn.Linear(32, D)).double()

    def forward(self, x):
        return normalize(self.layers(x), dim=1)


def gradients(module, objective) -> list[torch.Tensor]:
    parameters = [*module.parameters(), *objective.parameters()]
    return [p.grad.clone() for p in parameters if p.grad is not None]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("chunk", [1, 4, 7, 21])
@pytest.mark.parametrize("name", list(LOSSES))
def test_gradcache_gives_the_whole_batch_s_gradient(name: str, chunk: int, dropout: float) -> None:
    """With dropout the reference draws its masks chunk by chunk too, from the same state."""
    *_, targets = batch(3)
    x = torch.randn(B + M, 8, generator=torch.Generator().manual_seed(4)).double()
    chunks = list(x.split(chunk))
    grads = []
    for cached in (True, False):
        net, objective = Net(dropout), LOSSES[name].objective()

        def loss_of(vectors, objective=objective):
            return objective(vectors[:B], vectors[B:], targets)

        torch.manual_seed(5)
        if cached:
            cached_backward(net, chunks, loss_of, lambda loss: loss.backward())
        else:
            loss_of(torch.cat([net(part) for part in chunks]).float()).backward()
        grads.append(gradients(net, objective))
    for one, two in zip(*grads, strict=True):
        assert torch.allclose(one.double(), two.double(), atol=1e-5)
    if name == "infonce learnt":
        assert len(grads[0]) == 5


def test_gradcache_holds_in_half_precision() -> None:
    """Autocast caches weights that the pass without a graph cast: they must not be used again."""
    *_, targets = batch(3)
    x = torch.randn(B + M, 8, generator=torch.Generator().manual_seed(4))
    torch.manual_seed(0)
    net, objective = torch.nn.Linear(8, D), InfoNCE().objective()
    grads = []
    for cached in (True, False):
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):

            def encode(part):
                return normalize(net(part).float(), dim=1)

            def loss_of(vectors):
                return objective(vectors[:B], vectors[B:], targets)

            if cached:
                cached_backward(encode, list(x.split(4)), loss_of, lambda loss: loss.backward())
            else:
                loss_of(encode(x)).backward()
        assert net.weight.grad is not None
        grads.append(net.weight.grad.clone())
    assert torch.allclose(*grads, rtol=0.05, atol=0.02 * float(grads[1].abs().max()))
