"""Tokenizers: against FAISS and written arithmetic; every choice ends in usable IDs."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import faiss
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosearch.collisions.next_best import NextBest
from neurosearch.collisions.sinkhorn import Sinkhorn
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.hashing import Hashing
from neurosearch.tokenizer import residual
from neurosearch.tokenizer.atomic import Atomic
from neurosearch.tokenizer.base import SemanticTokenizer
from neurosearch.tokenizer.codebook import straight
from neurosearch.tokenizer.health import health_of
from neurosearch.tokenizer.hkmeans import HKMeans
from neurosearch.tokenizer.kmeans import balanced_labels
from neurosearch.tokenizer.opq import OPQ
from neurosearch.tokenizer.random import RandomIds
from neurosearch.tokenizer.rqkmeans import RQKMeans
from neurosearch.tokenizer.rqvae.network import Autoencoder, rotated
from neurosearch.tokenizer.rqvae.recipe import RQVAE
from neurosearch.tokenizer.rqvae.training import RQVAEModule
from neurosearch.training.schedule import Schedule

SHORT = Schedule(epochs=4, lr=1e-3, validations=2, patience=0)
SMALL = {"hidden": (32,), "latent": 8, "batch_size": 128, "schedule": SHORT}
ALL = {
    "rqkmeans": RQKMeans(levels=3, codes=16),
    "balanced": RQKMeans(levels=3, codes=16, balanced=True, beam=4),
    "hkmeans": HKMeans(levels=3, codes=16),
    "unbalanced": HKMeans(levels=4, codes=16, balanced=False),
    "opq": OPQ(levels=4, codes=16),
    "random": RandomIds(levels=3, codes=16),
    "atomic": Atomic(),
    "rqvae": RQVAE(levels=3, codes=16, **SMALL),
    "gradient": RQVAE(
        levels=3, codes=16, codebook="gradient", estimator="rotation", diversity=0.1, **SMALL
    ),
    "sinkhorn": RQVAE(levels=3, codes=16, sinkhorn_epsilon=0.05, **SMALL),
}


def clustered(count: int = 600, dimensions: int = 16, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(12, dimensions))
    points = centres[rng.integers(0, 12, count)] + 0.3 * rng.normal(size=(count, dimensions))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points.astype(np.float32)


def fitted(tokenizer: SemanticTokenizer, points: np.ndarray, folder: Path):
    runtime = Runtime(outputs=folder, device="cpu", progress=False)
    tokenizer.fit(points, folder, runtime)
    return tokenizer.quantizer(folder)


def faiss_codes(points: np.ndarray, codebooks: np.ndarray, beam: int) -> np.ndarray:
    levels, size, dimensions = codebooks.shape
    theirs = faiss.ResidualQuantizer(dimensions, levels, size.bit_length() - 1)
    theirs.max_beam_size = beam
    faiss.copy_array_to_vector(codebooks.ravel(), theirs.codebooks)
    theirs.is_trained = True
    packed = theirs.compute_codes(points)
    bits = np.unpackbits(packed, axis=1, bitorder="little")[:, : levels * (size.bit_length() - 1)]
    digits = bits.reshape(len(points), levels, -1)
    return (digits * (1 << np.arange(digits.shape[2]))).sum(axis=2)


@pytest.mark.parametrize("beam", [1, 5])
def test_residual_codes_are_faiss_codes(beam: int) -> None:
    points = clustered(300)
    codebooks = np.random.default_rng(1).normal(size=(3, 16, 16)).astype(np.float32) * 0.5
    ours = residual.assign(points, codebooks, beam)
    theirs = faiss_codes(points, codebooks, beam)
    differ = (ours != theirs).any(axis=1)
    assert differ.mean() < 0.01  # ties of floating point
    one, two = (((points - residual.decode(codebooks, c)) ** 2).sum(1) for c in (ours, theirs))
    assert one == pytest.approx(two, abs=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(2, 6))
def test_a_full_beam_is_exhaustive_search(seed: int, levels: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    codebooks = rng.normal(size=(levels, size, 4)).astype(np.float32)
    points = rng.normal(size=(5, 4)).astype(np.float32)
    every = np.stack(np.meshgrid(*[np.arange(size)] * levels, indexing="ij"), -1)
    every = every.reshape(-1, levels)
    errors = ((points[:, None] - residual.decode(codebooks, every)[None]) ** 2).sum(-1)
    found = residual.assign(points, codebooks, beam=size**levels)
    mine = ((points - residual.decode(codebooks, found)) ** 2).sum(-1)
    assert mine == pytest.approx(errors.min(axis=1), abs=1e-4)


def test_last_costs_are_distances() -> None:
    points = clustered(40)
    codebooks = np.random.default_rng(1).normal(size=(2, 8, 16)).astype(np.float32)
    codes = residual.assign(points, codebooks)
    costs = residual.last_costs(points, codebooks, codes)
    for other in range(8):
        moved = np.column_stack([codes[:, 0], np.full(40, other)])
        expected = ((points - residual.decode(codebooks, moved)) ** 2).sum(1)
        assert costs[:, other] == pytest.approx(expected, abs=1e-3)
    assert (costs.argmin(1) == codes[:, 1]).all()


def test_rqkmeans_is_no_worse_than_faiss_residual_quantizer(tmp_path: Path) -> None:
    points = clustered(4000, 32)
    ours = fitted(RQKMeans(levels=3, codes=16), points, tmp_path)
    errors = [((points - part) ** 2).sum(1).mean() for part in ours.decode(ours.assign(points))]
    assert errors[0] > errors[1] > errors[2]
    theirs = faiss.ResidualQuantizer(32, 3, 4)
    theirs.max_beam_size = 1
    theirs.train(points)
    error = ((points - theirs.decode(theirs.compute_codes(points))) ** 2).sum(1).mean()
    assert errors[-1] <= 1.02 * error


def test_a_beam_lowers_the_error_of_the_same_codebooks(tmp_path: Path) -> None:
    points = clustered(2000, 32)
    quantizer = fitted(RQKMeans(levels=3, codes=16), points, tmp_path)
    books = quantizer.codebooks
    greedy, wide = (residual.decode(books, residual.assign(points, books, b)) for b in (1, 8))
    assert ((points - wide) ** 2).sum() < ((points - greedy) ** 2).sum()


def test_balanced_clusters_keep_their_size() -> None:
    points = clustered(500)
    labels = balanced_labels(points, points[:10])
    assert np.bincount(labels, minlength=10).max() <= np.ceil(1.1 * 500 / 10)


@pytest.mark.parametrize("name", ["hkmeans", "unbalanced"])
def test_a_tree_tells_all_products_apart(name: str, tmp_path: Path) -> None:
    points = clustered(900)
    tree = fitted(ALL[name], points, tmp_path)
    codes = tree.assign(points, known=True)
    assert len(np.unique(codes, axis=0)) == 900
    assert codes.shape[1] <= 4 and codes.max() < 16
    # A prefix is a cluster of its parent's members only: nearer to each other than chance.
    errors = [((points - part) ** 2).sum(1).mean() for part in tree.decode(codes)]
    assert all(one >= two - 1e-6 for one, two in itertools.pairwise(errors))
    # Unseen twins of the products go down to the same leaves where clusters are Voronoi cells.
    if name == "unbalanced":
        again = tree.assign(points)
        at_root = (again[:, 0] == codes[:, 0]).mean()
        assert at_root > 0.99


def test_too_many_products_for_the_levels_collide(tmp_path: Path) -> None:
    tree = fitted(HKMeans(levels=1, codes=8), clustered(50), tmp_path)
    assert len(np.unique(tree.assign(np.empty((0, 16)), known=True))) == 8


@pytest.mark.parametrize("name", ALL)
def test_every_tokenizer_gives_ids_and_a_report(name: str, shop_runtime: Runtime, shop) -> None:
    from dataclasses import replace

    tokenizer = replace(ALL[name], encoder=Hashing(dimensions=16))
    ids = shop_runtime.get(tokenizer.semantic_ids(shop))
    report = shop_runtime.get(health_of(tokenizer, shop))
    assert len(ids) == 500
    assert (np.asarray(ids.codes) >= 0).all() and (ids.codes < np.array(ids.sizes)).all()
    assert report["summary"]["distinct"] == len(np.unique(ids.codes, axis=0))
    quantizer = shop_runtime.get(tokenizer.fitted(shop))
    vectors = shop_runtime.get(tokenizer.encoder.product_embeddings(shop)).vectors
    unseen = quantizer.assign(np.asarray(vectors[:7]) + 0.01)
    assert unseen.shape == (7, len(quantizer.sizes))
    codes = tokenizer.unseen(shop, np.asarray(vectors[:7]) + 0.01, shop_runtime)
    assert codes.shape == (7, ids.codes.shape[1])
    if name not in ("hkmeans", "unbalanced", "atomic"):
        assert np.array_equal(quantizer.assign(vectors), quantizer.assign(vectors, known=True))


def test_a_leaf_may_number_more_products_than_a_node_has_clusters(tmp_path: Path) -> None:
    """DSI's sizes: ten clusters of a node, a hundred products in a leaf; here three and seven."""
    points = clustered(200)
    tree = fitted(HKMeans(levels=6, codes=3, leaf=7, balanced=False), points, tmp_path)
    codes = tree.assign(points, known=True)
    assert len(np.unique(codes, axis=0)) == 200
    below: dict[tuple[int, ...], set[int]] = {}
    for row in codes.tolist():
        for level in range(len(row)):
            below.setdefault(tuple(row[:level]), set()).add(row[level])
    sizes = {
        prefix: sum(tuple(row[: len(prefix)]) == prefix for row in codes.tolist())
        for prefix in below
    }
    # A node with more than seven products has three clusters, others number what they have.
    assert all(len(below[prefix]) <= 3 for prefix, size in sizes.items() if size > 7)
    assert max(len(children) for children in below.values()) in range(4, 8)
    new = tree.assign(points + 0.01)
    assert new.shape == codes.shape and new.max() < 7


