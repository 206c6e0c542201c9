"""Generations that nothing refers to: which of an engine's may go.

Only what these outputs have loaded is looked at (`files.owner_of`): other stores, and other
programs, have collections of their own on a server. What an alias points to stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.engine.base import Engine
from neurosearch.engine.files import TESTED, folder_of, name_of, owner_of
from neurosearch.engine.local import Local
from neurosearch.engine.postgres import Postgres
from neurosearch.engine.qdrant_edge import QdrantEdge


def embedded_here(runtime: Runtime) -> Iterator[Engine]:
    """Embedded engines that have files in these outputs.

    Args:
        runtime: whose outputs.

    Returns:
        Engines with their usual settings.
    """
    engines: dict[str, Engine] = {"local": Local(), "qdrant_edge": QdrantEdge()}
    for name, engine in {**engines, "postgres": Postgres()}.items():
        if folder_of(runtime, name).is_dir():
            yield engine


def unused(engine: Engine, runtime: Runtime, kept: set[str]) -> list[str]:
    """Generations of these outputs that are neither kept nor published.

    Args:
        engine: that holds them.
        runtime: whose outputs.
        kept: fingerprints of artifacts that stay.

    Returns:
        Their names.
    """
    mine = name_of(owner_of(runtime), "")
    with engine.session(runtime) as session:
        published = set(session.aliases().values())
        names = [name for name in session.names() if name.startswith(mine)]
    prints = {name: name.removeprefix(mine) for name in names if name not in published}
    return [n for n, f in prints.items() if f not in kept and not f.startswith(TESTED)]


def drop(engine: Engine, runtime: Runtime, names: list[str]) -> int:
    """Delete generations, but for those that another process has open.

    Args:
        engine: that holds them.
        runtime: whose outputs.
        names: from `unused`.

    Returns:
        How many are gone.
    """
    gone = 0
    with engine.session(runtime) as session:
        for name in names:
            with suppress(InputError):  # another process has it open: it goes the next time
                session.drop(name)
                gone += 1
    return gone
