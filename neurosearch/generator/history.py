"""The next product from those before it (TIGER, Rajput et al. 2023): IDs in, an ID out.

A query is a history: the semantic IDs of its products, oldest first, as one sequence of (level,
code) tokens. A small T5 reads it; the decoder writes the next product's ID. TIGER's token for the
user is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.semantic_ids import SemanticIds
from neurosearch.core.types import Catalogue, Queries
from neurosearch.data.histories import history_rows
from neurosearch.generator.base import Generator
from neurosearch.generator.decoder_config import Shape
from neurosearch.generator.t5_scratch import untrained_model
from neurosearch.training.schedule import Schedule


@dataclass(frozen=True)
class HistoryGenerator(Generator):
    """`max_length`: codes that are read, of the latest products."""

    shape: Shape = field(default_factory=lambda: Shape(width=128, heads=6, layers=4))
    max_length: int = 80
    index_ratio: float = 0.0
    reader_rate: float = 1.0
    batch_size: int = 256
    label_smoothing: float = 0.1
    schedule: Schedule = field(
        default_factory=lambda: Schedule(
            epochs=100, lr=1e-3, weight_decay=0.05, warmup=0.05, validations=10, patience=0
        )
    )

    reads_words: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.index_ratio:
            raise self.error("index_ratio", "must be 0: histories have no texts to index")

    def query_texts(self, queries: Queries, catalogue: Catalogue, ids: SemanticIds) -> list[str]:
        codes = np.asarray(ids.codes)
        levels = codes.shape[1]
        rows = history_rows(queries.frame, catalogue, max(1, self.max_length // levels))
        words = np.char.add([f"{level}:" for level in range(levels)], codes.astype(str))
        written = np.array([" ".join(product) for product in words.tolist()], dtype=object)
        # Who has bought nothing of this catalogue is read as one unknown product.
        return [" ".join(written[row[row >= 0]]) or "[UNK]" for row in rows]

    def network(self, sizes: tuple[int, ...], pretrained: Path | None) -> Any:
        return untrained_model(self.shape, code_tokenizer(sizes), sizes, self.schedule.seed)

    def label(self) -> str:
        return "Next item"


def code_tokenizer(sizes: tuple[int, ...]) -> Any:
    """A `tokenizers` tokenizer of the words `level:code`."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    words = ["[PAD]", "[UNK]"]
    words += [f"{level}:{code}" for level, size in enumerate(sizes) for code in range(size)]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return tokenizer
