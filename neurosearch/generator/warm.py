"""A generator that begins as a ranking by codes, and learns what that gets wrong.

logit_l(k) = s · <P q, e_l,k> + delta_l(k | codes so far, text). q is the encoder's unit vector of
the query, e the vectors that codes stand for (`tokenizer.codewords`), P begins as the identity and
the last layer of delta as zeros, so before the first step the order of IDs is that of
`retriever=codes`: a softmax's normaliser does not depend on the prefix then. RIPOR (Zeng et al.
2023) likewise ties its decoder to the quantizer's codebooks.

Two stages share the schedule. First cross-entropy over codes, smoothed towards codes that lie near
(`near`). With a `teacher`, then, from `margin_from` of the steps on, prefixes learn its margins:
S_l(d) - S_l(d') should be a · f_l · (t_l(d) - t_l(d')), where S_l sums the log-probabilities of l
codes, and t_l is the best score that the teacher gives any product below the prefix.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.retrieval import RetrievalRequest, Retriever
from neurosearch.core.run import Run
from neurosearch.core.semantic_ids import SemanticIds
from neurosearch.core.types import Dataset
from neurosearch.generator.base import TrainedGenerator
from neurosearch.generator.decoder_config import Shape
from neurosearch.generator.dense_prefix import DensePrefix
from neurosearch.tokenizer.codewords import Codewords
from neurosearch.training.schedule import Schedule


@dataclass(frozen=True)
class Warm(DensePrefix):
    """Attributes:
    scale: s, which is trained too; the inverse of the encoder's training temperature.
    near: share of a code's target that goes to codes whose vectors are near.
    perplexity: of that share over codes, on average: how many codes count as near.
    teacher: a retriever whose lists of train queries teach prefixes; None for the first stage only.
    margin: weight of the teacher's margins.
    margin_from: share of the steps after which they are learnt.
    cross_entropy: weight of the codes' cross-entropy from then on.
    candidates: products of a train query that are compared: the teacher's first ones, and as many
        of the model's own beam, searched anew `refreshes` times.
    """

    scale: float = setting(20.0, above=0)
    near: float = setting(0.3, least=0, below=1)
    perplexity: float = setting(4.0, above=1)
    teacher: Retriever | None = None
    margin: float = setting(1.0, least=0)
    margin_from: float = setting(0.5, least=0, most=1)
    cross_entropy: float = setting(0.3, least=0)
    candidates: int = setting(100, least=2)
    refreshes: int = setting(2, least=0)
    shape: Shape = field(default_factory=Shape)
    schedule: Schedule = field(
        default_factory=lambda: Schedule(epochs=12, lr=5e-4, warmup=0.05, patience=0)
    )

    def trained(self, data: Artifact[Dataset], ids: Artifact[SemanticIds]) -> Any:
        plain = super().trained(data, ids)
        assert isinstance(plain, TrainedGenerator)
        vectors = self.encoder.product_embeddings(data)
        teacher = None
        if self.teacher is not None:
            query = self.query.fitted(data)
            teacher = self.teacher.run(data, RetrievalRequest(query, "train", 200))
        parts = {part.name: getattr(plain, part.name) for part in fields(plain)}
        return TrainedWarm(**parts, words=Codewords(ids, vectors), vectors=vectors, taught=teacher)

    def network(self, sizes: tuple[int, ...], pretrained: Path | None) -> Any:
        import torch

        from neurosearch.generator.network import CodeModel
        from neurosearch.generator.warm_network import WarmDecoder, WarmReader

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.schedule.seed)
            tower = self.encoder.tower(pretrained)
            only = self.memory == "vector"
            reader = WarmReader(tower, self.prefix_tokens, only, self.frozen)
            decoder = WarmDecoder(sizes, self.shape, reader.width, tower.dimensions, self.scale)
            return CodeModel(reader, decoder)

    def label(self) -> str:
        return "Warm codes" if self.teacher is None else "Warm codes, taught"


@dataclass(frozen=True)
class TrainedWarm(TrainedGenerator):
    """As `TrainedGenerator`, with what the codes stand for."""

    words: Codewords
    vectors: Artifact[Any]
    taught: Artifact[Run] | None

    def module(self, runtime: Any) -> Any:
        from neurosearch.generator.warm_training import WarmModule

        taught = None if self.taught is None else runtime.get(self.taught)
        more = runtime.get(self.words), runtime.get(self.vectors).vectors, taught
        named = dict(zip(("words", "vectors", "taught"), more, strict=True))
        return WarmModule(*self.module_parts(runtime), **named)
