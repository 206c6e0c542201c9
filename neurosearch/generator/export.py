"""A generator as a T5 of transformers, whose vocabulary has a token for each code of each level.

Its decoder is T5's, so the weights fit one by one. Code 12 of the first level is the token
`<a_12>`, as in `index.json`. The softmax of transformers is over all tokens; NeuroSearch's is over
a level's codes: the logits of `<a_…>` for the first code, of `<b_…>` for the second, and so on.
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from neurosearch.core.errors import InputError
from neurosearch.core.semantic_ids import SemanticIds
from neurosearch.core.store import write_whole
from neurosearch.generator.decoder import CodeDecoder
from neurosearch.generator.network import CodeModel, Seq2SeqReader
from neurosearch.tokenizer.export import as_csv, as_index

START = "<start>"  # what the decoder reads before the first code
BUCKETS = 16  # of T5's relative positions that are single distances


def code_tokens(sizes: tuple[int, ...]) -> list[str]:
    """The tokens of all codes, level after level."""
    letters = string.ascii_lowercase
    return [f"<{letters[n]}_{code}>" for n, size in enumerate(sizes) for code in range(size)]


def save_t5(model: CodeModel, ids: SemanticIds, products: pl.Series, folder: Path) -> None:
    """Write the model, its tokenizer, and the products' IDs (ids.csv, index.json).

    Args:
        ids: of the catalogue's products, in the order of `products` (their ids).

    Raises:
        InputError: the generator does not read with a T5, or an ID has more than 16 levels.
    """
    from transformers import PreTrainedTokenizerFast, T5ForConditionalGeneration

    reader, decoder = model.reader, model.decoder
    levels = len(decoder.sizes)
    fits = isinstance(getattr(decoder, "project", None), torch.nn.Identity)
    if not isinstance(reader, Seq2SeqReader) or not isinstance(decoder, CodeDecoder) or not fits:
        raise InputError("generator: only T5s can be exported (generator=t5, generator=t5_scratch)")
    if levels > BUCKETS:
        raise InputError(f"generator: IDs of {levels} levels, at most {BUCKETS} can be exported")
    encoder = getattr(reader.network, "encoder", reader.network)
    words = encoder.embed_tokens.weight.detach()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(_tokenizer_folder(reader, folder))
    names = [START, *code_tokens(decoder.sizes)]
    # Tokens without a vector of their own fill what the tokenizer leaves free.
    free = [f"<free_{n}>" for n in range(len(words) - len(tokenizer))]
    tokenizer.add_tokens([*free, *names], special_tokens=True)
    whole = T5ForConditionalGeneration(_config(encoder.config, decoder, len(tokenizer)))
    with torch.no_grad():
        table, head = _vocabulary(decoder, words, len(names))
        state = {k: v for k, v in encoder.state_dict().items() if not k.startswith("embed_tokens")}
        whole.encoder.load_state_dict(state, strict=False)
        whole.shared.weight.copy_(table)  # the encoder's and the decoder's, too
        # Codes are written by other vectors than they are read by.
        whole.lm_head.weight = torch.nn.Parameter(head)
        _give_decoder(decoder, whole)
    whole.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_whole(folder / "ids.csv", as_csv(ids, products))
    write_whole(folder / "index.json", as_index(ids, products))


def _tokenizer_folder(reader: Seq2SeqReader, folder: Path) -> Path:
    from transformers import PreTrainedTokenizerFast

    known = {"[PAD]": "pad_token", "<pad>": "pad_token", "[UNK]": "unk_token", "<unk>": "unk_token"}
    known |= {"</s>": "eos_token", "[SEP]": "sep_token"}
    special = {v: k for k, v in known.items() if reader.tokenizer.token_to_id(k) is not None}
    PreTrainedTokenizerFast(tokenizer_object=reader.tokenizer, **special).save_pretrained(folder)
    return folder


def _config(config: Any, decoder: CodeDecoder, size: int) -> Any:
    from transformers import T5Config

    facts = {k: v for k, v in config.to_dict().items() if k not in ("architectures", "dtype")}
    facts |= {
        "vocab_size": size,
        "num_decoder_layers": decoder.shape.layers,
        "decoder_start_token_id": size - 1 - sum(decoder.sizes),
        "tie_word_embeddings": False,
        "scale_decoder_outputs": False,
        "is_decoder": False,
        "is_encoder_decoder": True,
    }
    return T5Config(**facts)


def _vocabulary(decoder: Any, words: Tensor, more: int) -> tuple[Tensor, Tensor]:
    """What tokens are read as, and what writes them: V×width each."""
    width = words.shape[1]
    read, written = words.new_zeros(more, width), words.new_zeros(len(words) + more, width)
    read[0] = decoder.start
    place = 1
    for level, head in enumerate(decoder.heads):
        size = decoder.sizes[level]
        if level < len(decoder.embeddings):  # the last code is never read
            read[place : place + size] = decoder.embeddings[level].weight
        written[len(words) + place : len(words) + place + size] = head.weight
        place += size
    return torch.cat([words, read]), written


def _give_decoder(decoder: Any, whole: Any) -> None:
    """The opposite of `decoder.take_t5`."""
    stack = whole.decoder
    table = stack.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    table[: decoder.distance.shape[1]] = decoder.distance.T
    stack.final_layer_norm.weight.copy_(decoder.norm.weight)
    for block, theirs in zip(decoder.blocks, stack.block, strict=True):
        pairs = ((block.self_attention, "SelfAttention"), (block.cross, "EncDecAttention"))
        for number, (attention, name) in enumerate(pairs):
            for matrix in ("q", "k", "v", "o"):
                target = getattr(getattr(theirs.layer[number], name), matrix)
                target.weight.copy_(getattr(attention, matrix).weight)
        dense, feed = theirs.layer[2].DenseReluDense, block.feed
        dense.wo.weight.copy_(feed.wo.weight)
        if feed.gate is None:
            dense.wi.weight.copy_(feed.wi.weight)
        else:
            dense.wi_0.weight.copy_(feed.gate.weight)
            dense.wi_1.weight.copy_(feed.wi.weight)
        for norm, layer in zip(block.norms, theirs.layer, strict=True):
            layer.layer_norm.weight.copy_(norm.weight)
