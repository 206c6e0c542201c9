"""Crops of products' texts and the batches of examples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from neurosearch.core.errors import InputError
from neurosearch.generator.examples import Crops, ExampleBatches, Words
from neurosearch.nn.tokens import tokenize

TEXTS = ["brushed nickel ceiling fan", "lamp", "red wool rug 5 x 8 feet for the hall", ""]


@pytest.fixture(scope="module")
def tokenizer(tiny_model: str) -> Tokenizer:
    return Tokenizer.from_file(f"{tiny_model}/tokenizer.json")


def decoded(tokenizer: Tokenizer, tokens, place: int) -> list[str]:
    ids = tokens.ids[tokens.offsets[place] : tokens.offsets[place + 1]]
    return [tokenizer.id_to_token(int(i)) for i in ids]


def test_a_whole_text_is_what_the_tokenizer_gives(tokenizer: Tokenizer) -> None:
    words = Words.of(tokenizer, TEXTS, 32)
    crops = words.crop(np.arange(4), Crops(span=0, keywords=0), np.random.default_rng(0))
    wanted = tokenize(tokenizer, TEXTS, 32)
    assert crops.ids.tolist() == wanted.ids.tolist()
    assert crops.offsets.tolist() == wanted.offsets.tolist()


def test_texts_are_cut_with_room_for_special_tokens(tokenizer: Tokenizer) -> None:
    words = Words.of(tokenizer, TEXTS, 6)
    crops = words.crop(np.array([2]), Crops(span=0, keywords=0), np.random.default_rng(0))
    wanted = tokenize(tokenizer, [TEXTS[2]], 6)
    assert crops.ids.tolist() == wanted.ids.tolist()


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(0, 4))
@settings(deadline=None, max_examples=40)
def test_crops_keep_words_whole_and_in_order(tokenizer, seed: int, least: int, more: int) -> None:
    words = Words.of(tokenizer, TEXTS, 64)
    rng = np.random.default_rng(seed)
    for span, keywords in ((1, 0), (0, 1)):
        crops = Crops(0.0, span, keywords, shortest=least, longest=least + more)
        rows = rng.integers(0, 3, 5)
        drawn = words.crop(rows, crops, rng)
        for place, row in enumerate(rows):
            tokens = decoded(tokenizer, drawn, place)
            assert tokens[0] == "[CLS]" and tokens[-1] == "[SEP]"
            text = " ".join(tokens[1:-1]).replace(" ##", "").split()
            source = TEXTS[row].split()
            assert min(least, len(source)) <= len(text) <= min(least + more, len(source))
            if span:
                assert any(source[i : i + len(text)] == text for i in range(len(source)))
            left = iter(source)
            assert all(word in left for word in text)  # a subsequence


def batches(tokenizer: Tokenizer, ratio: float, pseudo: bool = False) -> ExampleBatches:
    written = (tokenize(tokenizer, ["fan", "wool rug"], 16), np.array([0, 2])) if pseudo else None
    return ExampleBatches(
        queries=tokenize(tokenizer, ["ceiling fan", "rug", "a lamp"], 16),
        pairs=(np.array([0, 1, 1, 2]), np.array([0, 2, 1, 1])),
        words=Words.of(tokenizer, TEXTS, 16),
        pseudo=written,
        crops=Crops(),
        batch_size=8,
        index_ratio=ratio,
        seed=3,
    )


def test_a_batch_holds_both_kinds_and_depends_on_the_step(tokenizer: Tokenizer) -> None:
    tokens, rows, asked = batches(tokenizer, 3.0).draw(5)
    assert len(tokens) == len(rows) == len(asked) == 8
    assert (asked >= 0).sum() == 2 and (asked[:2] >= 0).all()
    again = batches(tokenizer, 3.0).draw(5)
    assert again[0].ids.tolist() == tokens.ids.tolist() and again[1].tolist() == rows.tolist()
    other = batches(tokenizer, 3.0).draw(6)
    assert other[0].ids.tolist() != tokens.ids.tolist()


def test_every_pair_and_product_is_seen_before_one_is_seen_again(tokenizer: Tokenizer) -> None:
    drawn = [batches(tokenizer, 3.0).draw(step) for step in range(2)]
    pairs = [(int(q), int(r)) for _, rows, asked in drawn for q, r in zip(asked, rows, strict=True)]
    assert sorted(p for p in pairs if p[0] >= 0) == [(0, 0), (1, 1), (1, 2), (2, 1)]
    assert sorted(r for q, r in pairs if q < 0) == sorted([0, 1, 2, 3] * 3)


def test_generated_queries_take_their_share(tokenizer: Tokenizer) -> None:
    tokens, rows, asked = batches(tokenizer, 3.0, pseudo=True).draw(0)
    assert len(tokens) == 8 and (asked == -1).sum() == 6
    assert sorted(rows[2:4].tolist()) == [0, 2]  # 6 · 2 / (1 + 1 + 2 + 2) of them
    assert batches(tokenizer, 0.0).draw(0)[2].min() >= 0


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match=r"crops: shortest=3, longest=2"):
        Crops(shortest=3, longest=2)
    with pytest.raises(InputError, match=r"crops: shares"):
        Crops(whole=0, span=0, keywords=0)
