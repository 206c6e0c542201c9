"""A language model behind any OpenAI-compatible endpoint (chat completions).

Off by default: it costs money and sends prompts, which hold queries and titles, to the endpoint's
operator.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from neurosearch.core.bounds import setting
from neurosearch.core.endpoint import Service
from neurosearch.core.runtime import Runtime
from neurosearch.writer.base import KeptWriter, Text


@dataclass(frozen=True)
class Endpoint(KeptWriter):
    """Attributes:
    model: as the endpoint calls it.
    endpoint: the base URL; the key is in the environment variable that `key` names.
    system: what the model is told before every prompt; empty for nothing.
    timeout: seconds, of a text.
    The rest: see `KeptWriter`.
    """

    model: str = ""
    endpoint: str = "http://localhost:8000/v1"
    key: str = setting("OPENAI_API_KEY", identity=False)
    system: str = ""
    timeout: float = setting(60.0, above=0, identity=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.model:
            raise self.error("model", "is empty; the endpoint's name of the model is needed")

    def check(self, runtime: Runtime) -> None:
        # Kept texts may be all that is needed, and need no endpoint.
        if not len(self._answers(runtime)):
            self._service().check()

    def _service(self) -> Service:
        return Service(self.role, self.endpoint, self.key, self.timeout)

    def _asked(self, prompt: str, sample: int, runtime: Runtime) -> Text:
        told = [{"role": "system", "content": self.system}] if self.system else []
        body: dict[str, Any] = {
            "model": self.model,
            "temperature": self.temperature,
            "max_tokens": self.most_tokens,
            "messages": [*told, {"role": "user", "content": prompt}],
        }
        if self.temperature:
            body["seed"] = self.seed + sample
        start = time.perf_counter()
        answer = self._service().post("chat/completions", body)
        try:
            content = answer["choices"][0]["message"]["content"]
            used = (answer.get("usage") or {}).get("total_tokens") or 0
        except (LookupError, TypeError, AttributeError) as error:
            raise self._service().refused(f"no text came back ({error!r})") from None
        # A refusal has no content.
        return Text(str(content or "").strip(), int(used), time.perf_counter() - start)

    def label(self) -> str:
        return self.model
