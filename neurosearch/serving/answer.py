"""One query, answered live by a system: for looking at results, not for measuring them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.query import QueryProcessor
from neurosearch.core.retrieval import RetrievalRequest, Retriever
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import SPLITS, Dataset

if TYPE_CHECKING:
    import polars as pl


def last_split(dataset: Dataset) -> str:
    """A split whose queries exist: the last one; a live search reads none of them.

    Args:
        dataset: that is searched.

    Returns:
        Its name.
    """
    return next(name for name in reversed(SPLITS) if dataset.has(name))


def live_request(dataset: Dataset, query: QueryProcessor, k: int) -> RetrievalRequest:
    """What a live system is opened with to answer a typed query.

    Args:
        dataset: that is searched.
        query: how the query text is processed first.
        k: products that are wanted.

    Returns:
        The request.
    """
    return RetrievalRequest(query, last_split(dataset), depth=max(k, 100))


def changes(query: QueryProcessor, text: str, runtime: Runtime) -> list[str]:
    """What each step did to a typed query.

    Args:
        query: the steps.
        text: as typed.
        runtime: devices, threads, progress and the store of artifacts.

    Returns:
        One line a step that has something to say.
    """
    notes = query.reader(runtime).read([text])[0].notes
    return [f"{note.step}: {note.why or note.after}" for note in notes]


@contextmanager
def opened_search(
    system: Retriever, data: Artifact[Dataset], query: QueryProcessor, runtime: Runtime, k: int
) -> Iterator[Callable[[str], pl.DataFrame]]:
    """A live system for typed queries.

    Args:
        system: the retriever; what it needs is built first.
        data: that is searched.
        query: how the query text is processed first.
        runtime: devices, threads, progress and the store of artifacts.
        k: products of a query.

    Returns:
        A context that yields a function from a text to `rank`, `score`, `product_id`, `title`, best
        first.

    Raises:
        InputError: the system has no live search.
    """
    import polars as pl

    dataset = runtime.get(data)
    catalogue = dataset.catalogue
    titles = pl.Series("title", catalogue.all_texts(("title",)))
    with system.searcher(data, live_request(dataset, query, k), runtime) as live:

        def search(text: str) -> pl.DataFrame:
            for line in changes(query, text, runtime):
                runtime.say(line)
            rows, scores = live.search([text], k)
            kept = rows[0] >= 0
            return pl.DataFrame(
                {
                    "rank": range(1, int(kept.sum()) + 1),
                    "score": scores[0][kept],
                    "product_id": catalogue.ids.gather(rows[0][kept]),
                    "title": titles.gather(rows[0][kept]),
                }
            )

        yield search


def answer(
    system: Retriever,
    data: Artifact[Dataset],
    text: str,
    k: int,
    query: QueryProcessor,
    runtime: Runtime,
) -> pl.DataFrame:
    """The best products of a built data set for a query text.

    Returns:
        `rank`, `score`, `product_id`, `title`, best first.

    Raises:
        InputError: an empty text, a `k` below 1, or a system that has no live search.
    """
    if not text.strip():
        raise InputError("the query text is empty")
    if k < 1:
        raise InputError(f"k must be at least 1, not {k}")
    with opened_search(system, data, query, runtime, k) as search:
        return search(text)
