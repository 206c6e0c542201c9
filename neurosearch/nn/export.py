"""Trained networks as folders that sentence-transformers and PyLate load."""

from __future__ import annotations

import json
import string
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from neurosearch.core.errors import InputError
from neurosearch.nn.pretrained import model_folder
from neurosearch.nn.sentence_folder import SentenceFolder, adapted, read_folder
from neurosearch.nn.text_encoder import TextTower

PYLATE_DENSE = "pylate.models.Dense.Dense"


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
    from torch import nn

    st = _library()
    first = _transformer(st, tower.network, tower.tokenizer, tower.format, max_length)
    width = tower.network.config.hidden_size
    names = {"sqrt": "mean_sqrt_len_tokens", "weighted": "weightedmean", "last": "lasttoken"}
    modes = tuple(names.get(mode, mode) for mode in tower.pooling)
    modules: list[Any] = [first, st.Pooling(width, pooling_mode=modes)]
    layers = list(tower.layers)
    for layer, following in zip(layers, [*layers, None][1:], strict=True):
        if isinstance(layer, nn.LayerNorm):
            modules.append(st.LayerNorm(layer.normalized_shape[0]))
            modules[-1].norm.load_state_dict(layer.state_dict())
        elif isinstance(layer, nn.Linear):
            modules.append(_dense(st.Dense, layer, following))
    if tower.projection is not None:
        modules.append(_dense(st.Dense, tower.projection, nn.Identity()))
    if tower.has_unit_length:
        modules.append(st.Normalize())
    similarity: Any = "cosine" if tower.has_unit_length else "dot"
    whole = st.SentenceTransformer(
        modules=modules, device="cpu", prompts=prompts, similarity_fn_name=similarity
    )
    whole.save(str(folder), create_model_card=False)


def save_cross_encoder(tower: Any, recipe: Any, folder: Path) -> None:
    """Write a cross-encoder's network, the mean over its states, and its head.

    Args:
        tower: a `reranker.cross_encoder.network.CrossTower`.
        recipe: its `CrossEncoder`.

    Raises:
        InputError: sentence-transformers is not installed, or the objective is `classes`, whose
            score (the expected gain of four classes) its CrossEncoder can't compute.
    """
    from torch import nn

    if recipe.objective == "classes":
        raise InputError(
            "reranker.objective=classes can't be exported: a CrossEncoder has no expected gain"
        )
    st = _library()
    source = read_folder(model_folder(recipe.model, "reranker.model"), "reranker.model")
    if not hasattr(tower, "head"):  # it went on from a published head
        _save_classifier(st, tower, source, recipe.longest[1], folder)
        return
    tokenizer = _pairing(tower)
    first = _transformer(st, tower.network, tokenizer, source, recipe.longest[1])
    theirs, ours = first.tokenizer("a", "b"), tokenizer.encode("a", "b")
    types = theirs.get("token_type_ids") or [0] * len(ours.ids)
    if (theirs["input_ids"], types) != (ours.ids, ours.type_ids):
        raise InputError(
            f"reranker.model={recipe.model!r} can't be exported: its tokenizer joins two texts "
            "otherwise than NeuroSearch does"
        )
    head = _dense(st.Dense, tower.head, nn.Identity(), module_output_name="scores")
    width = tower.network.config.hidden_size
    modules: list[Any] = [first, st.Pooling(width, pooling_mode="mean"), head]
    whole = st.CrossEncoder(modules=modules, device="cpu", activation_fn=nn.Identity())
    whole.save(str(folder), create_model_card=False)


def _save_classifier(
    st: SimpleNamespace, tower: Any, source: SentenceFolder, max_length: int, folder: Path
) -> None:
    """Write a PublishedTower as the classifier of pairs that it is."""
    from torch import nn

    with tempfile.TemporaryDirectory() as place:
        tower.network.save_pretrained(place)
        save_tokenizer(source.transformer, tower.tokenizer, tower.network, Path(place))
        whole = st.CrossEncoder(
            place, device="cpu", max_length=max_length, activation_fn=nn.Identity()
        )
        whole.save(str(folder), create_model_card=False)


