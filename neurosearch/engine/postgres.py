"""PostgreSQL with pgvector: any server by its DSN, or one of our own (`embedded`).

A generation is a schema with two tables. `products` has a vector each, under a graph (HNSW), and
the fields. `postings` has, for every batch that was loaded and every term, the products and their
weights in arrays, as a segment of Lucene has: BM25 is a sum over a few rows, which `tsvector` and
`ts_rank` are not. A product that is replaced belongs to a newer batch, and its old weights count no
more. A batch is one transaction: what a kill interrupts is not there.

Filters: few products (`FEW`) are scored one by one, exactly. Of more, the graph is scanned until
enough pass (`hnsw.iterative_scan`): by default pgvector filters what one scan has found, and most
of a list is lost.

Passwords belong into PGPASSWORD, ~/.pgpass or a service file, never into a config.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError, first_line
from neurosearch.core.runtime import Runtime
from neurosearch.engine.base import PREFIX, Engine, Session, Shape
from neurosearch.engine.files import NAME, check_alias, check_secret, folder_of
from neurosearch.engine.postgres_tables import PostgresCollection

LEAST = (0, 8)  # of pgvector: the first with iterative scans
CONNECTIONS = 16


@dataclass(frozen=True)
class Postgres(Engine):
    """Attributes:
    dsn: of a server, such as `postgresql://me@host/shop?sslmode=verify-full`; libpq's environment
        and files fill in what it leaves out.
    embedded: a server of our own, in outputs/engines/postgres.
    stored: numbers of vectors: `float` (4 bytes) or `half` (2).
    """

    dsn: str | None = setting(None, identity=False)
    embedded: bool = setting(True, identity=False)
    stored: str = setting("float", choices=("float", "half"))

    title: ClassVar[str] = "PostgreSQL"

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.dsn is None) != self.embedded:
            raise self.error("dsn", "goes with retriever.engine.embedded=false")
        check_secret(self, "dsn", self.dsn)

    @property
    def is_embedded(self) -> bool:
        return self.embedded

    @contextmanager
    def session(self, runtime: Runtime) -> Iterator[Session]:
        try:
            import psycopg
            from psycopg_pool import ConnectionPool, PoolTimeout
        except ImportError:
            message = 'engine=postgres needs pip install "neurosearch[engines]"'
            raise InputError(message) from None
        if self.dsn is None:
            from neurosearch.engine.embedded_postgres import started

            dsn = started(folder_of(runtime, "postgres"))
        else:
            dsn = self.dsn
        options = f"-c statement_timeout={max(1, int(1000 * self.timeout))} -c jit=off"
        options += " -c max_parallel_workers_per_gather=0 -c client_min_messages=warning"
        limit = max(2, int(self.timeout))
        ways: dict[str, Any] = {"connect_timeout": limit, "options": options, "autocommit": True}
        try:  # the pool would try again and again, and say only that it did
            psycopg.connect(dsn, **ways).close()
        except psycopg.OperationalError as error:
            raise InputError(f"retriever.engine.dsn: {_said(error)}") from None
        except psycopg.ProgrammingError as error:
            raise InputError(
                f"retriever.engine.dsn is no connection string: {_said(error)}"
            ) from None
        pool = ConnectionPool(dsn, kwargs=ways, min_size=1, max_size=CONNECTIONS, open=False)
        try:
            with pool:
                opened = PostgresSession(self, pool)
                opened.prepare()
                yield opened
        except PoolTimeout as error:
            raise InputError(f"retriever.engine.dsn: {_said(error)}") from None
        except psycopg.errors.QueryCanceled:
            message = f"a call took longer than retriever.engine.timeout={self.timeout:g} s"
            raise InputError(f"PostgreSQL: {message}") from None
        except psycopg.OperationalError as error:
            raise InputError(f"PostgreSQL: {_said(error)}") from None


class PostgresSession(Session):
    """A pool of connections."""

    def __init__(self, recipe: Postgres, pool: Any) -> None:
        self.recipe, self.pool = recipe, pool

    def prepare(self) -> None:
        """Make sure of pgvector and of the table of aliases.

        Raises:
            InputError: pgvector is missing or too old, or the user may not create schemas.
        """
        import psycopg

        with self.pool.connection() as link:
            try:
                link.execute("SELECT pg_advisory_lock(hashtext(%s))", (PREFIX,))
                link.execute("CREATE EXTENSION IF NOT EXISTS vector")
                link.execute(f"CREATE SCHEMA IF NOT EXISTS {PREFIX}")
                link.execute(
                    f"CREATE TABLE IF NOT EXISTS {PREFIX}.aliases "
                    "(alias text PRIMARY KEY, generation text NOT NULL)"
                )
            except psycopg.Error as error:
                raise InputError(f"retriever.engine.dsn: {_said(error)}") from None
            finally:
                link.execute("SELECT pg_advisory_unlock(hashtext(%s))", (PREFIX,))
            asked = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
            version = link.execute(asked).fetchone()[0]
        if tuple(int(part) for part in version.split(".")[:2]) < LEAST:
            wanted = ".".join(map(str, LEAST))
            message = f"the server's pgvector is {version}, and {wanted} or newer is needed"
            raise InputError(f"retriever.engine.dsn: {message} (ALTER EXTENSION vector UPDATE)")

    def names(self) -> list[str]:
        with self.pool.connection() as link:
            rows = link.execute("SELECT nspname FROM pg_namespace ORDER BY 1").fetchall()
        return [name for (name,) in rows if NAME.fullmatch(name)]

    def collection(self, name: str, shape: Shape) -> PostgresCollection:
        return PostgresCollection(self.recipe, self.pool, name, shape)

    def drop(self, name: str) -> None:
        if name not in self.names():
            return
        with self.pool.connection() as link, link.transaction():
            asked = f"SELECT alias FROM {PREFIX}.aliases WHERE generation = %s"
            for (alias,) in link.execute(asked, (name,)).fetchall():
                link.execute(f"DROP VIEW IF EXISTS {PREFIX}.{alias}")
            link.execute(f"DELETE FROM {PREFIX}.aliases WHERE generation = %s", (name,))
            link.execute(f"DROP SCHEMA {name} CASCADE")

    def aliases(self) -> dict[str, str]:
        with self.pool.connection() as link:
            return dict(link.execute(f"SELECT alias, generation FROM {PREFIX}.aliases").fetchall())

    def switch(self, alias: str, name: str) -> None:
        check_alias(alias, name, self.names())
        with self.pool.connection() as link, link.transaction():
            link.execute(f"DROP VIEW IF EXISTS {PREFIX}.{alias}")
            link.execute(f"CREATE VIEW {PREFIX}.{alias} AS SELECT * FROM {name}.products")
            link.execute(
                f"INSERT INTO {PREFIX}.aliases VALUES (%s, %s) "
                "ON CONFLICT (alias) DO UPDATE SET generation = excluded.generation",
                (alias, name),
            )


def _said(error: BaseException) -> str:
    """The server's own words, on one line."""
    return first_line(error).removeprefix("connection failed: ")
