"""The network of `generator=warm`: a ranking by codes, and a decoder's correction of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from neurosearch.generator.decoder import CodeDecoder, Decoding
from neurosearch.generator.decoder_config import Shape
from neurosearch.generator.network import DenseReader
from neurosearch.nn.decoder import beyond_text
from neurosearch.nn.text_encoder import Batch
from neurosearch.tokenizer.codewords import CodeVectors


class WarmReader(DenseReader):
    """A dense reader whose first state is the text's own unit vector."""

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        vectors, memory, mask = self.parts(batch)
        vector = vectors[:, None].to(memory.dtype)
        if vector.shape[2] < memory.shape[2]:
            vector = nn.functional.pad(vector, (0, memory.shape[2] - vector.shape[2]))
        first = torch.ones_like(mask[:, :1])
        return torch.cat([vector, memory], dim=1), torch.cat([first, mask], dim=1)


class WarmDecoder(CodeDecoder):
    """`dimensions`: of the encoder's vectors. `scale`: s before training."""

    def __init__(
        self,
        sizes: Sequence[int],
        shape: Shape,
        memory_width: int,
        dimensions: int,
        scale: float,
    ) -> None:
        super().__init__(sizes, shape, memory_width)
        self.dimensions = dimensions
        for head in self.heads.parameters():
            nn.init.zeros_(head)
        self.turn = nn.Linear(dimensions, dimensions, bias=False)
        nn.init.eye_(self.turn.weight)
        self.log_scale = nn.Parameter(torch.tensor(float(np.log(scale))))
        for level, size in enumerate(self.sizes):
            self.register_buffer(f"book_{level}", torch.zeros(size, dimensions))

    def take(self, words: CodeVectors) -> None:
        """Begin with the vectors that codes stand for.

        Args:
            words: of as many levels and codes.
        """
        with torch.no_grad():
            for level, book in enumerate(words.books):
                own = torch.from_numpy(book)
                getattr(self, f"book_{level}").copy_(own)
                if level < len(self.embeddings) and self.shape.width == self.dimensions:
                    # Codes that mean alike are read alike; T5's embeddings have a scale of one.
                    scale = own.square().mean().sqrt().clamp(min=1e-6)
                    embedding = self.embeddings[level]
                    assert isinstance(embedding, nn.Embedding)
                    embedding.weight.copy_(own / scale)

    def by_vector(self, memory: Tensor) -> list[Tensor]:
        """s · <P q, e> of all codes: for each level B×K."""
        vectors = memory[:, 0, : self.dimensions].float()
        turned = self.turn(vectors).float() * self.log_scale.exp()
        return [turned @ getattr(self, f"book_{level}").T for level in range(len(self.sizes))]

    def forward(self, memory: Tensor, mask: Tensor, codes: Tensor) -> list[Tensor]:
        learnt = super().forward(memory, mask, codes)
        return [x + y for x, y in zip(learnt, self.by_vector(memory), strict=False)]

    def decoding(self, memory: Tensor, mask: Tensor) -> Decoding:
        by_vector = [logits[:, None] for logits in self.by_vector(memory)]
        return Decoding(self, self.project(memory), beyond_text(mask), by_vector)
