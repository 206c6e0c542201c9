"""A language model grades each candidate: the number that it writes for query and product.

Off by default: with `writer=endpoint` it costs money and sends queries and titles to the endpoint's
operator. What was written is kept, so that nothing is asked twice (see `writer.base`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.retrieval import RetrievalRequest, Retriever
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, check_fields
from neurosearch.reranker.base import PairScores, Reranker
from neurosearch.writer.base import Writer
from neurosearch.writer.quoting import quoted

PROMPT = (
    "A customer of an online shop searches for: {query}\n"
    "The shop shows this product: {product}\n"
    "How well does it fit, from 0 (not at all) to 10 (exactly)? Answer with the number only."
)


@dataclass(frozen=True)
class LLM(Reranker):
    """Attributes:
    writer: of the grades.
    prompt: with {query} and {product}; an answer without one number from 0 to 10 is worth 0.
    fields, separator: of the product.
    """

    writer: Writer
    prompt: str = PROMPT
    fields: tuple[str, ...] = ("title",)
    separator: str = " "

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields("reranker.fields", self.fields)
        for name in ("{query}", "{product}"):
            if name not in self.prompt:
                raise InputError(f"reranker.prompt does not say where {name} goes")

    def scores(
        self,
        candidates: Artifact[Run],
        data: Artifact[Dataset],
        request: RetrievalRequest,
        first: Retriever,
    ) -> Artifact[Run]:
        recipe = replace(self, writer=self.writer.fitted(data))
        return Graded(candidates, request.view(data), request, recipe)

    def label(self) -> str:
        return f"LLM {self.writer.label()}"


@dataclass(frozen=True)
class Graded(PairScores):
    reranker: LLM

    def check(self, runtime: Runtime) -> None:
        super().check(runtime)
        self.reranker.writer.check(runtime)

    def score(self, query: np.ndarray, row: np.ndarray, runtime: Runtime) -> np.ndarray:
        recipe, data = self.reranker, runtime.get(self.data)
        texts = self.request.processed(data, runtime).texts
        products = data.catalogue.all_texts(recipe.fields, recipe.separator)
        prompts = [
            recipe.prompt.replace("{query}", texts[q]).replace("{product}", quoted(products[r]))
            for q, r in zip(query, row, strict=True)
        ]
        written = recipe.writer.write(prompts, runtime)
        return np.array([grade_of(answer) for (answer,) in written], dtype=np.float32)


def grade_of(answer: str) -> float:
    """The grade in an answer, 0 where there is none."""
    # "7", "7/10", "Out of 10: 7": the number that is not the scale.
    numbers = [float(digits) for digits in re.findall(r"-?\d+(?:\.\d+)?", answer)]
    graded = [number for number in numbers if 0 <= number <= 10]
    below = [number for number in graded if number < 10]
    return (below or graded or [0.0])[0]
