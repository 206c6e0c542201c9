"""PostgreSQL: what is refused, and in which words."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.engine import postgres
from neurosearch.engine.base import Asked, Batch, Shape
from neurosearch.engine.embedded_postgres import started
from neurosearch.engine.postgres import Postgres

NAME = f"neurosearch_00000000_{'0' * 24}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Any) -> Path:
    place: Path = tmp_path_factory.mktemp("postgres")
    return place


@pytest.fixture(scope="module")
def dsn(folder: Path) -> str:
    return started(folder / "engines" / "postgres")


def opened(dsn: str, **fields: Any) -> Any:
    return Postgres(dsn=dsn, embedded=False, **fields).session(Runtime("unused"))


def refused(dsn: str, words: str, **fields: Any) -> None:
    with pytest.raises(InputError, match=words), opened(dsn, **fields):
        pass


def test_nobody_answers() -> None:
    refused("postgresql://127.0.0.1:9/x", r"engine\.dsn: .*(refused|timeout)", timeout=2.0)


def test_no_connection_string() -> None:
    refused("postgres of mine", r"engine\.dsn is no connection string")


def test_passwords_do_not_belong_into_configs() -> None:
    for dsn in (
        "postgresql://me:secret@host/x",
        "postgresql://me:se/cret@host/x",
        "host=x password=secret",
        "postgresql://me@host/x?sslpassword=secret",
    ):
        with pytest.raises(InputError, match="holds a password") as caught:
            Postgres(dsn=dsn, embedded=False)
        assert "secret" not in str(caught.value)


def test_a_dsn_and_an_embedded_server_exclude_each_other() -> None:
    with pytest.raises(InputError, match=r"engine\.embedded=false"):
        Postgres(dsn="postgresql://host/x")
    with pytest.raises(InputError, match=r"engine\.embedded=false"):
        Postgres(embedded=False)


def test_wrong_credentials(dsn: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import psycopg

    rules = folder / "engines" / "postgres" / "pg_hba.conf"
    before = rules.read_text(encoding="utf-8")
    with psycopg.connect(dsn, autocommit=True) as link:
        link.execute("CREATE ROLE clerk LOGIN SUPERUSER PASSWORD 'right'")
        rules.write_text(f"local all clerk scram-sha-256\n{before}", encoding="utf-8")
        link.execute("SELECT pg_reload_conf()")
    given = dsn.replace("postgres:@", "clerk@")
    assert "clerk" in given
    monkeypatch.setenv("PGPASSWORD", "wrong")
    refused(given, "password authentication failed")
    monkeypatch.setenv("PGPASSWORD", "right")
    with opened(given) as session:
        assert session.names() == []
    refused(dsn.replace("postgres:@", "stranger@"), 'role "stranger" does not exist')


def test_a_user_who_may_not_create_schemas(dsn: str) -> None:
    import psycopg

    with psycopg.connect(dsn, autocommit=True) as link:
        link.execute("CREATE ROLE reader LOGIN")
        link.execute("CREATE DATABASE closed")
    closed = dsn.replace("postgres:@", "reader@").replace("/postgres?", "/closed?")
    refused(closed, r"engine\.dsn: .*permission")


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A port where every first message gets this answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    link, _ = server.accept()
                except OSError:
                    return
                with link:
                    link.recv(1024)
                    link.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def test_encryption_that_the_server_lacks() -> None:
    with answering(b"N") as port:
        refused(f"postgresql://127.0.0.1:{port}/x?sslmode=require", "SSL", timeout=3.0)


def test_a_certificate_that_is_not_there(tmp_path: Path) -> None:
    with answering(b"S") as port:
        ca = tmp_path / "none.pem"
        dsn = f"postgresql://127.0.0.1:{port}/x?sslmode=verify-full&sslrootcert={ca}"
        refused(dsn, "none.pem", timeout=3.0)


def test_an_old_pgvector(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "LEAST", (9, 1))
    refused(dsn, r"pgvector is 0\.\d+.*, and 9\.1 or newer is needed")


def test_data_of_another_release(tmp_path: Path) -> None:
    place = tmp_path / "engines" / "postgres"
    place.mkdir(parents=True)
    (place / "PG_VERSION").write_text("9\n", encoding="ascii")
    with (
        pytest.raises(InputError, match="holds data of PostgreSQL 9"),
        Postgres().session(Runtime(tmp_path)),
    ):
        pass


def test_a_folder_whose_making_was_killed(tmp_path: Path) -> None:
    """initdb was killed: the folder has a version and little else, and would never start."""
    place = tmp_path / "engines" / "postgres"
    place.mkdir(parents=True)
    (place / "PG_VERSION").write_text("18\n", encoding="ascii")
    (place / "base").mkdir()
    with Postgres().session(Runtime(tmp_path)) as session:
        assert session.names() == []


def test_a_call_that_takes_too_long(dsn: str) -> None:
    with (
        pytest.raises(InputError, match=r"engine\.timeout=0\.05 s"),
        opened(dsn, timeout=0.05) as session,
        session.pool.connection() as link,
    ):
        link.execute("SELECT pg_sleep(5)")


def test_other_schemas_are_left_alone(dsn: str) -> None:
    with opened(dsn) as session:
        with session.pool.connection() as link:
            link.execute("CREATE SCHEMA neurosearch_of_someone")
        assert session.names() == []
        session.drop("neurosearch_of_someone")
        with session.pool.connection() as link:
            found = link.execute("SELECT to_regnamespace('neurosearch_of_someone')").fetchone()
        assert found[0] is not None


def test_an_alias_is_a_view(dsn: str) -> None:
    shape = Shape(None, 2, {"brand": "text"})
    with opened(dsn) as session:
        made = session.collection(NAME, shape)
        made.create()
        made.add(Batch(np.arange(2), None, np.eye(2, dtype=np.float32), [{"brand": "a"}, {}]))
        made.finish()
        session.switch("shop", NAME)
        with session.pool.connection() as link:
            rows = link.execute("SELECT number, f0 FROM neurosearch.shop ORDER BY 1").fetchall()
        assert rows == [(0, "a"), (1, None)]
        found, _ = made.search(Asked(1, vectors=np.eye(2, dtype=np.float32)))
        assert found.tolist() == [[0], [1]]
        session.drop(NAME)
        assert session.aliases() == {}
