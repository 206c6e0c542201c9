"""Chorus: electronics of Icecat with graded queries (project querqy/chorus), shaped as BEIR.

`corpus.jsonl` (or `.gz`), `queries.jsonl`, `qrels/{dev,test}.tsv`; grades 0 to 3, of three
raters. There is no train split: it shows what systems learnt elsewhere are worth here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neurosearch.data.beir import Beir


@dataclass(frozen=True)
class Chorus(Beir):
    """`path`: the folder."""

    choice: ClassVar[str] = "chorus"
