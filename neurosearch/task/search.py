"""`task=search`: the system's best products for one query, or for one after the other as typed.

`task.text="red mixer"` asks once. Without it there is a prompt with a history (arrow keys), which
lasts from one call to the next; an empty line or Ctrl-D ends it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from neurosearch.core.bounds import setting
from neurosearch.serving.answer import answer, opened_search
from neurosearch.task.base import Job, Task

HISTORY = 1_000  # queries


@dataclass(frozen=True)
class Search(Task):
    """`text`: of the query; None for a prompt. `k`: how many products are printed."""

    text: str | None = None
    k: int = setting(10, least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.text is not None and not self.text.strip():
            raise self.error("text", "is empty: say task.text='red mixer', for example")

    def run(self, job: Job) -> None:
        parts = job.retriever, job.dataset
        if self.text is not None:
            found = answer(*parts, self.text, self.k, job.processing, job.runtime)
            print(f"{job.retriever.label()}: {self.text}")
            _print(found)
            return
        with opened_search(*parts, job.processing, job.runtime, self.k) as search:
            print(f"{job.retriever.label()} on {job.data.label()}; an empty line ends")
            for text in typed(job.runtime.outputs / ".search_history"):
                start = time.perf_counter()
                found = search(text)
                _print(found)
                print(f"{1000 * (time.perf_counter() - start):.0f} ms")


def _print(products: pl.DataFrame) -> None:
    for rank, score, product, title in products.iter_rows():
        print(f"{rank:>4}  {score:>9.4f}  {product}  {title}")
    if products.is_empty():
        print("no product has a word of the query")


def typed(history: Path) -> Iterator[str]:
    """Queries as they are typed, until an empty line or the end of the input.

    Args:
        history: file of earlier queries; of a terminal alone.

    Returns:
        An iterator of texts without blanks at their ends.
    """
    with remembered(history) if sys.stdin.isatty() else nullcontext():
        while True:
            try:
                text = input("query> ").strip()
            except EOFError:
                print()
                return
            if not text:
                return
            yield text


@contextmanager
def remembered(history: Path) -> Iterator[None]:
    """Let the arrow keys bring back earlier queries.

    Args:
        history: file that keeps them.

    Returns:
        A context; the file is written at its end.
    """
    try:
        import readline
    except ImportError:  # Windows
        yield
        return
    with suppress(OSError):
        readline.read_history_file(history)
    readline.set_history_length(HISTORY)
    try:
        yield
    finally:
        with suppress(OSError):
            readline.write_history_file(history)
