"""Synonyms of one's own, from a file in Solr's format, which OpenSearch and Elasticsearch read too.

    # a comment
    tap, faucet, spigot        each stands for all of them
    tv => television, tele     one way, from the left to the right
    led bulb, light bulb       of several words; the longest that matches counts

Only queries are expanded, and each rule once: rules that lead to each other do not go round.
Lexical systems look up the words of the other sides besides, with a weight; what encoders read
stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from neurosearch.core.bounds import setting
from neurosearch.core.digests import content, content_digest
from neurosearch.core.errors import InputError
from neurosearch.core.query import Query, QueryProcessor, Term
from neurosearch.core.runtime import Runtime
from neurosearch.query.analyzer import Analyzer, Tokenizer

Phrase = tuple[str, ...]
Rules = dict[Phrase, dict[Phrase, float]]  # what a phrase stands for, with weights
COMMA, ARROW = re.compile(r"(?<!\\),"), re.compile(r"(?<!\\)=>")


@dataclass(frozen=True)
class Synonyms(QueryProcessor):
    """Attributes:
    path: of the file.
    weight: of words that a list adds.
    one_way_weight: of words that an arrow adds.
    expand: of words in a list, each stands for all; else the first of the list for the others.
    analyzer: of the lexical systems.
    """

    path: str = content(content_digest)
    weight: float = setting(0.5, above=0)
    one_way_weight: float = setting(1.0, above=0)
    expand: bool = True
    analyzer: Analyzer = field(default_factory=Analyzer)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not Path(self.path).is_file():
            raise self.error("path", f"is no file: {self.path}")
        self._rules(self.analyzer.tokenizer())

    def _rules(self, tokenizer: Tokenizer) -> Rules:
        weights = self.weight, self.one_way_weight
        return read_rules(Path(self.path), self.expand, weights, tokenizer)

    def step(self, runtime: Runtime) -> Callable[[Query], Query]:
        tokenizer = self.analyzer.tokenizer()
        rules = self._rules(tokenizer)
        longest = max(map(len, rules), default=0)

        def rewrite(query: Query) -> Query:
            tokens = tokenizer.tokens(query.text)
            terms: list[Term] = []
            why = []
            place = 0
            while place < len(tokens):
                for size in range(min(longest, len(tokens) - place), 0, -1):
                    found = tuple(tokens[place : place + size])
                    if found in rules:
                        others = {p: w for p, w in rules[found].items() if p != found}
                        terms += [
                            Term(t, w) for p, w in others.items() for t in p if t not in tokens
                        ]
                        why.append(f"{' '.join(found)} → {', '.join(map(' '.join, others))}")
                        place += size - 1
                        break
                place += 1
            return query.rewritten("synonyms", terms=terms, why=", ".join(why))

        return rewrite


def read_rules(
    path: Path, expand: bool, weights: tuple[float, float], tokenizer: Tokenizer
) -> Rules:
    """Analysed phrases and what they stand for, of a file in Solr's format.

    Args:
        path: of the file.
        expand: whether each word of a list stands for all, or the first for the others.
        weights: of lists, and of arrows.
        tokenizer: of the lexical systems.

    Raises:
        InputError: a line says nothing; names file and line.
    """
    rules: Rules = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        sides = ARROW.split(line)
        where = f"{path}:{number}"
        if len(sides) > 2:
            raise InputError(f"{where}: more than one =>")
        groups = [_phrases(side, where, tokenizer) for side in sides]
        if len(groups) == 1 and len(groups[0]) < 2:
            raise InputError(f"{where}: a word alone has no synonym (a, b or a => b)")
        if len(groups) == 2:
            left, right = groups
        else:
            left, right = groups[0], groups[0] if expand else groups[0][:1]
        weight = weights[len(groups) - 1]
        for phrase in left:
            known = rules.setdefault(phrase, {})
            known |= {other: max(weight, known.get(other, 0.0)) for other in right}
    return rules


def _phrases(side: str, where: str, tokenizer: Tokenizer) -> list[Phrase]:
    phrases = []
    for part in COMMA.split(side):
        text = part.replace("\\,", ",").replace("\\=>", "=>").strip()
        tokens = tuple(tokenizer.tokens(text))
        if not tokens:
            raise InputError(f"{where}: a side or an entry has no word ({text!r})")
        phrases.append(tokens)
    return phrases
