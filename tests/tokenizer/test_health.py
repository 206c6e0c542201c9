"""The health report: values by hand, and collapsed tokenizers are called so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from neurosearch.collisions.extra import Extra
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.semantic_ids import SemanticIds
from neurosearch.core.types import Catalogue
from neurosearch.encoder.hashing import Hashing
from neurosearch.tokenizer.health import health_of, health_report
from neurosearch.tokenizer.kmeans import kmeans
from neurosearch.tokenizer.rqkmeans import ResidualQuantizer
from neurosearch.tokenizer.rqvae.recipe import RQVAE
from neurosearch.tokenizer.thresholds import Thresholds
from neurosearch.training.schedule import Schedule

# Four products on a line, two codes on each of two levels, one bucket of two.
CODEBOOKS = np.array([[[-1.0], [1.0]], [[-0.25], [0.25]]], dtype=np.float32)
VECTORS = np.array([[-1.25], [-0.75], [1.2], [1.3]], dtype=np.float32)
DEPTH = 4
CODES = np.array([[0, 0], [0, 1], [1, 1], [1, 1]], dtype=np.int32)


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    frame = pl.DataFrame(
        {
            "product_id": ["a", "b", "c", "d"],
            "title": ["one", "two", "three", "three"],
            "category": ["x", "y", "x", "x"],
        }
    )
    frame.write_parquet(tmp_path / "products.parquet")
    return Catalogue(tmp_path / "products.parquet")


def test_values_by_hand(catalogue: Catalogue) -> None:
    ids = SemanticIds(CODES, (2, 2), 2)
    report = health_report(
        VECTORS, ids, ResidualQuantizer(CODEBOOKS, 1), catalogue, DEPTH, Thresholds()
    )
    first, second = report["levels"]
    assert first["usage"] == second["usage"] == 1
    assert first["perplexity"] == pytest.approx(2)
    # Level 2: codes 0, 1, 1, 1; below prefix 0 one bit, below prefix 1 none.
    entropy = -(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75))
    assert second["perplexity"] == pytest.approx(2**entropy)
    assert second["perplexity_given_prefix"] == pytest.approx(2**0.5)
    assert second["prefixes"] == 3
    assert first["reconstruction_mse"] == pytest.approx(np.mean([0.25**2, 0.25**2, 0.2**2, 0.3**2]))
    assert second["reconstruction_mse"] == pytest.approx(
        np.mean([0, 0, 0.05**2, 0.05**2]), abs=1e-6
    )
    summary = report["summary"]
    assert summary["distinct"] == 3 and summary["collision_rate"] == pytest.approx(0.25)
    assert summary["title_collision_rate"] == 0  # c and d are twins
    assert summary["max_bucket"] == 2 and summary["expected_bucket"] == pytest.approx(6 / 4)
    assert report["buckets"] == {"sizes": [1, 2], "counts": [2, 1]}
    # Prefix 0 has x and y, prefix 1 two x.
    assert first["prefix_purity"] == pytest.approx(3 / 4)
    assert second["prefix_purity"] == 1
    assert report["verdict"] == "healthy"


def test_neighbours_are_those_of_the_vectors(catalogue: Catalogue) -> None:
    """Against all pairs by brute force, twins of the product included."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 5)).astype(np.float32)
    vectors[30:] = vectors[:30]  # every product has a twin
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    codes = np.concatenate([np.arange(30), np.arange(30)])[:, None].astype(np.int32) // 3
    frame = pl.DataFrame(
        {"product_id": [str(n) for n in range(60)], "title": [f"t{n}" for n in range(60)]}
    ).with_columns(category=pl.lit(None, dtype=pl.String))
    frame.write_parquet(catalogue.path)
    books = rng.normal(size=(1, 10, 5)).astype(np.float32)
    report = health_report(
        vectors,
        SemanticIds(codes, (10,), 1),
        ResidualQuantizer(books, 1),
        catalogue,
        DEPTH,
        Thresholds(),
    )
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    near = np.argsort(-scores, axis=1)[:, :10]
    expected = (codes[near, 0] == codes).mean()  # on one level, so on all four that there may be
    assert report["summary"]["neighbour_consistency"] == pytest.approx(expected, abs=0.02)
    assert report["summary"]["prefix_purity"] is None


