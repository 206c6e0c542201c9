"""The two layouts of a batch say the same; token ids in flat form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neurosearch.nn.text_encoder import TextTower, packed, padded
from neurosearch.nn.tokens import Tokens, tokenize

LISTS = st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=9), min_size=1, max_size=12)
TEXTS = ["red mug", "a very long title about a steel travel mug " * 3, "sofa", "", "blue lamp"]
CPU = torch.device("cpu")


def flat(lists: list[list[int]]) -> Tokens:
    ids = np.array([x for one in lists for x in one], dtype=np.int64)
    return Tokens(ids, np.concatenate([[0], np.cumsum([len(x) for x in lists])]))


def lists_of(tokens: Tokens) -> list[list[int]]:
    return [x.tolist() for x in np.split(tokens.ids, tokens.offsets[1:-1])]


@given(LISTS, LISTS, st.randoms(use_true_random=False))
def test_tokens_are_taken_and_joined(one: list, two: list, random) -> None:
    joined = Tokens.joined(flat(one), flat(two))
    assert lists_of(joined) == one + two
    rows = [random.randrange(len(joined)) for _ in range(7)]
    assert lists_of(joined.take(np.array(rows))) == [(one + two)[row] for row in rows]
    assert joined.lengths.tolist() == [len(x) for x in one + two]


def test_tokenize_cuts_and_keeps_the_order(tiny_model: str) -> None:
    tokenizer = TextTower(tiny_model, "mean").tokenizer
    tokens = tokenize(tokenizer, TEXTS, 8)
    assert lists_of(tokens) == [tokenizer.encode(text).ids for text in TEXTS]
    assert tokens.lengths.max() == 8
    assert lists_of(tokens)[3] == [2, 3]  # an empty text is its two special tokens


@given(LISTS)
def test_layouts_hold_every_token(lists: list[list[int]]) -> None:
    tokens = flat(lists)
    rows, row = padded(tokens, CPU), packed(tokens, CPU)
    assert rows.mask is not None and row.positions is not None and row.bounds is not None
    for number, ids in enumerate(lists):
        assert rows.tokens[number][rows.mask[number].bool()].tolist() == ids
        start, end = row.bounds[number : number + 2].tolist()
        assert row.tokens[0, start:end].tolist() == ids
        assert row.positions[0, start:end].tolist() == list(range(len(ids)))
    assert rows.longest == row.longest == max(map(len, lists))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("projection", [None, 8])
def test_packed_is_padded(tiny_model: str, pooling: str, projection: int | None) -> None:
    """Vectors and gradients; on a CPU the packed attention is a mask of blocks."""
    torch.manual_seed(0)
    tower = TextTower(tiny_model, pooling, projection).eval()
    tokens = tokenize(tower.tokenizer, TEXTS, 32)
    found = []
    for layout in (padded, packed):
        tower.zero_grad()
        vectors = tower(layout(tokens, CPU))
        (vectors * torch.arange(vectors.numel()).reshape(vectors.shape)).sum().backward()
        gradients = {n: p.grad.clone() for n, p in tower.named_parameters() if p.grad is not None}
        found.append((vectors.detach(), gradients))
    (one, a), (two, b) = found
    assert one.numpy() == pytest.approx(two.numpy(), abs=1e-6)
    assert a.keys() == b.keys() and len(a) > 20
    for name in a:
        scale = a[name].abs().max().item()
        assert a[name].numpy() == pytest.approx(b[name].numpy(), abs=1e-5 * max(1, scale)), name


def test_only_a_gpu_in_bf16_packs(tiny_model: str) -> None:
    tower = TextTower(tiny_model, "mean")
    assert tower.packs(torch.device("cuda"), half=True)
    assert not tower.packs(torch.device("cuda"), half=False)
    assert not tower.packs(CPU, half=True)
    tower.network.config.model_type = "mpnet"
    assert not tower.packs(torch.device("cuda"), half=True)


def test_no_attention_weight_is_dropped_out(tiny_model: str) -> None:
    tower = TextTower(tiny_model, "mean")
    assert tower.network.config.hidden_dropout_prob == 0.1
    assert tower.network.encoder.layer[0].attention.self.dropout.p == 0.0
