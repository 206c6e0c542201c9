"""A small T5 from scratch: encoder and decoder of one shape, the text vocabulary of a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurosearch.core.digests import content
from neurosearch.generator.base import Generator
from neurosearch.generator.decoder_config import Shape
from neurosearch.nn.pretrained import weights_digest


@dataclass(frozen=True)
class ScratchT5(Generator):
    """`vocabulary`: a model (folder, package or hub) whose tokenizer reads the texts."""

    vocabulary: str = content(weights_digest, default="sentence-transformers/all-MiniLM-L6-v2")
    shape: Shape = field(default_factory=lambda: Shape(width=256, heads=4, layers=4))
    reader_rate: float = 1.0

    @property
    def is_t5(self) -> bool:
        return True

    def network(self, sizes: tuple[int, ...], pretrained: Path | None) -> Any:
        from neurosearch.nn.pretrained import model_source
        from neurosearch.nn.text_encoder import load_tokenizer

        with model_source("generator.vocabulary", self.vocabulary) as source:
            tokenizer = load_tokenizer(source)
        return untrained_model(self.shape, tokenizer, sizes, self.schedule.seed)

    def label(self) -> str:
        return "T5 from scratch"


def untrained_model(shape: Shape, tokenizer: Any, sizes: tuple[int, ...], seed: int) -> Any:
    """A CodeModel: T5's encoder over the tokenizer's vocabulary, a decoder of the same shape."""
    import torch
    from transformers import T5Config, T5EncoderModel

    from neurosearch.generator.decoder import CodeDecoder
    from neurosearch.generator.network import CodeModel, Seq2SeqReader

    config = T5Config(
        vocab_size=tokenizer.get_vocab_size(),
        d_model=shape.width,
        d_kv=shape.head_width,
        d_ff=shape.feed,
        num_heads=shape.heads,
        num_layers=shape.layers,
        dropout_rate=shape.dropout,
        feed_forward_proj="gated-gelu" if shape.gated else "relu",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = T5EncoderModel(config)
        decoder = CodeDecoder(sizes, shape, shape.width)
    return CodeModel(Seq2SeqReader(encoder, tokenizer), decoder)
