"""Weights of trained networks as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def save_weights(network: Any, path: Path) -> None:
    """Write a network's weights as safetensors: the same bytes for the same weights.

    A weight with several names is written once, under the first of them. (`save_model` of
    safetensors keeps the others in a header whose order is drawn anew.)
    """
    from safetensors.torch import save_file

    written, seen = {}, set()
    for name, weight in sorted(network.state_dict().items()):
        key = weight.data_ptr(), weight.shape
        if key not in seen or not weight.numel():
            seen.add(key)
            written[name] = weight.detach().cpu().contiguous()
    save_file(written, path)
