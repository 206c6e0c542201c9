"""Rewriting by a language model: a clearer text of the same need.

Encoders read what was written, lexical systems look up the typed words and, with a weight, the new
ones. An empty answer leaves the query as it is. In a chain: `+query@query.steps.rewrite=rewrite
query.order=[spelling,rewrite]`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.query import Query, QueryProcessor, Term
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.query.analyzer import Analyzer
from neurosearch.writer.base import Writer

PROMPT = (
    "Rewrite this search of a customer in an online shop as a short, clear search for the same "
    "product. Answer with the search only.\n{query}"
)
LONGEST = 200  # characters of a rewritten query


@dataclass(frozen=True)
class Rewrite(QueryProcessor):
    """Attributes:
    writer: of the new texts.
    prompt: with {query}.
    weight: of words that only the new text has, for lexical systems.
    analyzer: of the lexical systems.
    """

    writer: Writer
    prompt: str = PROMPT
    weight: float = setting(0.5, above=0)
    analyzer: Analyzer = field(default_factory=Analyzer)

    def __post_init__(self) -> None:
        super().__post_init__()
        if "{query}" not in self.prompt:
            raise self.error("prompt", "does not say where {query} goes")

    def fitted(
        self, data: Artifact[Dataset], before: tuple[QueryProcessor, ...] = ()
    ) -> QueryProcessor:
        return replace(self, writer=self.writer.fitted(data))

    def step(self, runtime: Runtime) -> Callable[[Query], Query]:
        tokenizer = self.analyzer.tokenizer()

        def rewrite(query: Query) -> Query:
            prompt = self.prompt.replace("{query}", query.text)
            ((written,),) = self.writer.write([prompt], runtime)
            lines = written.strip().splitlines()
            text = " ".join(lines[0].strip(" \"'").split())[:LONGEST] if lines else ""
            if not text:
                return query
            typed = set(tokenizer.tokens(query.words))
            new = dict.fromkeys(t for t in tokenizer.tokens(text) if t not in typed)
            terms = [Term(token, self.weight) for token in new]
            return query.rewritten("rewrite", text, terms=terms, why=self.writer.label())

        return rewrite
