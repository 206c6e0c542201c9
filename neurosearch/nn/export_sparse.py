"""A trained encoder of terms as a folder that sentence-transformers' SparseEncoder loads."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from neurosearch.core.errors import InputError
from neurosearch.nn.export import save_tokenizer


def save_sparse_encoder(tower: Any, shape: Any, folder: Path) -> None:
    """Write the network with its head, and the pooling; queries by idf get a module of their own.

    Args:
        tower: an `encoder.splade.network.TermTower` with a vocabulary head.
        shape: its `TermShape`.
        folder: an empty one.

    Raises:
        InputError: sentence-transformers is not installed, or the network is no BERT, whose head
            transformers does not lay out as ours.
    """
    try:
        from sentence_transformers import SparseEncoder
        from sentence_transformers.base.modules import Router, Transformer
        from sentence_transformers.sparse_encoder.modules import (
            SparseStaticEmbedding,
            SpladePooling,
        )
    except ImportError:
        message = "needs sentence-transformers 6 or newer: pip install sentence-transformers"
        raise InputError(f"task=export {message}") from None
    with tempfile.TemporaryDirectory() as place:
        _masked_model(tower).save_pretrained(place)
        source = tower.tower.format
        save_tokenizer(source.transformer, tower.tower.tokenizer, tower.tower.network, Path(place))
        longest = max(shape.max_lengths)
        first = Transformer(
            place,
            transformer_task="fill-mask",
            max_seq_length=longest,
            do_lower_case=source.lower_case,
        )
        modules: list[Any] = [first, SpladePooling("max")]
        if shape.queries == "idf":
            weights = tower.idf.detach().float().cpu().clone()
            queries = SparseStaticEmbedding(first.tokenizer, weights, frozen=True)
            modules = [Router.for_query_document([queries], modules)]
        whole = SparseEncoder(modules=modules, device="cpu")
        whole.save(str(folder), create_model_card=False)


def _masked_model(tower: Any) -> Any:
    """The network below transformers' own head, with our weights."""
    from transformers import BertForMaskedLM

    network = tower.tower.network
    if network.config.model_type != "bert":
        kind = network.config.model_type
        raise InputError(f"encoder.model: a SparseEncoder is exported of a BERT, not of a {kind}")
    model = BertForMaskedLM(network.config)
    model.bert.load_state_dict(network.state_dict())
    head, theirs = tower.head, model.cls.predictions
    theirs.transform.dense.load_state_dict(head.dense.state_dict())
    theirs.transform.LayerNorm.load_state_dict(head.norm.state_dict())
    theirs.bias.data.copy_(head.bias.data)
    theirs.decoder.bias.data.copy_(head.bias.data)
    model.tie_weights()
    return model.eval()
