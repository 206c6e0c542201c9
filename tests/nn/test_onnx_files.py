"""Networks as ONNX files: ColBERT's token vectors and cross-encoders' scores are torch's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from neurosearch.core.errors import InputError
from neurosearch.encoder.exported import BACKENDS
from neurosearch.nn import exchange
from neurosearch.nn.text_encoder import TextTower


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_file_gives_the_networks_numbers_for_any_size(
    tiny_model: str, tmp_path: Path, backend: str
) -> None:
    network = exchange.Vectors(TextTower(tiny_model).eval())
    exchange.write_onnx(network, tmp_path / "model.onnx")
    exchange.check_parity(network, tmp_path / "model.onnx")
    call = exchange.loaded(tmp_path / "model.onnx", backend, 1)
    for texts, length in ((1, 2), (5, 17), (2, 60)):
        tokens = torch.randint(5, 60, (texts, length))
        mask = torch.ones_like(tokens)
        mask[0, max(1, length // 2) :] = 0
        with torch.inference_mode():
            wanted = network(tokens, mask).numpy()
        found = call({"input_ids": tokens.numpy(), "attention_mask": mask.numpy()})
        assert np.abs(found - wanted).max() < 1e-5


def test_another_networks_file_is_noticed(tiny_model: str, tmp_path: Path) -> None:
    """A planted fault: the file of a network whose weights are 1 % larger."""
    network = exchange.Vectors(TextTower(tiny_model).eval())
    exchange.write_onnx(network, tmp_path / "model.onnx")
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(1.01)
    with pytest.raises(InputError, match=r"model\.onnx: ONNX Runtime's numbers differ by"):
        exchange.check_parity(network, tmp_path / "model.onnx")
    (tmp_path / "torn.onnx").write_bytes((tmp_path / "model.onnx").read_bytes()[:1000])
    for backend in BACKENDS:
        with pytest.raises(InputError, match=r"torn\.onnx: can't be loaded"):
            exchange.loaded(tmp_path / "torn.onnx", backend, 1)
