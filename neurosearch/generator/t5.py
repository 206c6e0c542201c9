"""A pretrained T5 (Raffel et al. 2020), by name or path, whose vocabulary gains the codes.

Any other sequence-to-sequence model of transformers (BART, mBART, Pegasus…) serves too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurosearch.core.digests import content
from neurosearch.generator.base import Generator
from neurosearch.generator.decoder_config import Shape
from neurosearch.nn.pretrained import local_folder, read_json, refuse_longer, weights_digest
from neurosearch.training.schedule import Schedule

KINDS = ("t5", "mt5")  # whose decoders are one


@dataclass(frozen=True)
class T5(Generator):
    """`model`: a local folder, or a name on the hub: t5-small, google/mt5-small, a BART…"""

    model: str = content(weights_digest, default="t5-small")
    reader_rate: float = 1.0
    schedule: Schedule = field(
        default_factory=lambda: Schedule(epochs=12, lr=3e-4, warmup=0.05, patience=0)
    )

    @property
    def is_t5(self) -> bool:
        # Of a model on the hub it is known once it is loaded.
        facts = self._facts()
        return facts is None or facts.get("model_type") in KINDS

    def __post_init__(self) -> None:
        super().__post_init__()
        facts = self._facts()
        if facts is not None:
            kind = str(facts.get("model_type"))
            if kind not in KINDS and not facts.get("is_encoder_decoder"):
                raise self.error("model", f"is {self.model!r}, a {kind}, which does not write")

    def _facts(self) -> dict[str, Any] | None:
        """The config of a local model; None where there is none."""
        folder = local_folder(self.model)
        config = None if folder is None else folder / "config.json"
        return read_json(config) if config and config.exists() else None

    def network(self, sizes: tuple[int, ...], pretrained: Path | None) -> Any:
        import torch

        from neurosearch.generator.decoder import CodeDecoder, take_t5
        from neurosearch.generator.foreign_decoder import ForeignDecoder
        from neurosearch.generator.network import CodeModel, Seq2SeqReader, pretrained_seq2seq

        t5, tokenizer = pretrained_seq2seq(self.model)
        config = t5.config
        most = getattr(config, "max_position_embeddings", None)
        refuse_longer(most, "generator.max_length", self.max_length)
        reader = Seq2SeqReader(t5.get_encoder(), tokenizer)
        if config.model_type not in KINDS:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.schedule.seed)
                start = config.decoder_start_token_id
                return CodeModel(reader, ForeignDecoder(sizes, t5.get_decoder(), start))
        shape = Shape(
            width=config.d_model,
            heads=config.num_heads,
            head_width=config.d_kv,
            feed=config.d_ff,
            layers=config.num_decoder_layers,
            dropout=config.dropout_rate,
            gated=config.is_gated_act,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.schedule.seed)
            decoder = CodeDecoder(sizes, shape, config.d_model)
        take_t5(decoder, t5)
        return CodeModel(reader, decoder)

    def label(self) -> str:
        return self.model.rstrip("/").split("/")[-1]
