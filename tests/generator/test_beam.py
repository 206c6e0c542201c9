"""The trie and the search against exhaustive scoring and a plain beam search in Python."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosearch.core.errors import InputError
from neurosearch.core.semantic_ids import SemanticIds
from neurosearch.generator.beam import beam_search, free_search
from neurosearch.generator.trie import Trie


class Table:
    """A model whose log-probabilities depend on the query and the whole prefix."""

    def __init__(self, sizes: tuple[int, ...], queries: int, seed: int) -> None:
        self.sizes, self.queries, self.seed = sizes, queries, seed
        self.histories = [[()] for _ in range(queries)]

    def logp(self, query: int, prefix: tuple[int, ...]) -> np.ndarray:
        rng = np.random.default_rng([self.seed, query, len(prefix), *prefix])
        scores = rng.normal(size=self.sizes[len(prefix)]).astype(np.float32)
        return torch.from_numpy(scores).log_softmax(0).numpy()

    def _all(self) -> torch.Tensor:
        rows = [[self.logp(q, h) for h in own] for q, own in enumerate(self.histories)]
        return torch.from_numpy(np.array(rows))

    def begin(self) -> torch.Tensor:
        return self._all()

    def advance(self, parents: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        self.histories = [
            [(*own[p], c) for p, c in zip(ps, cs, strict=True)]
            for own, ps, cs in zip(self.histories, parents.tolist(), codes.tolist(), strict=True)
        ]
        return self._all()

    def score(self, query: int, codes: tuple[int, ...]) -> float:
        return float(sum(self.logp(query, codes[:i])[c] for i, c in enumerate(codes)))


@st.composite
def catalogues(draw: st.DrawFn) -> SemanticIds:
    """Up to 40 products over up to four ragged levels; IDs may be shared."""
    sizes = tuple(draw(st.lists(st.integers(2, 6), min_size=1, max_size=4)))
    rows = draw(
        st.lists(st.tuples(*(st.integers(0, n - 1) for n in sizes)), min_size=1, max_size=40)
    )
    return SemanticIds(np.array(rows, dtype=np.int32), sizes, len(sizes))


@given(catalogues(), st.integers(0, 1000), st.sampled_from([0, 1 << 20]))
@settings(deadline=None, max_examples=60)
def test_a_beam_of_all_ids_is_exhaustive_scoring(ids: SemanticIds, seed: int, cells: int) -> None:
    trie = Trie.of(ids, dense_cells=cells)
    model = Table(ids.sizes, 2, seed)
    found = beam_search(Table(ids.sizes, 2, seed), trie, width=trie.leaves + 3)
    distinct = sorted(set(map(tuple, ids.codes.tolist())))
    assert found.scores.shape[1] == len(distinct)
    for query in range(2):
        wanted = sorted(((model.score(query, c), c) for c in distinct), reverse=True)
        got = found.scores[query].tolist()
        assert got == pytest.approx([score for score, _ in wanted], abs=1e-5)
        codes = [tuple(c) for c in found.codes[query].tolist()]
        assert sorted(codes) == distinct
        assert [distinct[leaf] for leaf in found.nodes[query].tolist()] == codes


@given(catalogues(), st.integers(0, 1000), st.integers(1, 8), st.sampled_from([0, 1 << 20]))
@settings(deadline=None, max_examples=60)
def test_any_beam_is_the_plain_search(ids: SemanticIds, seed: int, width: int, cells: int) -> None:
    model = Table(ids.sizes, 1, seed)
    beams = [(0.0, ())]
    prefixes = {tuple(row[:n]) for row in ids.codes.tolist() for n in range(1, len(row) + 1)}
    for level, size in enumerate(ids.sizes):
        grown = [
            (score + float(model.logp(0, prefix)[code]), (*prefix, code))
            for score, prefix in beams
            for code in range(size)
            if (*prefix, code) in prefixes
        ]
        beams = sorted(grown, reverse=True)[:width]
        found = beam_search(Table(ids.sizes, 1, seed), Trie.of(ids, cells), width, depth=level + 1)
        assert found.scores[0].tolist() == pytest.approx([s for s, _ in beams], abs=1e-5)
        assert [tuple(c) for c in found.codes[0].tolist()] == [p for _, p in beams]


def test_with_every_id_there_the_trie_constrains_nothing() -> None:
    sizes = (3, 4, 2)
    codes = np.array(list(itertools.product(*map(range, sizes))), dtype=np.int32)
    trie = Trie.of(SemanticIds(codes, sizes, 3))
    bound = beam_search(Table(sizes, 3, 7), trie, 5)
    free = free_search(Table(sizes, 3, 7), sizes, 5)
    assert torch.equal(bound.codes, free.codes)
    assert torch.allclose(bound.scores, free.scores)
    assert torch.equal(trie.find(free.codes), bound.nodes)


def test_the_trie_knows_its_products() -> None:
    codes = np.array([[1, 0], [0, 2], [1, 0], [1, 1], [0, 2]], dtype=np.int32)
    trie = Trie.of(SemanticIds(codes, (2, 3), 2))
    assert trie.leaf_of.tolist() == [1, 0, 1, 2, 0]
    assert trie.bucket_begin.tolist() == [0, 2, 4, 5]
    assert trie.bucket_rows.tolist() == [1, 4, 0, 2, 3]
    assert trie.prefixes(1).tolist() == [1, 0, 1, 1, 0]
    assert trie.codes(torch.tensor([0, 1, 2]), 2).tolist() == [[0, 2], [1, 0], [1, 1]]
    asked = torch.tensor([[0, 2], [0, 1], [1, 1], [1, 2]])
    assert trie.find(asked).tolist() == [0, -1, 2, -1]


def test_no_products_no_trie() -> None:
    with pytest.raises(InputError, match="no semantic IDs"):
        Trie.of(SemanticIds(np.zeros((0, 2), dtype=np.int32), (2, 2), 2))
