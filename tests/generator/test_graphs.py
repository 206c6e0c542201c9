"""Captured decoding, without a GPU: a recorded function stands for the graph."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import T5Config, T5EncoderModel

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.semantic_ids import SemanticIds
from neurosearch.generator import graphs
from neurosearch.generator.decoder import CodeDecoder
from neurosearch.generator.decoder_config import Shape
from neurosearch.generator.graphs import Captured, Graphs
from neurosearch.generator.network import CodeModel, Seq2SeqReader, search
from neurosearch.generator.trie import Trie
from neurosearch.nn.decoder import attended
from neurosearch.nn.tokens import Tokens

CPU = torch.device("cpu")
SIZES = (6, 5, 4)
RNG = np.random.default_rng(0)
CODES = np.unique(RNG.integers(0, SIZES, (60, 3)).astype(np.int32), axis=0)
TRIE = Trie.of(SemanticIds(CODES, SIZES, 3))


class Recorded(Graphs):
    """Runs the captured work again on the same buffers, as a replay does."""

    captures = 0

    def fits(self, tokens: Tokens, device: torch.device) -> bool:
        few = 0 < len(tokens) <= graphs.QUERIES[-1]
        return few and int(tokens.lengths.max()) <= graphs.LENGTHS[-1] and not self.failed

    def _captured(self, work: Any, rows: int, length: int, device: Any, key: Any) -> Captured:
        type(self).captures += 1
        tokens = torch.zeros(rows, length, dtype=torch.long)
        mask = torch.zeros_like(tokens)
        mask[:, 0] = 1
        written = work(tokens, mask)

        def replay() -> None:
            for old, new in zip(written, work(tokens, mask), strict=True):
                old.copy_(new)

        return Captured(replay, tokens, mask, written, key)


@pytest.fixture(scope="module")
def model() -> CodeModel:
    torch.manual_seed(0)
    config = T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    decoder = CodeDecoder(SIZES, Shape(16, 2, 8, 32, 2), 16)
    return CodeModel(Seq2SeqReader(T5EncoderModel(config).encoder, None), decoder).eval()


def tokens_of(count: int, longest: int) -> Tokens:
    lengths = RNG.integers(1, longest + 1, count)
    lengths[0] = longest
    return Tokens(RNG.integers(1, 50, lengths.sum()), np.concatenate([[0], np.cumsum(lengths)]))


@pytest.mark.parametrize("count", [1, 4, 5, 32, 33, 64, 65])
@pytest.mark.parametrize("longest", [1, 16, 17])
def test_padding_to_a_graphs_size_changes_no_beam(
    model: CodeModel, count: int, longest: int
) -> None:
    tokens, held = tokens_of(count, longest), Recorded()
    for words in ({}, {"depth": 2}, {"constrained": False}):
        plain = search(model, tokens, TRIE, 7, CPU, **words)
        for _ in range(2):
            again = search(model, tokens, TRIE, 7, CPU, graphs=held, **words)
            np.testing.assert_allclose(again.scores, plain.scores, atol=1e-5)
            assert (again.nodes == plain.nodes).mean() > 0.99
    assert len(held._known) == (3 if count <= 64 else 0)


def test_a_replay_overwrites_no_earlier_answer(model: CodeModel) -> None:
    first, second, held = tokens_of(3, 9), tokens_of(3, 9), Recorded()
    one = search(model, first, TRIE, 5, CPU, graphs=held)
    kept = one.scores.copy()
    search(model, second, TRIE, 5, CPU, graphs=held)
    assert (one.scores == kept).all()
    assert (search(model, first, TRIE, 5, CPU, graphs=held).scores == kept).all()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.1)  # in place: the graph reads the same memory
    later = search(model, first, TRIE, 5, CPU, graphs=held)
    plain = search(model, first, TRIE, 5, CPU)
    np.testing.assert_allclose(later.scores, plain.scores, atol=1e-5)
    assert np.abs(later.scores - kept).max() > 1e-3


def test_graphs_are_forgotten_and_told_apart(
    model: CodeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "KEPT", 2)
    held, before = Recorded(), Recorded.captures
    other = Trie.of(SemanticIds(CODES[:10], SIZES, 3))
    for trie, width in ((TRIE, 3), (TRIE, 4), (other, 4), (TRIE, 3)):
        found = search(model, tokens_of(2, 5), trie, width, CPU, graphs=held)
        assert found.nodes.max() < trie.leaves and found.scores.shape[1] == width
    assert Recorded.captures == before + 4 and len(held._known) == 2


def test_what_cannot_be_captured_is_called_plainly_and_said_once(
    model: CodeModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Captured:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    held, tokens = Recorded(), tokens_of(2, 5)
    monkeypatch.setattr(held, "_captured", broken)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            found = search(model, tokens, TRIE, 5, CPU, graphs=held)
    assert (found.nodes == search(model, tokens, TRIE, 5, CPU).nodes).all()
    assert caplog.text.count("not captured as a CUDA graph: operation not permitted") == 1
    assert not Graphs().fits(tokens, CPU)


def test_few_positions_are_attended_to_as_by_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    q, keys, values = (torch.randn(6, 2, n, 8) for n in (1, 3, 3))
    bias = torch.randn(1, 2, 1, 3)
    plain = attended(q, keys, values, bias)
    scores = (q @ keys.transpose(-1, -2) + bias).softmax(-1)
    assert torch.allclose(plain, scores @ values, atol=1e-6)

    class Cuda:
        type = "cuda"

    class OnGpu:
        """A tensor that says it lies on a GPU."""

        device = Cuda()

        def __init__(self, held: torch.Tensor) -> None:
            self.held, self.dtype = held, held.dtype

        def __mul__(self, other: torch.Tensor) -> torch.Tensor:
            return self.held * other

    few: Any = OnGpu(q)
    assert torch.allclose(attended(few, keys, values, bias), plain, atol=1e-6)
    assert torch.allclose(
        attended(few, keys, values, None),
        (q @ keys.transpose(-1, -2)).softmax(-1) @ values,
        atol=1e-6,
    )


def test_graphs_want_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"runtime\.graphs must be one of auto, on, off, not 'yes'"
    ):
        Runtime(outputs=tmp_path, graphs="yes")
    with pytest.raises(InputError, match=r"runtime\.graphs=on needs CUDA, and the device is cpu"):
        Runtime(outputs=tmp_path, graphs="on").captures(CPU)
    assert not Runtime(outputs=tmp_path).captures(CPU)
    assert Runtime(outputs=tmp_path).captures(torch.device("cuda"))
    assert not Runtime(outputs=tmp_path, graphs="off").captures(torch.device("cuda"))
