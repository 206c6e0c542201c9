"""Captured training passes, without a GPU: the same vectors and gradients."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch

from neurosearch.nn import captured
from neurosearch.nn.captured import CapturedTower
from neurosearch.nn.exchange import Vectors
from neurosearch.nn.text_encoder import TextTower
from neurosearch.nn.tokens import Tokens, tokenize


class Plain(CapturedTower):
    """Calls the passes as they are, on a CPU."""

    shapes: list[tuple[int, int]]

    def _captured(self, count: int, length: int) -> Any:
        self.shapes = [*getattr(self, "shapes", []), (count, length)]
        return Vectors(self._tower)

    def _autocast(self) -> Any:
        return torch.autocast("cpu", enabled=False)


@pytest.fixture
def tower(tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> TextTower:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    tower = TextTower(tiny_model).train()
    for module in tower.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return tower


def test_vectors_and_gradients_are_those_of_plain_calls(tower: TextTower) -> None:
    texts = ["lamp", "red lamp for a desk", "oak", "chair " * 12]
    tokens = tokenize(tower.tokenizer, texts, 20)
    held, device = Plain(tower, torch.device("cpu"), False), torch.device("cpu")
    gradients = []
    weight = next(tower.parameters())
    for encode in (
        lambda: held.encode(tokens),
        lambda: tower.encode(tokens, 10_000, device, False),
    ):
        vectors = encode()
        tower.zero_grad()
        (vectors * torch.arange(vectors.numel()).view_as(vectors).sin()).sum().backward()
        assert weight.grad is not None
        gradients.append((vectors.detach(), weight.grad.clone()))
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    held.encode(tokens)
    assert held.shapes == [(4, 16)]  # padded to one of a few lengths, and captured once


def test_what_is_too_large_or_not_in_training_is_left(
    tower: TextTower, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(count: int, length: int) -> Tokens:
        return Tokens(np.ones(count * length, np.int64), np.arange(count + 1) * length)

    held = CapturedTower(tower, torch.device("cpu"), False)
    assert held.fits(of(128, 64)) and not held.fits(of(129, 64))
    assert held.fits(of(256, 30)) and not held.fits(of(2, 65))
    tower.eval()
    assert not held.fits(of(2, 8))


def test_a_capture_that_fails_is_said_once(
    tower: TextTower, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("not permitted\nmore")

    held = CapturedTower(tower, torch.device("cpu"), False)
    monkeypatch.setattr(held, "_captured", broken)
    tokens = tokenize(tower.tokenizer, ["lamp"], 8)
    with caplog.at_level(logging.WARNING):
        assert held.encode(tokens) is None
    assert "not captured as CUDA graphs: not permitted" in caplog.text and not held.fits(tokens)
    assert tuple(sorted(captured.LENGTHS)) == captured.LENGTHS
