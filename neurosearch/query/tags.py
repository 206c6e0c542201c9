"""Words of a query that name a brand, a colour or a size, and words that it does not want.

Brands and colours are those of the catalogue's fields; the longest match counts. Sizes are numbers
with a unit, or joined by x (2x4). A negation (without, no, not, non, free of) reaches over the next
two words. Lexical systems look up tagged words with `boost` besides, and unwanted words with
`unwanted` in place of 1; what encoders read stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from neurosearch.core.bounds import setting
from neurosearch.core.query import Query, Reader, Term
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, check_fields
from neurosearch.query.analyzer import Analyzer
from neurosearch.query.learning import LearningStep
from neurosearch.query.vocabulary import words_of

NEGATION = re.compile(
    r"\b(?:without|non|not|no|free of)\b[\s-]+((?:[^\W_][\w-]*\s*){1,2})", re.IGNORECASE
)
UNITS = "in|inch|ft|foot|feet|yd|mm|cm|m|oz|lb|lbs|gal|ml|l|w|watt|v|volt|amp|qt|pt|pk|pack"
SIZE = re.compile(rf"\b\d+(?:[./]\d+)?(?:\s?(?:{UNITS})|(?:\s?x\s?\d+(?:[./]\d+)?)+)\b", re.I)
LONGEST = 4  # words of a name
Lexicon = dict[tuple[str, ...], str]  # the words of a name, and what it is


@dataclass(frozen=True)
class Tags(LearningStep):
    """Attributes:
    boost: weight that a tagged word gets besides its own.
    unwanted: weight of a word that a negation reaches.
    fields: of products, whose whole values are names; a tag is called after its field.
    products: that have a value, for it to be a name.
    analyzer: of the lexical systems.
    """

    boost: float = setting(0.5, above=0)
    unwanted: float = setting(0.5, least=0, most=1)
    fields: tuple[str, ...] = ("brand", "colour")
    products: int = setting(3, least=1)
    analyzer: Analyzer = field(default_factory=Analyzer)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields("query.fields", self.fields)

    def learn(self, data: Dataset, read: Reader, folder: Path, runtime: Runtime) -> dict[str, Any]:
        rows: list[tuple[str, str]] = []
        for name in self.fields:
            values = pl.Series(data.catalogue.all_texts((name,)), dtype=pl.String)
            counts = values.value_counts()
            known = counts.filter(pl.col("count") >= self.products)[counts.columns[0]]
            language = self.analyzer.stemmer
            names = {" ".join(words_of(value, language)) for value in known}
            rows += [(name, value) for value in sorted(names) if self._is_name(value)]
        table = pl.DataFrame(rows, {"tag": pl.String, "name": pl.String}, orient="row")
        table.write_parquet(folder / "names.parquet")
        if table.is_empty():
            runtime.say(
                f"tags: no product has {' or '.join(self.fields)}; sizes and negations only"
            )
        return dict(table["tag"].value_counts().iter_rows())

    def _is_name(self, value: str) -> bool:
        return 0 < len(value.split()) <= LONGEST and not value.isdigit() and len(value) > 2

    def load(self, folder: Path) -> Lexicon:
        stored = pl.read_parquet(folder / "names.parquet", glob=False)
        pairs = reversed(list(stored.iter_rows()))  # of two fields with a name, the first counts
        return {tuple(name.split()): tag for tag, name in pairs}

    def rewriter(self, learnt: Lexicon) -> Callable[[Query], Query]:
        tokenizer = self.analyzer.tokenizer()

        def rewrite(query: Query) -> Query:
            unwanted = [match.span(1) for match in NEGATION.finditer(query.words)]
            words, refused = query.words, list[str]()
            for begin, end in reversed(unwanted):
                refused += [words[begin:end].strip()]
                words = f"{words[:begin]}{words[end:]}".strip()
            found = _named(words_of(words, self.analyzer.stemmer), learnt)
            found += [(match.group(), "size") for match in SIZE.finditer(words)]
            wanted = dict.fromkeys(t for text, _ in found for t in tokenizer.tokens(text))
            terms = [Term(token, self.boost) for token in wanted]
            if self.unwanted:
                others = dict.fromkeys(t for text in refused for t in tokenizer.tokens(text))
                terms += [Term(t, self.unwanted) for t in others if t not in wanted]
            why = [f"{text}: {tag}" for text, tag in found]
            why += [f"{text}: not wanted" for text in refused]
            kept = words if words else query.words  # a query is never emptied
            return query.rewritten("tags", words=kept, terms=terms, why=", ".join(why))

        return rewrite


def _named(words: list[str], lexicon: Lexicon) -> list[tuple[str, str]]:
    """The names among the words, each word in one at most, the longest first."""
    found: list[tuple[str, str]] = []
    place = 0
    while place < len(words):
        sizes = range(min(LONGEST, len(words) - place), 0, -1)
        names = (tuple(words[place : place + size]) for size in sizes)
        name = next((name for name in names if name in lexicon), None)
        if name is not None:
            found.append((" ".join(name), lexicon[name]))
        place += 1 if name is None else len(name)
    return found