def save_pylate(tower: Any, shape: Any, folder: Path) -> None:
    """Write a ColBERT in the layout of PyLate (Chaffin and Sourty 2025).

    sentence-transformers' MultiVectorEncoder reads it too.

    Args:
        tower: an `encoder.colbert.network.TokenTower`.
        shape: its `TokenShape`.

    Raises:
        InputError: the encoder has no markers; PyLate puts one before every text.
    """
    from safetensors.torch import save_file

    query, product = shape.markers
    if query is None or product is None:
        raise InputError("encoder.markers: PyLate puts a marker before every text; null has none")
    inner = tower.tower
    inner.network.save_pretrained(folder)
    save_tokenizer(inner.format.transformer, tower.tokenizer, inner.network, folder)
    linear = folder / "1_Dense"
    linear.mkdir()
    weight = tower.projection.weight.detach().float().contiguous()
    save_file({"linear.weight": weight}, linear / "model.safetensors")
    dense = {
        "in_features": weight.shape[1],
        "out_features": weight.shape[0],
        "bias": False,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    modules = [("", "sentence_transformers.models.Transformer"), ("1_Dense", PYLATE_DENSE)]
    listing = [
        {"idx": n, "name": str(n), "path": path, "type": kind}
        for n, (path, kind) in enumerate(modules)
    ]
    marks = string.punctuation if shape.skip_punctuation else ""
    settings = {
        "model_type": "ColBERT",
        "similarity_fn_name": "MaxSim",
        "query_prefix": query,
        "document_prefix": product,
        "query_length": shape.query_max_length,
        "document_length": shape.product_max_length,
        "do_query_expansion": shape.expansion,
        "attend_to_expansion_tokens": shape.attend_expansion,
        # PyLate would take a mark that is no token for the unknown token, and skip that.
        "skiplist_words": [m for m in marks if tower.tokenizer.token_to_id(m) is not None],
    }
    transformer = {
        "max_seq_length": max(shape.max_lengths),
        "do_lower_case": inner.format.lower_case,
    }
    for path, facts in (
        ("1_Dense/config.json", dense),
        ("modules.json", listing),
        ("config_sentence_transformers.json", settings),
        ("sentence_bert_config.json", transformer),
    ):
        (folder / path).write_text(json.dumps(facts, indent=2), encoding="utf-8")


def _library() -> SimpleNamespace:
    """The classes of sentence-transformers, under their names."""
    try:
        import sentence_transformers as library
        from sentence_transformers.base import modules
        from sentence_transformers.sentence_transformer import modules as pooled
    except ImportError:
        message = "needs sentence-transformers 6 or newer: pip install sentence-transformers"
        raise InputError(f"task=export {message}") from None
    whole = {name: getattr(library, name) for name in ("SentenceTransformer", "CrossEncoder")}
    parts = {name: getattr(modules, name) for name in ("Dense", "Normalize", "Transformer")}
    layers = {name: getattr(pooled, name) for name in ("LayerNorm", "Pooling")}
    return SimpleNamespace(**whole, **parts, **layers)


def _transformer(
    st: SimpleNamespace, network: Any, tokenizer: Any, source: SentenceFolder, max_length: int
) -> Any:
    """The first module: a network with its tokenizer."""
    with tempfile.TemporaryDirectory() as place:
        network.save_pretrained(place)
        save_tokenizer(source.transformer, tokenizer, network, Path(place))
        lower = source.lower_case
        return st.Transformer(place, max_seq_length=max_length, do_lower_case=lower)


def _pairing(tower: Any) -> Any:
    """The tokenizer of a CrossTower, joining pairs as it does: one separator between the texts."""
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer.from_str(tower.tokenizer.to_str())
    special = tokenizer.encode("").tokens
    begin, end = special[0], special[-1]
    second = 1 if tower.segments else 0
    tokenizer.post_processor = TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {end} $B:{second} {end}:{second}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in dict.fromkeys(special)],
    )
    return tokenizer


def _dense(kind: Any, linear: Any, activation: Any, **names: str) -> Any:
    bias = linear.bias is not None
    layer = kind(linear.in_features, linear.out_features, bias, activation, **names)
    layer.linear.load_state_dict(linear.state_dict())
    return layer


def save_tokenizer(source: Path, tokenizer: Any, network: Any, folder: Path) -> None:
    """The source's own tokenizer files; made of the tokenizer where it has no config of one."""
    base = adapted(source)
    if base is not None and not (source / "tokenizer_config.json").is_file():
        source = read_folder(base).transformer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if (source / "tokenizer_config.json").is_file():
        AutoTokenizer.from_pretrained(source).save_pretrained(folder)
        return
    tokenizer.no_truncation()
    known = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    special = {k: v for k, v in known.items() if tokenizer.token_to_id(v) is not None}
    types = ["token_type_ids"] if getattr(network.config, "type_vocab_size", 1) > 1 else []
    names = ["input_ids", *types, "attention_mask"]
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=names, **special)
    fast.save_pretrained(folder)