def test_a_moving_policy_needs_costs() -> None:
    for kind in (RandomIds, Atomic, HKMeans):
        with pytest.raises(InputError, match=r"collisions is NextBest, which moves codes"):
            kind(collisions=NextBest())


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: RQKMeans(levels=0), r"levels must be at least 1, not 0"),
        (lambda: OPQ(codes=12), r"tokenizer\.codes=12: OPQ needs a power of two"),
        (lambda: RQVAE(codebook="both"), r"codebook must be one of ema, gradient"),
        (lambda: HKMeans(leaf=0), r"leaf must be at least 1, not 0"),
        (lambda: NextBest(capacity=0), r"capacity must be at least 1"),
        (lambda: Sinkhorn(iterations=0), r"iterations must be at least 1"),
        (lambda: RQKMeans(sample=9), r"sample is 9: tokenizer\.codes=256 or more"),
        (lambda: RQKMeans(seed=-1), r"seed must be 0 to"),
        (lambda: RQVAE(beam=0), r"beam must be at least 1"),
        (lambda: RQVAE(decay=2), r"decay must be between 0 and 1"),
        (lambda: HKMeans(iterations=0), r"iterations must be at least 1"),
        (lambda: OPQ(rotations=-1), r"rotations must be at least 1"),
    ],
)
def test_wrong_values_are_refused(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_opq_needs_levels_that_divide(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"levels=3 does not divide 16"):
        fitted(OPQ(levels=3, codes=16), clustered(), tmp_path)


def test_estimators_pass_the_quantized_vector_on() -> None:
    z = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    q = torch.randn(5, 4, dtype=torch.float64)
    for through in (straight, rotated):
        assert torch.allclose(through(z, q), q)
    (gradient,) = torch.autograd.grad(straight(z, q).sum(), z)
    assert torch.allclose(gradient, torch.ones_like(z))
    # Rotated: d/dz = (|q|/|z|) R', R turning z's direction into q's, orthogonal.
    upstream = torch.randn(5, 4, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((rotated(z, q) * upstream).sum(), z)
    scale = q.norm(dim=1) / z.detach().norm(dim=1)
    assert torch.allclose(gradient.norm(dim=1), upstream.norm(dim=1) * scale)
    turned = (gradient * z.detach()).sum(1) / (scale * z.detach().norm(dim=1))
    assert torch.allclose(turned, (upstream * q).sum(1) / q.norm(dim=1))


def test_moving_averages_are_the_formula() -> None:
    recipe = SimpleNamespace(
        hidden=(8,), latent=2, levels=1, codebook="ema", decay=0.9, dead_after=0, kmeans_init=True
    )
    network = Autoencoder(4, recipe, 3)
    module = RQVAEModule(network, recipe, SHORT, np.zeros((1, 4), np.float32), 1)
    before = network.codebooks.data[0].clone()
    left, codes = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), torch.tensor([0, 0, 2])
    module.keeping.renew(network.codebooks.data, 0, left, codes)
    counts = 0.9 * torch.ones(3) + 0.1 * torch.tensor([2.0, 0.0, 1.0])
    sums = 0.9 * before + 0.1 * torch.tensor([[4.0, 6.0], [0.0, 0.0], [5.0, 6.0]])
    smooth = (counts + 1e-5) / (counts.sum() + 3e-5) * counts.sum()
    assert torch.allclose(network.codebooks.data[0], sums / smooth[:, None])


def test_dead_codes_are_replaced_by_residuals() -> None:
    recipe = SimpleNamespace(
        hidden=(8,), latent=2, levels=1, codebook="ema", decay=0.9, dead_after=2, kmeans_init=True
    )
    network = Autoencoder(4, recipe, 3)
    module = RQVAEModule(network, recipe, SHORT, np.zeros((1, 4)), 1)
    left, codes = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([0, 1])
    for _ in range(2):
        module.keeping.renew(network.codebooks.data, 0, left, codes)
    replaced = module.network.codebooks.data[0, 2]
    assert any(torch.equal(replaced, row) for row in left)


def test_a_diverged_training_says_so(tmp_path: Path) -> None:
    wild = Schedule(epochs=4, lr=1e30, validations=1, patience=0)
    recipe = RQVAE(levels=2, codes=16, hidden=(32,), latent=8, batch_size=64, schedule=wild)
    with pytest.raises(InputError, match="training diverged at step"):
        recipe.fit(clustered(), tmp_path, Runtime(tmp_path, device="cpu", progress=False))


def test_training_lowers_the_error(tmp_path: Path) -> None:
    points = clustered(2000, 16)
    runtime = Runtime(outputs=tmp_path, device="cpu", progress=False)
    long = Schedule(epochs=60, lr=3e-3, validations=3, patience=0)
    details = {}
    for name, schedule in (("short", Schedule(epochs=0.1, lr=1e-9, patience=0)), ("long", long)):
        (tmp_path / name).mkdir()
        recipe = RQVAE(
            levels=3, codes=16, hidden=(32,), latent=8, batch_size=256, schedule=schedule
        )
        details[name] = recipe.fit(points, tmp_path / name, runtime)
    assert details["long"]["error"] < 0.7 * details["short"]["error"]


def test_an_rqvae_trains_in_half_precision(tmp_path: Path) -> None:
    points = clustered()
    runtime = Runtime(outputs=tmp_path, device="cpu", progress=False)
    plain = ALL["rqvae"]
    half = replace(plain, schedule=replace(plain.schedule, precision="bf16"))
    details = half.fit(points, tmp_path, runtime)
    assert details["error"] < (points**2).sum(axis=1).mean()  # better than a vector of zeros
    codes = ALL["rqvae"].quantizer(tmp_path).assign(points)
    assert len(np.unique(codes, axis=0)) > 16
