"""Token states to one vector a text: pooling modes, and the layers that may follow them.

The modes are sentence-transformers' (Reimers and Gurevych 2019): the mean over tokens, the first
token, the maximum, the sum over the root of the length, a mean weighted by position (Muennighoff
2022), the last token (which decoders use).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from neurosearch.core.errors import InputError, first_line
from neurosearch.nn.sentence_folder import ACTIVATIONS, Layer

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "identity": nn.Identity,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
}


def pool(hidden: Tensor, mask: Tensor | None, modes: Sequence[str]) -> Tensor:
    """Pool padded states.

    Args:
        hidden: B×T×D token states; padding is on the right.
        mask: B×T, 1 for tokens; None for the first token alone, which needs none.
        modes: their vectors are concatenated.

    Returns:
        B×(D·modes).
    """
    return _joined([_pooled(hidden, mask, mode) for mode in modes])


def pool_packed(hidden: Tensor, bounds: Tensor, modes: Sequence[str]) -> Tensor:
    """As `pool`, of S×D states of texts one after another, by mean or first token.

    Args:
        bounds: B+1 places where texts begin.
    """
    vectors = []
    for mode in modes:
        if mode == "cls":
            vectors.append(hidden[bounds[:-1].long()])
        else:
            lengths = bounds.diff().long()
            # `unsafe` only leaves out a check that waits for the device.
            means = torch.segment_reduce(hidden.float(), "mean", lengths=lengths, unsafe=True)
            vectors.append(means)
    return _joined(vectors)


def pools_packed(modes: Sequence[str]) -> bool:
    """Whether `pool_packed` computes these modes."""
    return set(modes) <= {"mean", "cls"}


def load_layers(layers: Sequence[Layer], width: int) -> tuple[nn.Sequential, int]:
    """The layers after the pooling, with their weights, and the width of what they give.

    Args:
        width: of the pooled vector.

    Raises:
        InputError: naming the file that is missing, pickled, or of another shape.
    """
    modules: list[nn.Module] = []
    for layer in layers:
        if layer.kind == "LayerNorm":
            norm = nn.LayerNorm(width)
            _load(norm, layer, "norm.")
            modules.append(norm)
            continue
        config = layer.config
        given = int(config.get("in_features", -1))
        if given != width:
            path = layer.folder / "config.json"
            raise InputError(f"{path}: in_features is {given}, but it is given {width} dimensions")
        width = int(config["out_features"])
        linear = nn.Linear(given, width, bias=bool(config.get("bias", True)))
        _load(linear, layer, "linear.")
        default = "torch.nn.modules.activation.Tanh"
        activation = _ACTIVATIONS[ACTIVATIONS[config.get("activation_function", default)]]
        modules += [linear, activation()]
    return nn.Sequential(*modules), width


def _pooled(hidden: Tensor, mask: Tensor | None, mode: str) -> Tensor:
    if mode == "cls":
        return hidden[:, 0]
    assert mask is not None
    if mode == "last":
        last = mask.sum(dim=1).long() - 1
        return hidden[torch.arange(len(hidden), device=hidden.device), last.clamp(min=0)]
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    if mode == "max":
        return hidden.masked_fill(weights == 0, float("-inf")).max(dim=1).values
    if mode == "weighted":
        place = torch.arange(1, hidden.shape[1] + 1, device=hidden.device, dtype=hidden.dtype)
        weights = weights * place[None, :, None]
    total = weights.sum(1).clamp(min=1)
    return (hidden * weights).sum(1) / (total.sqrt() if mode == "sqrt" else total)


def _joined(vectors: list[Tensor]) -> Tensor:
    return vectors[0] if len(vectors) == 1 else torch.cat(vectors, dim=-1)


def _load(module: nn.Module, layer: Layer, prefix: str) -> None:
    from safetensors.torch import load_file

    path = layer.folder / "model.safetensors"
    if not path.is_file():
        pickled = (layer.folder / "pytorch_model.bin").is_file()
        reason = "only pickled weights are there, which may hold code" if pickled else "missing"
        raise InputError(f"{path}: {reason}")
    try:
        weights = {key.removeprefix(prefix): value for key, value in load_file(path).items()}
        module.load_state_dict(weights)
    except Exception as error:  # safetensors and torch raise of many kinds
        raise InputError(f"{path}: {first_line(error)}") from None
