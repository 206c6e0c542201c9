"""A language model behind any OpenAI-compatible endpoint grades each candidate.

Off by default: it costs money and sends queries and titles to the endpoint's operator. Answers
are kept under outputs/llm by endpoint, model and prompt, so that nothing is asked twice; `budget`
is how many answers of a model may be kept there in all, whichever runs, splits or depths asked for
them, and a run that would exceed it asks nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.endpoint import Service, check_budget
from neurosearch.core.errors import InputError
from neurosearch.core.retrieval import RetrievalRequest, Retriever
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.store import write_whole
from neurosearch.core.types import Dataset, check_fields
from neurosearch.reranker.base import PairScores, Reranker

PROMPT = (
    "A customer of an online shop searches for: {query}\n"
    "The shop shows this product: {product}\n"
    "How well does it fit, from 0 (not at all) to 10 (exactly)? Answer with the number only."
)


@dataclass(frozen=True)
class LLM(Reranker):
    """Attributes:
    model: as the endpoint calls it.
    endpoint: the base URL; the key is in the environment variable that `key` names.
    prompt: with {query} and {product}; an answer without one number from 0 to 10 is worth 0.
    budget: questions that may be asked of this model, at most, those of earlier runs included.
    fields, separator: of the product.
    """

    model: str
    endpoint: str = "http://localhost:8000/v1"
    key: str = setting("OPENAI_API_KEY", identity=False)
    prompt: str = PROMPT
    budget: int = setting(1000, least=0, identity=False)
    fields: tuple[str, ...] = ("title",)
    separator: str = " "
    timeout: float = setting(60.0, above=0, identity=False)

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
        return Graded(candidates, request.view(data), request, self)

    def service(self) -> Service:
        """Where prompts are sent."""
        return Service("reranker", self.endpoint, self.key, self.timeout)

    def ask(self, prompt: str) -> str:
        """One answer. Raises InputError with what the endpoint said."""
        body = {
            "model": self.model,
            "temperature": 0,
            "max_tokens": 8,
            "messages": [{"role": "user", "content": prompt}],
        }
        answer = self.service().post("chat/completions", body)
        try:
            content = answer["choices"][0]["message"]["content"]
        except (LookupError, TypeError) as error:
            raise self.service().refused(f"no answer came back ({error!r})") from None
        return str(content or "")  # a refusal has no content, and is worth 0

    def label(self) -> str:
        return f"LLM {self.model}"


@dataclass(frozen=True)
class Graded(PairScores):
    reranker: LLM

    def check(self, runtime: Runtime) -> None:
        super().check(runtime)
        # Kept answers may be all that is needed, and need no endpoint.
        if not any(self._answers(runtime).glob("*.json")):
            self.reranker.service().check()

    def _answers(self, runtime: Runtime) -> Path:
        model = self.reranker.model
        named = re.sub(r"[^\w.-]", "_", model)
        return runtime.outputs / "llm" / f"{named}-{_hashed(model)[:6]}"

    def score(self, query: np.ndarray, row: np.ndarray, runtime: Runtime) -> np.ndarray:
        recipe, data = self.reranker, runtime.get(self.data)
        texts = self.request.processed(data, runtime).texts
        products = data.catalogue.all_texts(recipe.fields, recipe.separator)
        prompts = [
            recipe.prompt.replace("{query}", texts[q]).replace("{product}", products[r])
            for q, r in zip(query, row, strict=True)
        ]
        folder = self._answers(runtime)
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{_name(recipe, prompt)}.json" for prompt in prompts]
        missing = {p: text for p, text in zip(paths, prompts, strict=True) if not p.exists()}
        before = sum(1 for _ in folder.glob("*.json"))
        check_budget(recipe.label(), "reranker.budget", recipe.budget, len(missing), before)
        with runtime.progressing("asking the model", len(missing)) as advance:
            for path, prompt in missing.items():
                answer = recipe.ask(prompt)
                kept = {"prompt": prompt, "answer": answer}
                write_whole(path, json.dumps(kept).encode())
                advance(1)
        return np.array([_number(path) for path in paths], dtype=np.float32)


def _name(recipe: LLM, prompt: str) -> str:
    return _hashed(f"{recipe.endpoint}\n{recipe.model}\n{prompt}")


def _hashed(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _number(path: Path) -> float:
    answer = json.loads(path.read_text(encoding="utf-8"))["answer"]
    # "7", "7/10", "Out of 10: 7": the number that is not the scale.
    numbers = [float(digits) for digits in re.findall(r"-?\d+(?:\.\d+)?", answer)]
    graded = [number for number in numbers if 0 <= number <= 10]
    below = [number for number in graded if number < 10]
    return (below or graded or [0.0])[0]
