"""Running the service: everything opened in order, served by uvicorn, closed in order."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.machine import log
from neurosearch.core.recipe import Recipe
from neurosearch.core.store import write_whole
from neurosearch.serving.settings import Batching, Caching, Limits, Logging
from neurosearch.trial.served import ServedTrial

if TYPE_CHECKING:
    from neurosearch.serving.systems import Compose

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class ServerSettings(Recipe):
    """Attributes:
    host, port: where it listens; port 0 takes a free one.
    limits, batching, cache, log: see `settings`.
    keys: environment variables that hold API keys; none for no keys (on this machine alone).
    admin_keys: environment variables that hold keys of /admin/; none closes it.
    origins: web pages that may ask from a browser (CORS), such as `https://shop.example`.
    trial: of two systems on the callers; None for none.
    """

    host: str = "127.0.0.1"
    port: int = setting(8000, least=0, most=65_535)
    limits: Limits = field(default_factory=Limits)
    batching: Batching = field(default_factory=Batching)
    cache: Caching = field(default_factory=Caching)
    log: Logging = field(default_factory=Logging)
    keys: tuple[str, ...] = ()
    admin_keys: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    trial: ServedTrial | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.host not in LOOPBACK and not self.keys:
            message = f"is {self.host!r}, which others can reach: name API keys in server.keys"
            raise self.error("host", message)


@contextmanager
def opened_service(
    settings: ServerSettings, compose: Compose, title: str, folder: Path
) -> Iterator[Any]:
    """Everything that answers requests, warm.

    Args:
        settings: of the server.
        compose: from overrides by system to systems (`systems.Composed`) by name.
        title: of the pages.
        folder: of the job: query log, and the record that keeps artifacts from being pruned.

    Returns:
        A context that yields the ASGI application; the application closes what it holds when its
        lifespan ends.

    Raises:
        InputError: for what can't work, before a port is opened.
    """
    from neurosearch.serving import cache
    from neurosearch.serving.access import Keys
    from neurosearch.serving.cursors import Cursors
    from neurosearch.serving.encoding import Encoders
    from neurosearch.serving.metrics import Metrics
    from neurosearch.serving.pool import Pool
    from neurosearch.serving.querylog import QueryLog
    from neurosearch.serving.routes import application
    from neurosearch.serving.service import Service
    from neurosearch.serving.systems import Generation, Generations, checked_names

    keys = Keys(settings.keys, "task.server.keys")
    admin = Keys(settings.admin_keys, "task.server.admin_keys")
    metrics = Metrics()
    encoders = Encoders(settings.batching, settings.cache.vectors, metrics)
    kept = cache.opened(settings.cache)
    logs = folder / "log" if settings.log.folder is None else Path(settings.log.folder)
    composed = compose({})
    checked_names(list(composed))
    if settings.trial is not None:
        settings.trial.names(composed)
    first = Generation.open(composed, encoders.scope(), builds=True)
    try:
        service = Service(
            generations=Generations(first),
            pool=Pool(settings.limits, metrics),
            cache=kept,
            encoders=encoders,
            cursors=Cursors(secrets.token_bytes(32)),
            log=QueryLog(logs, settings.log, title, metrics),
            metrics=metrics,
            limits=settings.limits,
            keys=keys,
            admin=admin,
            compose=compose,
            title=title,
            on_swap=lambda generation: keep(folder / "served", generation),
            trial=settings.trial,
        )
        app: Any = application(service)
        if settings.origins:
            from starlette.middleware.cors import CORSMiddleware

            headers = ("authorization", "content-type", "x-api-key")
            app = CORSMiddleware(app, settings.origins, ("GET", "POST"), headers)
        yield app
    finally:
        shutil.rmtree(folder / "served", ignore_errors=True)


def keep(folder: Path, generation: Any) -> None:
    """Write a record of what is served, which `task=prune` respects as a job's record.

    The record of the generation before stays: it may be rolled back to.

    Args:
        folder: of the record.
        generation: that is served from now on.
    """
    before = folder / "now" / "record.json"
    if before.exists():
        (folder / "before").mkdir(exist_ok=True)
        before.replace(folder / "before" / "record.json")
    (folder / "now").mkdir(parents=True, exist_ok=True)
    artifacts = [event for system in generation.systems.values() for event in system.artifacts]
    systems = {
        name: {"fingerprint": system.fingerprint, "artifacts": system.addresses}
        for name, system in generation.systems.items()
    }
    record = {"systems": systems, "artifacts": artifacts}
    write_whole(before, json.dumps(record, indent=1).encode())


def serve(settings: ServerSettings, compose: Compose, title: str, folder: Path) -> None:
    """Serve until SIGINT or SIGTERM; requests in flight are answered first.

    Args:
        settings: of the server.
        compose: see `opened_service`.
        title: of the pages.
        folder: of the job.

    Raises:
        InputError: for what can't work, and for a port that is in use.
    """
    import uvicorn

    with opened_service(settings, compose, title, folder) as app:
        options = uvicorn.Config(
            app,
            settings.host,
            settings.port,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=int(settings.limits.drain_seconds),
            lifespan="on",
        )
        server = uvicorn.Server(options)
        sockets = _listening(settings)
        host, port = sockets[0].getsockname()[:2]
        address = f"[{host}]" if ":" in host else host
        log.info("serving %s at http://%s:%d (Ctrl-C ends it)", title, address, port)
        with suppress(KeyboardInterrupt):  # raised again by uvicorn, when all is closed
            server.run(list(sockets))


def _listening(settings: ServerSettings) -> Sequence[Any]:
    """A socket of our own: an address in use is an error of one line."""
    import socket

    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((settings.host, settings.port))
    except OSError as error:
        made.close()
        where = f"task.server.host={settings.host} task.server.port={settings.port}"
        raise InputError(f"{where}: {error.strerror}; port 0 takes a free one") from None
    made.set_inheritable(True)
    return [made]
