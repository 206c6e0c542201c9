"""Using a system from Python: type a query, or serve it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from neurosearch.comparison import check_data, default_runtime, logged
from neurosearch.core.bounds import check_name
from neurosearch.core.errors import InputError
from neurosearch.core.query import QueryProcessor
from neurosearch.core.recipe import look_again
from neurosearch.core.retrieval import RetrievalRequest, Retriever
from neurosearch.core.runtime import Runtime
from neurosearch.data.base import Data
from neurosearch.query.analyzer import check_stemmers
from neurosearch.query.none import NoProcessing
from neurosearch.serving.answer import answer, last_split

if TYPE_CHECKING:
    import polars as pl

    from neurosearch.serving.server import ServerSettings
    from neurosearch.serving.systems import Composed

DEPTH = 200  # of the lists, as in tables


def search(
    system: Retriever,
    data: Data,
    text: str,
    k: int = 10,
    *,
    query: QueryProcessor | None = None,
    runtime: Runtime | None = None,
    progress: bool = True,
) -> pl.DataFrame:
    """The best products for a query text.

    Args:
        system: a retriever recipe; what it needs is built first, where it is not there.
        data: the data set that is searched.
        text: of the query.
        k: how many products.
        query: processing of the text; None for none.
        runtime: see `compare`.
        progress: log what is built to stderr.

    Returns:
        `rank`, `score`, `product_id`, `title`, best first.

    Raises:
        InputError: an empty text, a `k` below 1, or a system that has no live search.
    """
    look_again()
    check_data(data)
    if not isinstance(system, Retriever):
        raise InputError(f"system must be a retriever, such as ns.BM25(), not {system!r}")
    if not isinstance(text, str) or not isinstance(k, int):
        raise InputError(f"text must be a string and k a number, not {text!r} and {k!r}")
    runtime = runtime or default_runtime(progress)
    with logged(progress):
        check_stemmers(data, system, query)
        dataset = data.bound(runtime)
        processing = (query or NoProcessing()).fitted(dataset)
        return answer(system, dataset, text, k, processing, runtime)


def serve(
    systems: Retriever | Mapping[str, Retriever],
    data: Data,
    *,
    query: QueryProcessor | None = None,
    depth: int = DEPTH,
    settings: ServerSettings | None = None,
    runtime: Runtime | None = None,
    name: str = "serve",
    progress: bool = True,
) -> None:
    """Serve systems over HTTP, with a search page, until Ctrl-C.

    Args:
        systems: a retriever recipe, or several by name.
        data: the data set that is searched.
        query: processing of query texts; None for none.
        depth: of the lists, as in the table that the systems are known from.
        settings: where to listen, limits, cache, log, keys; None for the defaults.
        runtime: see `compare`.
        name: of the experiment: outputs/jobs/<name> holds the query log.
        progress: log what is built to stderr.

    Raises:
        InputError: a system without a live searcher, or a port that is in use.
    """
    from neurosearch.serving.server import ServerSettings
    from neurosearch.serving.server import serve as run
    from neurosearch.serving.systems import Composed

    named = dict(systems) if isinstance(systems, Mapping) else {"system": systems}
    for system in named.values():
        if not isinstance(system, Retriever):
            raise InputError(f"systems: {system!r} is no retriever, such as ns.BM25()")
    check_data(data)
    check_name(name)
    runtime = runtime or default_runtime(progress)
    folder = Path(runtime.outputs) / "jobs" / name / "serving"

    def compose(further: Mapping[str, list[str]]) -> dict[str, Composed]:
        if further:
            raise InputError("overrides need the command line: ns task=serve")
        look_again()
        own = Runtime(runtime.outputs, device=runtime.device, threads=runtime.threads)
        check_stemmers(data, query, *named.values())
        dataset = data.bound(own)
        split = last_split(own.get(dataset))
        request = RetrievalRequest((query or NoProcessing()).fitted(dataset), split, depth)
        return {one: Composed(system, dataset, request, own) for one, system in named.items()}

    with logged(progress):
        run(settings or ServerSettings(), compose, f"{name}: {data.label()}", folder)
