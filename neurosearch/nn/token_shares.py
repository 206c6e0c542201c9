"""The vector of a mean-pooling encoder as a sum of its words' shares.

v = Σ h_i / (n ‖mean h‖): the contextual states come apart exactly, as do inner products of two
such vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from neurosearch.nn.text_encoder import TextTower, padded
from neurosearch.nn.tokens import tokenize


def comes_apart(tower: TextTower) -> bool:
    """Whether a tower's vectors are means of its states, but for a linear map.

    Args:
        tower: any.

    Returns:
        False for other pooling, and where layers follow it.
    """
    return tower.pooling == ("mean",) and not len(tower.layers)


@torch.inference_mode()
def word_shares(
    tower: TextTower, prefix: str, text: str, max_length: int
) -> tuple[list[str], np.ndarray]:
    """What each word adds to the vector of a text.

    Args:
        tower: one that `comes_apart`, on the CPU.
        prefix: before the text; its words count as one, named `prefix`.
        text: of a query or a product.
        max_length: tokens, special ones included.

    Returns:
        W words, and W×D float32 that add up to the text's vector.
    """
    whole = prefix + text
    tokens = tokenize(tower.tokenizer, [whole], max_length)
    states = tower.states(padded(tokens, torch.device("cpu")))[1][0].float()
    if tower.projection is not None:
        states = tower.projection(states)
    length = states.mean(dim=0).norm() if tower.has_unit_length else torch.tensor(1.0)
    shares = (states / (len(states) * length.clamp(min=1e-12))).numpy()
    return _by_word(tower.tokenizer.encode(whole), shares, whole, len(prefix))


def _by_word(
    encoding: Any, shares: np.ndarray, text: str, start: int
) -> tuple[list[str], np.ndarray]:
    """Shares of tokens, added up by word; special tokens are words of their own."""
    names: list[str] = []
    sums: list[np.ndarray] = []
    last: Any = None
    for place, share in enumerate(shares):
        word = encoding.word_ids[place]
        begin, end = encoding.offsets[place]
        if word is None:
            key: Any = ("special", place)
            name = encoding.tokens[place]
        elif begin < start:
            key, name = "prefix", "prefix"
        else:
            key, name = word, text[begin:end]
        if key == last:
            sums[-1] = sums[-1] + share
            names[-1] = name if key == "prefix" else names[-1] + name
        else:
            names.append(name)
            sums.append(share)
        last = key
    return names, np.stack(sums)
