"""MaxSim against the einsum it replaces; the compressed index against what it stores."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.vectors import TokenEmbeddings
from neurosearch.index.multivector import MultiVector, MultiVectorIndex, pack, unpack
from neurosearch.nn import maxsim
from neurosearch.nn.maxsim import exact_maxsim, naive_maxsim, pair_scores
from neurosearch.nn.ragged import Ragged


def texts(lengths: list[int], seed: int, width: int = 8) -> Ragged:
    vectors = torch.randn(sum(lengths), width, generator=torch.Generator().manual_seed(seed))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Ragged(torch.nn.functional.normalize(vectors, dim=1), offsets)


ragged_lengths = st.lists(st.integers(0, 7), min_size=1, max_size=9)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), ragged_lengths, st.integers(0, 99))
def test_tiled_maxsim_is_the_einsum(asked: list[int], shown: list[int], seed: int) -> None:
    queries, documents = texts(asked, seed), texts(shown, seed + 1)
    expected = naive_maxsim(queries, documents).numpy()
    original = maxsim.TILE["cpu"]
    maxsim.TILE["cpu"] = 7  # many tiles
    try:
        rows, scores = exact_maxsim(queries, documents, len(shown))
    finally:
        maxsim.TILE["cpu"] = original
    found = np.zeros_like(expected)
    np.put_along_axis(found, rows, scores, axis=1)
    assert found == pytest.approx(expected, abs=1e-5)
    assert (np.diff(scores, axis=1) <= 1e-6).all()
    assert expected[:, np.array(shown) == 0] == pytest.approx(-1.0)  # nothing to match


def test_by_hand() -> None:
    one = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    query = Ragged(one, np.array([0, 2]))
    documents = Ragged(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, -1.0]]), np.array([0, 2, 3]))
    # First document: best of (1, .6) and of (0, .8); second: 0 and -1.
    assert naive_maxsim(query, documents)[0].tolist() == pytest.approx([0.9, -0.5])


def test_the_order_of_tokens_is_of_no_matter() -> None:
    queries, documents = texts([4], 0), texts([6, 5], 1)
    turned = documents.vectors[torch.tensor([3, 1, 0, 5, 2, 4, 9, 8, 7, 6, 10])]
    again = Ragged(turned, documents.offsets)
    assert torch.allclose(naive_maxsim(queries, documents), naive_maxsim(queries, again))
    for one, two in zip(
        exact_maxsim(queries, documents, 2), exact_maxsim(queries, again, 2), strict=True
    ):
        assert one == pytest.approx(two, abs=1e-6)


def test_pairs_are_entries_of_the_matrix() -> None:
    queries, documents = texts([3, 1, 4], 0), texts([2, 0, 5, 3], 1)
    whole = naive_maxsim(queries, documents).numpy()
    asked, shown = np.array([2, 0, 0, 1, 2]), np.array([3, 1, 0, 2, 1])
    found = pair_scores(queries, documents, asked, shown)
    assert found == pytest.approx(whole[asked, shown], abs=1e-5)


@given(st.integers(1, 20), st.sampled_from([1, 2, 4]), st.integers(0, 99))
def test_what_is_packed_is_unpacked(width: int, bits: int, seed: int) -> None:
    buckets = np.random.default_rng(seed).integers(0, 2**bits, (5, width)).astype(np.uint8)
    packed = pack(buckets, bits)
    assert packed.shape == (5, -(-width * bits // 8))
    assert (unpack(packed, bits, width) == buckets).all()


class Stored(Artifact[TokenEmbeddings]):
    kind = "stored"

    def __init__(self, value: TokenEmbeddings) -> None:
        object.__setattr__(self, "value", value)


@pytest.fixture
def tokens() -> TokenEmbeddings:
    """400 products of 1 to 9 vectors around 30 directions."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 10, 400)
    centres = rng.normal(size=(30, 16))
    vectors = centres[rng.integers(0, 30, lengths.sum())] + 0.3 * rng.normal(
        size=(lengths.sum(), 16)
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return TokenEmbeddings(vectors.astype(np.float16), offsets, "same")


def built(index: MultiVector, tokens: TokenEmbeddings, folder: Path):
    runtime = Runtime(outputs=folder / "o", device="cpu", progress=False)
    artifact = MultiVectorIndex(index, None)
    folder.mkdir(exist_ok=True)
    object.__setattr__(runtime, "get", lambda _: tokens)
    details = artifact.build(folder, runtime)
    return artifact.load(folder), details, runtime


def asked(tokens: TokenEmbeddings, count: int = 20) -> TokenEmbeddings:
    rows = np.arange(0, 5 * count)
    return TokenEmbeddings(tokens.vectors[rows], np.arange(0, 5 * count + 1, 5), "same")


def test_more_bits_are_nearer(tokens: TokenEmbeddings, tmp_path: Path) -> None:
    queries = asked(tokens)
    exact, _, runtime = built(MultiVector(), tokens, tmp_path / "exact")
    wanted, _, counts = exact.search(queries, 10, runtime)
    assert (counts == 400).all()
    overlaps, errors, sizes = [], [], []
    for bits in (1, 2, 4):
        recipe = MultiVector(
            bits=bits, centroids=16, probes=16, rescored=400, threshold=-1.0, common=1.0
        )
        live, details, runtime = built(recipe, tokens, tmp_path / f"b{bits}")
        rows, _, looked = live.search(queries, 10, runtime)
        assert (looked == 400).all()  # every cell is probed
        overlaps.append(np.mean([np.isin(a, b).mean() for a, b in zip(rows, wanted, strict=True)]))
        stored = live.vectors(np.arange(len(tokens.vectors)))
        errors.append(float(((stored - tokens.vectors.astype(np.float32)) ** 2).sum(axis=1).mean()))
        sizes.append(details["bytes a token"])
        assert (tmp_path / f"b{bits}" / "residuals.npy").stat().st_size < 16 * bits / 8 * 2100 + 500
    assert errors == sorted(errors, reverse=True)
    assert overlaps[2] > 0.9 and overlaps[2] >= overlaps[0]
    assert sizes == sorted(sizes)


def test_candidates_are_those_of_the_probed_cells(tokens: TokenEmbeddings, tmp_path: Path) -> None:
    recipe = MultiVector(bits=4, centroids=16, probes=1, rescored=400, threshold=-1.0, common=1.0)
    live, _, runtime = built(recipe, tokens, tmp_path / "i")
    queries = asked(tokens, 5)
    rows, scores, counts = live.search(queries, 400, runtime)
    owner = np.repeat(np.arange(400), np.diff(tokens.offsets))
    for query in range(5):
        near = queries.of(query) @ live.centroids.T
        cells = np.unique(near.argmax(axis=1))
        expected = np.unique(owner[np.isin(live.codes, cells)])
        found = rows[query][rows[query] >= 0]
        assert counts[query] == len(expected) == len(found)
        assert (np.sort(found) == expected).all()
        # Scores are exact MaxSim of the decompressed vectors.
        first = found[0]
        own = live.vectors(np.arange(tokens.offsets[first], tokens.offsets[first + 1]))
        value = (queries.of(query) @ own.T).max(axis=1).mean()
        assert scores[query, 0] == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize("threshold", [-1.0, 0.4])
def test_centroids_below_the_threshold_score_nothing(
    threshold: float, tokens: TokenEmbeddings, tmp_path: Path
) -> None:
    """Which products are decompressed, by hand: the best sums of maxima over their centroids."""
    recipe = MultiVector(
        bits=4, centroids=16, probes=16, rescored=30, threshold=threshold, common=1.0
    )
    live, _, runtime = built(recipe, tokens, tmp_path / "i")
    queries = asked(tokens, 8)
    rows, _, _ = live.search(queries, 30, runtime)
    for query in range(8):
        near = queries.of(query) @ live.centroids.T
        near[:, near.max(axis=0) < threshold] = 0.0
        rough = [
            near[:, live.codes[begin:end]].max(axis=1).sum()
            for begin, end in itertools.pairwise(tokens.offsets)
        ]
        worst = np.sort(rough)[-30]
        clear = {row for row, value in enumerate(rough) if value > worst + 1e-5}
        possible = {row for row, value in enumerate(rough) if value > worst - 1e-5}
        assert clear <= set(rows[query].tolist()) <= possible


def test_cells_that_all_products_have_give_no_candidates(
    tokens: TokenEmbeddings, tmp_path: Path
) -> None:
    # Every product starts with one and the same vector, as with [CLS].
    first = np.zeros(16, np.float16)
    first[0] = 1
    vectors = np.array(tokens.vectors)
    vectors[tokens.offsets[:-1]] = first
    marked = TokenEmbeddings(vectors, tokens.offsets, "same")
    shares = []
    for common in (1.0, 0.5):
        recipe = MultiVector(bits=4, centroids=32, probes=1, threshold=-1.0, common=common)
        live, _, runtime = built(recipe, marked, tmp_path / str(common))
        shares.append(live.search(asked(marked, 10), 5, runtime)[2].mean() / 400)
    assert shares[0] > 0.9 and shares[1] < shares[0] - 0.1


def test_another_encoder_is_refused(tokens: TokenEmbeddings, tmp_path: Path) -> None:
    live, _, runtime = built(MultiVector(), tokens, tmp_path / "i")
    other = TokenEmbeddings(tokens.vectors[:3], np.array([0, 3]), "another")
    with pytest.raises(InputError, match="was asked with vectors of encoder another"):
        live.search(other, 5, runtime)


@pytest.mark.parametrize(
    "options, told",
    [
        ({"bits": 3}, r"bits must be 1, 2, 4 or null"),
        ({"probes": 0}, r"probes must be at least 1"),
        ({"threshold": 2.0}, r"threshold must be at least -1"),
    ],
)
def test_bad_settings_are_refused(options: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        MultiVector(**options)
