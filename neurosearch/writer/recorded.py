"""Texts from a file: what a model wrote elsewhere, or people did.

A line a text, as JSON: {"prompt": "…", "text": "…"}; the n-th line of a prompt is its n-th sample.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from neurosearch.core.digests import content, content_digest
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.writer.base import Writer


@dataclass(frozen=True)
class Recorded(Writer):
    """`path`: of the file."""

    path: str = content(content_digest)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not Path(self.path).is_file():
            raise self.error("path", f"is no file: {self.path}")

    def check(self, runtime: Runtime) -> None:
        texts_of(Path(self.path))

    def write(
        self,
        prompts: Sequence[str],
        runtime: Runtime,
        samples: int = 1,
        failures: float = 0.0,
        is_live: bool = False,
    ) -> list[list[str]]:
        known = texts_of(Path(self.path))
        lacking = [prompt for prompt in prompts if len(known.get(prompt, ())) < samples]
        if len(lacking) > failures * len(prompts):
            first = f"{len(known.get(lacking[0], ()))} of {samples} texts of {lacking[0][:60]!r}"
            raise InputError(f"{self.path}: {len(lacking)} prompts lack texts, first {first}")
        return [[*known.get(prompt, ()), *[""] * samples][:samples] for prompt in prompts]

    def label(self) -> str:
        return f"recorded ({Path(self.path).stem})"


@cache
def texts_of(path: Path) -> dict[str, tuple[str, ...]]:
    """Texts of each prompt. Raises InputError naming file and line for a bad one."""
    texts: dict[str, tuple[str, ...]] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            prompt, text = row["prompt"], row["text"]
        except (ValueError, LookupError, TypeError) as error:
            message = f"lacks {error}" if isinstance(error, KeyError) else "no prompt and text"
            raise InputError(f"{path}:{number}: {message}") from None
        if not isinstance(prompt, str) or not isinstance(text, str):
            raise InputError(f"{path}:{number}: prompt and text must be strings")
        texts[prompt] = (*texts.get(prompt, ()), text.strip())
    return texts
