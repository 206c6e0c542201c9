"""A text encoder as a folder that sentence-transformers loads."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from neurosearch.core.errors import InputError
from neurosearch.nn.text_encoder import TextTower


def save_sentence_transformer(
    tower: TextTower, folder: Path, prompts: dict[str, str], max_length: int
) -> None:
    """Write a tower's network, pooling, layers, projection and normalisation.

    Args:
        prompts: by name, such as `query` and `document`.
        max_length: tokens of a text, special ones included.

    Raises:
        InputError: sentence-transformers is not installed.
    """
    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.base.modules import Dense, Normalize, Transformer
        from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling
    except ImportError:
        message = "needs sentence-transformers 6 or newer: pip install sentence-transformers"
        raise InputError(f"task=export {message}") from None
    from torch import nn

    with tempfile.TemporaryDirectory() as place:
        tower.network.save_pretrained(place)
        _save_tokenizer(tower, Path(place))
        first = Transformer(place, max_seq_length=max_length)
    width = tower.network.config.hidden_size
    names = {"sqrt": "mean_sqrt_len_tokens", "weighted": "weightedmean", "last": "lasttoken"}
    modes = tuple(names.get(mode, mode) for mode in tower.pooling)
    modules: list[Any] = [first, Pooling(width, pooling_mode=modes)]
    layers = list(tower.layers)
    for layer, following in zip(layers, [*layers, None][1:], strict=True):
        if isinstance(layer, nn.LayerNorm):
            modules.append(LayerNorm(layer.normalized_shape[0]))
            modules[-1].norm.load_state_dict(layer.state_dict())
        elif isinstance(layer, nn.Linear):
            modules.append(_dense(Dense, layer, following))
    if tower.projection is not None:
        modules.append(_dense(Dense, tower.projection, nn.Identity()))
    if tower.has_unit_length:
        modules.append(Normalize())
    similarity: Any = "cosine" if tower.has_unit_length else "dot"
    whole = SentenceTransformer(
        modules=modules, device="cpu", prompts=prompts, similarity_fn_name=similarity
    )
    whole.save(str(folder), create_model_card=False)


def _dense(kind: Any, linear: Any, activation: Any) -> Any:
    bias = linear.bias is not None
    layer = kind(linear.in_features, linear.out_features, bias, activation)
    layer.linear.load_state_dict(linear.state_dict())
    return layer


def _save_tokenizer(tower: TextTower, folder: Path) -> None:
    """The source's own tokenizer files; made of the tokenizer where it has no config of one."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    source = tower.format.transformer
    if (source / "tokenizer_config.json").is_file():
        AutoTokenizer.from_pretrained(source).save_pretrained(folder)
        return
    tower.tokenizer.no_truncation()
    known = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    special = {k: v for k, v in known.items() if tower.tokenizer.token_to_id(v) is not None}
    PreTrainedTokenizerFast(tokenizer_object=tower.tokenizer, **special).save_pretrained(folder)
