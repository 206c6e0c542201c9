"""One tokenizer for the words and one for the picture, their codes side by side.

What MMQ is measured against: modalities apart, with nothing shared between them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.tokenizer.base import Quantizer, SemanticTokenizer
from neurosearch.tokenizer.rqvae.recipe import RQVAE
from neurosearch.tokenizer.views import ViewTokenizer


@dataclass(frozen=True)
class PerModality(ViewTokenizer):
    """`member` is fitted twice, with half of `levels` each; its codes are `codes`."""

    member: SemanticTokenizer = field(default_factory=RQVAE)

    has_costs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.levels % 2:
            raise InputError(f"tokenizer.levels={self.levels} can't be halved between modalities")

    @property
    def _each(self) -> SemanticTokenizer:
        return replace(self.member, levels=self.levels // 2, codes=self.codes, seed=self.seed)

    def fit_views(
        self, vectors: np.ndarray, width: int, folder: Path, runtime: Runtime
    ) -> dict[str, Any]:
        details = {}
        for name, part in (("words", slice(0, width)), ("picture", slice(width, None))):
            (folder / name).mkdir(exist_ok=True)
            view = np.ascontiguousarray(vectors[:, part])
            details[name] = self._each.fit(view, folder / name, runtime)
        (folder / "views.json").write_text(json.dumps({"width": width}), encoding="utf-8")
        return details

    def quantizer(self, folder: Path) -> Quantizer:
        width = json.loads((folder / "views.json").read_text(encoding="utf-8"))["width"]
        return SideBySide(
            [self._each.quantizer(folder / name) for name in ("words", "picture")], width
        )


class SideBySide:
    """Two quantizers, one a view."""

    def __init__(self, members: list[Quantizer], width: int) -> None:
        self._members, self._width = members, width
        self.sizes = tuple(size for member in members for size in member.sizes)

    def _views(self, vectors: np.ndarray) -> list[np.ndarray]:
        parts = np.asarray(vectors[:, : self._width]), np.asarray(vectors[:, self._width :])
        return [np.ascontiguousarray(part) for part in parts]

    def assign(self, vectors: np.ndarray, known: bool = False) -> np.ndarray:
        views = zip(self._members, self._views(vectors), strict=True)
        return np.concatenate([member.assign(view, known) for member, view in views], axis=1)

    def decode(self, codes: np.ndarray) -> Iterator[np.ndarray]:
        words, picture = self._members
        half = len(words.sizes)
        blank: np.ndarray | None = None
        known: np.ndarray | None = None
        for known in words.decode(codes[:, :half]):
            if blank is None:
                some = next(iter(picture.decode(codes[:1, half:])))
                blank = np.zeros((len(codes), some.shape[1]), np.float32)
            yield np.concatenate([known, blank], axis=1)
        if codes.shape[1] > half and known is not None:
            for seen in picture.decode(codes[:, half:]):
                yield np.concatenate([known, seen], axis=1)

    def costs(self, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
        half = len(self._members[0].sizes)
        return self._members[1].costs(self._views(vectors)[1], codes[:, half:])
