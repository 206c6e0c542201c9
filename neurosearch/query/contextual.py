"""Follow-up queries: "sofa ␞ in blue" asks for a blue sofa; a new type of product begins anew.

Turns are separated by ␞ (U+241E), the oldest first. `carry=rules` keeps what was asked before
where the last turn names no type of product, and drops from it words of the facets that the last
turn says anew, such as another colour. `everything` joins the turns, `nothing` reads the last one.
Types are the last parts of the products' categories; colours are those of the colour field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from neurosearch.core.bounds import setting
from neurosearch.core.query import TURN, Query, Reader
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.query.learning import LearningStep
from neurosearch.query.vocabulary import words_of

CARRY = ("rules", "everything", "nothing")
FILLER = frozenset(["in", "one", "made", "of", "the", "a", "with", "and", "for", "but", "it"])
Facets = dict[str, set[str]]  # words of types and of colours


@dataclass(frozen=True)
class Contextual(LearningStep):
    """Attributes:
    carry: what is kept of earlier turns.
    language: of the stemmer.
    """

    carry: str = setting("rules", choices=CARRY)
    language: str = "english"

    def learn(self, data: Dataset, read: Reader, folder: Path, runtime: Runtime) -> dict[str, Any]:
        found: dict[str, list[str]] = {}
        for name, column in (("type", "category"), ("colour", "colour")):
            values = pl.Series(data.catalogue.all_texts((column,)), dtype=pl.String)
            leaves = values.str.split(">").list.last().str.strip_chars().unique()
            words = {word for value in leaves for word in words_of(value, self.language)}
            found[name] = sorted(words - FILLER)
        (folder / "facets.json").write_text(json.dumps(found), encoding="utf-8")
        if not found["type"]:
            runtime.say("contextual: no product has a category; every turn is read as a follow-up")
        return {name: len(words) for name, words in found.items()}

    def load(self, folder: Path) -> Facets:
        stored = json.loads((folder / "facets.json").read_text("utf-8"))
        return {name: set(words) for name, words in stored.items()}

    def rewriter(self, learnt: Facets) -> Callable[[Query], Query]:
        def rewrite(query: Query) -> Query:
            turns = [part.strip() for part in query.text.split(TURN)]
            turns = [turn for turn in turns if turn]
            if len(turns) < 2:
                return query
            text = self._joined(turns, learnt)
            return query.rewritten("contextual", text, text, why=f"after {' / '.join(turns[:-1])}")

        return rewrite

    def _joined(self, turns: list[str], facets: Facets) -> str:
        if self.carry == "nothing":
            return turns[-1]
        if self.carry == "everything":
            return " ".join(turns)
        text = turns[0]
        for turn in turns[1:]:
            said = set(words_of(turn, self.language))
            if said & facets["type"]:
                text = turn
                continue
            kept = text.split()
            if said & facets["colour"]:
                kept = [w for w in kept if not set(words_of(w, self.language)) & facets["colour"]]
            new = [w for w in re.findall(r"\S+", turn) if w.lower() not in FILLER]
            text = " ".join([*new, *kept])
        return text or turns[-1]