def circulating(vectors: np.ndarray, levels: int, clusters: int) -> np.ndarray:
    """METHODS 7.1's named fixture: after each level data becomes its centroids, not residuals."""
    current, codes = vectors, []
    for level in range(levels):
        centroids = kmeans(np.ascontiguousarray(current), clusters, 10, level)
        labels = ((current[:, None] - centroids[None]) ** 2).sum(-1).argmin(1)
        codes.append(labels)
        current = centroids[labels]
    return np.column_stack(codes).astype(np.int32)


def test_the_circulating_algorithm_is_collapsed(shop_runtime: Runtime, shop) -> None:
    vectors = np.array(shop_runtime.get(Hashing(dimensions=16).product_embeddings(shop)).vectors)
    codes = circulating(vectors, 3, 10)
    ids = SemanticIds(codes, (10, 10, 10), 3)
    books = np.zeros((3, 10, 16), dtype=np.float32)
    catalogue = shop_runtime.get(shop).catalogue
    report = health_report(
        vectors, ids, ResidualQuantizer(books, 1), catalogue, DEPTH, Thresholds()
    )
    assert report["summary"]["distinct"] == 10
    assert report["levels"][2]["perplexity_given_prefix"] == pytest.approx(1)
    assert report["verdict"] == "collapsed"
    assert any("collisions" in reason for reason in report["reasons"])


def test_a_small_catalogue_does_not_hide_it(shop_runtime: Runtime, shop) -> None:
    """Two products an ID, and an extra code on top: the levels still tell nothing apart."""
    vectors = np.array(shop_runtime.get(Hashing(dimensions=16).product_embeddings(shop)).vectors)
    ids = Extra().resolve(SemanticIds(circulating(vectors, 3, 200), (200,) * 3, 3), None)
    books = np.zeros((3, 200, 16), dtype=np.float32)
    catalogue = shop_runtime.get(shop).catalogue
    report = health_report(
        vectors, ids, ResidualQuantizer(books, 1), catalogue, DEPTH, Thresholds()
    )
    assert report["summary"]["collision_rate"] == 0
    assert report["verdict"] == "collapsed"
    assert any("level 2 tells" in reason for reason in report["reasons"])


def test_a_collapsed_rqvae_says_so_where_it_is_built(shop_runtime: Runtime, shop) -> None:
    """No k-means to start from, nothing replaced, no training to speak of: one code for all."""
    schedule = Schedule(epochs=1, lr=1e-9, validations=1, patience=0)
    broken = RQVAE(
        encoder=Hashing(dimensions=16),
        levels=2,
        codes=32,
        hidden=(8,),
        latent=1,
        kmeans_init=False,
        dead_after=0,
        codebook="gradient",
        schedule=schedule,
    )
    health = health_of(broken, shop)
    report = shop_runtime.get(health)
    assert report["verdict"] == "collapsed" and report["summary"]["healthy"] == 0
    manifest = shop_runtime.store.manifest(health)
    assert manifest["details"]["flag"] == "collapsed"
    assert "collapsed" in shop_runtime.store.flags()
    # The verdict's limits are the user's.
    lenient = replace(broken, thresholds=Thresholds(usage=0, perplexity=0, collisions=1))
    assert shop_runtime.get(health_of(lenient, shop))["verdict"] == "healthy"
    assert lenient.fitted(shop).artifact_fingerprint == broken.fitted(shop).artifact_fingerprint


def test_a_threshold_is_a_share() -> None:
    with pytest.raises(InputError, match=r"usage must be at least 0 and at most 1"):
        Thresholds(usage=2)
