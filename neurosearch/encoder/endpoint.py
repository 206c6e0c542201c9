"""Embeddings of a service: OpenAI's, Cohere's, or text-embeddings-inference, and what speaks so.

Off by default: it costs money and sends queries and products to the service's operator. Vectors are
kept under outputs/answers by service, model, side and text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.endpoint import Answers, Service, check_budget, key_of
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.encoder.base import Encoder, LiveEncoder
from neurosearch.nn.tokens import character_lengths

APIS = ("openai", "cohere", "tei")


@dataclass(frozen=True)
class Endpoint(Encoder):
    """Attributes:
    model: as the service calls it.
    endpoint: the base URL; the key is in the environment variable that `key` names.
    api: whose protocol: `openai`, `cohere` or `tei`.
    dimensions: of the vectors, where the service can be told; None for its own.
    batch_size: texts of a call; text-embeddings-inference takes 32 unless told otherwise.
    budget: texts that may be sent for this model, at most, those of earlier runs included.
    timeout: seconds, of a call.
    """

    model: str = ""
    endpoint: str = "http://localhost:8000/v1"
    api: str = setting("openai", choices=APIS)
    key: str = setting("OPENAI_API_KEY", identity=False)
    dimensions: int | None = setting(None, least=1)
    batch_size: int = setting(32, least=1, identity=False)
    budget: int = setting(10_000, least=0, identity=False)
    timeout: float = setting(60.0, above=0, identity=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.api == "tei" and self.dimensions is not None:
            raise self.error("dimensions", "can't be chosen of text-embeddings-inference")

    def check(self, runtime: Runtime) -> None:
        # Kept answers may be all that is needed, and need no service.
        if not len(self.answers(runtime)):
            self.service().check()

    def live(self, runtime: Runtime, weights: Path | None = None) -> LiveEncoder:
        return LiveEndpoint(self, runtime)

    def loaded(self, runtime: Runtime, data: Artifact[Dataset]) -> LiveEncoder:
        # Live queries are sent always: what a kept answer takes is not the service's latency.
        return self.prefixed(LiveEndpoint(self, runtime, is_live=True))

    def service(self) -> Service:
        """Where texts are sent."""
        return Service("encoder", self.endpoint, self.key, self.timeout)

    def answers(self, runtime: Runtime) -> Answers:
        """The vectors that are kept."""
        name = key_of(self.endpoint, self.model, str(self.dimensions))[:12]
        return Answers(runtime.outputs / "answers" / f"embeddings-{name}.sqlite")

    def label(self) -> str:
        return f"{self.model or self.api} (endpoint)"


class LiveEndpoint:
    """A service's embeddings, scaled to length 1.

    Raises:
        InputError: the budget would be exceeded, or the service gave something else than vectors.
    """

    def __init__(
        self, recipe: Endpoint, runtime: Runtime, side: str = "query", is_live: bool = False
    ) -> None:
        self._recipe, self._runtime, self._side = recipe, runtime, side
        self._is_live = is_live
        self._answers = recipe.answers(runtime)
        self.dimensions = self.encode(["product"]).shape[1]

    def for_products(self) -> LiveEndpoint:
        return LiveEndpoint(self._recipe, self._runtime, "document", self._is_live)

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        # Asked of a whole collection, before any of it is sent.
        self._missing(self._keys(texts), texts)
        return character_lengths(texts)

    def _keys(self, texts: Sequence[str]) -> list[str]:
        side = self._side if self._recipe.api == "cohere" else ""  # others know no sides
        return [key_of(self._recipe.api, side, text) for text in texts]

    def _missing(
        self, keys: list[str], texts: Sequence[str]
    ) -> tuple[dict[str, str], dict[str, bytes]]:
        """Texts that are not known, and the vectors that are, by key; checks the budget."""
        recipe, known = self._recipe, self._answers.known(keys)
        missing = {k: text for k, text in zip(keys, texts, strict=True) if k not in known}
        if missing:
            parts = recipe.budget, len(missing), len(self._answers)
            check_budget(recipe.label(), "encoder.budget", *parts)
        return missing, known

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        recipe, keys = self._recipe, self._keys(texts)
        missing, known = self._missing(keys, texts)
        if self._is_live:
            missing = dict(zip(keys, texts, strict=True))
        questions = list(missing.items())
        for start in range(0, len(questions), recipe.batch_size):
            part = questions[start : start + recipe.batch_size]
            vectors = self._asked([text for _, text in part])
            fresh = {k: v.tobytes() for (k, _), v in zip(part, vectors, strict=True)}
            self._answers.keep(fresh)
            known |= fresh
        whole = np.stack([np.frombuffer(known[k], dtype=np.float32) for k in keys])
        lengths = np.linalg.norm(whole, axis=1, keepdims=True)
        scaled: np.ndarray = whole / np.maximum(lengths, 1e-12)
        return scaled

    def stream(self, collections: Iterable[Sequence[str]]) -> Iterator[np.ndarray]:
        return map(self.encode, collections)

    def _asked(self, texts: list[str]) -> np.ndarray:
        """N×D float32 of one call."""
        recipe, service = self._recipe, self._recipe.service()
        size = {} if recipe.dimensions is None else {"dimensions": recipe.dimensions}
        try:
            vectors = _vectors(recipe, service, texts, self._side, size)
            array = np.asarray(vectors, dtype=np.float32)
        except (LookupError, TypeError, ValueError) as error:
            raise service.refused(f"no embeddings came back ({error!r})") from None
        width = getattr(self, "dimensions", recipe.dimensions)  # known after the first text
        shaped = array.ndim == 2 and len(array) == len(texts) and array.shape[1] > 0
        if shaped and not np.isfinite(array).all():
            raise service.refused("an embedding has a number that is not finite")
        if not shaped or width not in (None, array.shape[1]):
            raise service.refused(f"{len(texts)} texts gave numbers of the shape {array.shape}")
        return array


def _vectors(
    recipe: Endpoint, service: Service, texts: list[str], side: str, size: dict[str, Any]
) -> list[list[float]]:
    if recipe.api == "tei":
        answer: list[list[float]] = service.post("embed", {"inputs": texts, "truncate": True})
        return answer
    if recipe.api == "cohere":
        body = {"model": recipe.model, "texts": texts, "input_type": f"search_{side}"}
        more: dict[str, Any] = {"embedding_types": ["float"], "truncate": "END"}
        if size:
            more["output_dimension"] = recipe.dimensions
        found: list[list[float]] = service.post("embed", {**body, **more})["embeddings"]["float"]
        return found
    body = {"model": recipe.model, "input": texts, "encoding_format": "float", **size}
    by_place = {
        int(row["index"]): row["embedding"] for row in service.post("embeddings", body)["data"]
    }
    return [by_place[number] for number in range(len(texts))]
