"""Query processing: what is read of a query, and the role that rewrites it.

Encoders and re-rankers read `Query.text`. Lexical systems look up the words of `Query.words`, and
the weighted `terms`, such as a misspelt word's correction beside the word itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from neurosearch.core.artifact import Artifact
from neurosearch.core.recipe import Recipe
from neurosearch.core.stages import stage

if TYPE_CHECKING:
    from neurosearch.core.runtime import Runtime
    from neurosearch.core.types import Dataset


TURN = "\u241e"  # between what was asked before and what is asked now (a separator's symbol)


@dataclass(frozen=True)
class Term:
    """A token, as the analyser gives it, that lexical systems look up with a weight."""

    token: str
    weight: float


@dataclass(frozen=True)
class Note:
    """What a step changed, and why."""

    step: str
    before: str
    after: str
    why: str = ""


@dataclass(frozen=True)
class Query:
    """A query on its way through the steps.

    Attributes:
        text: what encoders and re-rankers read.
        words: what lexical systems analyse; as typed where a step only adds terms.
        terms: what lexical systems look up besides.
        notes: the changes, in order.
    """

    text: str
    words: str
    terms: tuple[Term, ...] = ()
    notes: tuple[Note, ...] = ()

    @classmethod
    def of(cls, text: str) -> Query:
        """The query as it was typed.

        Args:
            text: as typed.

        Returns:
            A query that no step has changed.
        """
        return cls(text, text)

    def rewritten(
        self,
        step: str,
        text: str | None = None,
        words: str | None = None,
        terms: Sequence[Term] = (),
        why: str = "",
    ) -> Query:
        """This query with a step's changes, noted; itself where there are none.

        A token that has a weight already keeps the larger one.

        Args:
            step: the step's name.
            text: what encoders read from now on; None for no change.
            words: what lexical systems analyse from now on; None for no change.
            terms: tokens that lexical systems look up besides.
            why: the reason, for the page.

        Returns:
            The changed query, with a note.
        """
        text = self.text if text is None else text
        words = self.words if words is None else words
        weights = {term.token: term.weight for term in self.terms}
        added = []
        for term in terms:
            if term.weight > weights.get(term.token, 0.0):
                weights[term.token] = term.weight
                added.append(term)
        if (text, words) == (self.text, self.words) and not added:
            return self
        shown = [] if text == self.text and added else [text]
        shown += [f"+ {term.token}^{term.weight:.2g}" for term in added]
        note = Note(step, self.text, " ".join(shown), why)
        kept = tuple(Term(token, weight) for token, weight in weights.items())
        return replace(self, text=text, words=words, terms=kept, notes=(*self.notes, note))

    def noted(self, step: str, why: str) -> Query:
        """This query, unchanged, with a remark for the reader.

        Args:
            step: the step's name.
            why: the remark.

        Returns:
            The same query with a note.
        """
        return replace(self, notes=(*self.notes, Note(step, self.text, self.text, why)))


class Reader:
    """A ready query processing: typed texts in, what is read of them out."""

    def __init__(self, step: Callable[[Query], Query]) -> None:
        self._step = step

    def read(self, texts: Sequence[str]) -> list[Query]:
        """The queries after all steps.

        Args:
            texts: N texts, as typed.

        Returns:
            N queries.
        """
        with stage("process"):
            return [self._step(Query.of(text)) for text in texts]

    def texts(self, texts: Sequence[str]) -> list[str]:
        """What encoders and re-rankers read.

        Args:
            texts: N texts, as typed.

        Returns:
            N texts.
        """
        return [query.text for query in self.read(texts)]


@dataclass(frozen=True)
class QueryProcessor(Recipe):
    """Base of query processing: a step, or a chain of steps.

    A rewrite must be idempotent and never empty a query. One that needs no data has `process`; one
    that learns from a data set has `fitted` and `step`.

    Class attributes:
        planted: it puts errors into what is asked, to measure what they cost; later steps learn
            from queries without them.
    """

    planted: ClassVar[bool] = False

    def process(self, texts: list[str]) -> list[str]:
        """The rewritten texts, in order.

        Args:
            texts: N texts, as typed or as earlier steps leave them.

        Returns:
            N texts.
        """
        raise TypeError(f"{type(self).__name__} does not say how it rewrites")

    def fitted(
        self, data: Artifact[Dataset], before: tuple[QueryProcessor, ...] = ()
    ) -> QueryProcessor:
        """The processing with what it learns from a data set; itself where it learns nothing.

        Args:
            data: its products, train queries and train judgments are learnt from.
            before: the fitted steps that a query passes first.

        Returns:
            A processing whose `step` works without `data`.

        Raises:
            InputError: the data set lacks what is learnt from.
        """
        return self

    def step(self, runtime: Runtime) -> Callable[[Query], Query]:
        """The function that rewrites a query. What was learnt is loaded, or built, first.

        Args:
            runtime: devices, threads, progress and the store of artifacts.

        Returns:
            From a query to the query after this step.

        Raises:
            InputError: it learns from a data set, and was not fitted.
        """
        name = type(self).__name__.lower()

        def rewrite(query: Query) -> Query:
            (text,) = self.process([query.text])
            words = text if query.words == query.text else self.process([query.words])[0]
            return query.rewritten(name, text, words)

        return rewrite

    def reader(self, runtime: Runtime) -> Reader:
        """The processing, ready for texts.

        Args:
            runtime: devices, threads, progress and the store of artifacts.

        Returns:
            What reads typed texts.
        """
        return Reader(self.step(runtime))
