"""A store that machines share: a folder, a real S3 server; kills, damage, two builders."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neurosearch.core import remote
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from tests.core.test_artifact import Number, Sum


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """An S3 server on loopback, with one bucket."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_ENDPOINT_URL": url}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in keys.items():
            patch.setenv(name, value)
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="team")
        yield url
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Somewhere empty that machines share."""
    if request.param == "folder":
        return str(tmp_path / "shared")
    request.getfixturevalue("endpoint")
    return f"s3://team/{tmp_path.name}"


def machine(tmp_path: Path, name: str, address: str | None) -> Runtime:
    """A machine with a store of its own."""
    return Runtime(outputs=tmp_path / name, device="cpu", progress=False, remote=address)


def events(runtime: Runtime) -> list[str]:
    return [f"{event['event']} {event['kind']}" for event in runtime.store.events]


def test_a_team_builds_once(tmp_path: Path, address: str) -> None:
    log = str(tmp_path / "log")
    whole = Sum((Number(3, log), Number(4, log)))
    first, second = (machine(tmp_path, name, address) for name in ("a", "b"))
    assert first.get(whole) == second.get(whole) == 7
    assert events(first) == ["built number", "built number", "built sum"]
    assert events(second) == ["pulled sum"]  # its inputs are not even fetched
    assert Path(log).read_text() == "xx"
    assert second.store.manifest(whole) == first.store.manifest(whole)


def test_what_was_built_before_is_pushed_when_it_is_used(tmp_path: Path, address: str) -> None:
    number = Number(3, str(tmp_path / "log"))
    machine(tmp_path, "a", None).get(number)
    machine(tmp_path, "a", address).get(number)
    other = machine(tmp_path, "b", address)
    assert other.get(number) == 3 and events(other) == ["pulled number"]


@pytest.mark.parametrize("damage", ["changed", "missing", "manifest", "another's manifest"])
def test_what_is_damaged_is_built_again_and_mended(
    tmp_path: Path, address: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    number = Number(3, str(tmp_path / "log"))
    machine(tmp_path, "a", address).get(number)
    files, root = remote.Remote(address)._files()
    folder = f"{root}/{number.address}"
    if damage == "changed":
        files.pipe_file(f"{folder}/number", b"4")
    elif damage == "missing":
        files.rm_file(f"{folder}/number")
    elif damage == "manifest":
        files.pipe_file(f"{folder}/manifest.json", b'{"fingerprint"')
    else:
        listed = json.loads(files.cat_file(f"{folder}/manifest.json"))
        listed["fingerprint"] = "0" * 64
        files.pipe_file(f"{folder}/manifest.json", json.dumps(listed).encode())
    second, third = (machine(tmp_path, name, address) for name in ("b", "c"))
    assert second.get(number) == 3 and events(second) == ["built number"]
    assert caplog.text.count("building it again") == 1
    assert third.get(number) == 3 and events(third) == ["pulled number"]


def test_a_push_that_breaks_off_loses_nothing(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """Without its manifest an artifact is not there; the next use of the local one sends it."""
    number = Number(3, str(tmp_path / "log"))
    first = machine(tmp_path, "a", address)
    assert first.store.remote is not None
    files, _ = first.store.remote._files()
    sent: list[str] = []

    def put(source: str, target: str) -> None:
        if sent:
            raise OSError("the line is down")
        sent.append(target)
        files.pipe_file(target, Path(source).read_bytes())

    monkeypatch.setattr(remote, "ATTEMPTS", 1)
    with monkeypatch.context() as patch:
        patch.setattr(files, "put_file", put)
        assert first.get(number) == 3
    assert "could not be pushed" in caplog.text and "the line is down" in caplog.text
    assert remote.Remote(address).manifest(number.address) is None
    machine(tmp_path, "a", address).get(number)
    other = machine(tmp_path, "b", address)
    assert other.get(number) == 3 and events(other) == ["pulled number"]


def build(folder: Path, name: str, address: str, number: Number) -> None:
    remote.RENEWED, remote.ABANDONED = 0.1, 1.5
    Runtime(outputs=folder / name, progress=False, remote=address).get(number)


def test_two_machines_at_once_build_once(tmp_path: Path, address: str) -> None:
    number = Number(3, str(tmp_path / "log"), pause=1.0)
    fork = multiprocessing.get_context("spawn")
    processes = [
        fork.Process(target=build, args=(tmp_path, name, address, number)) for name in ("a", "b")
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert (tmp_path / "log").read_text() == "x"


def test_the_claim_of_a_killed_machine_is_taken_over(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = Number(3, str(tmp_path / "log"), pause=30.0)
    process = multiprocessing.get_context("spawn").Process(
        target=build, args=(tmp_path, "a", address, number)
    )
    process.start()
    deadline = time.monotonic() + 60
    while not (tmp_path / "log").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    files, root = remote.Remote(address)._files()
    assert len(files.find(f"{root}/.claims")) == 1  # left behind
    monkeypatch.setattr(remote, "RENEWED", 0.1)
    monkeypatch.setattr(remote, "ABANDONED", 1.0)
    monkeypatch.setattr(time, "sleep", lambda seconds, own=time.sleep: own(min(seconds, 0.2)))
    other = machine(tmp_path, "b", address)
    assert other.get(number) == 3 and events(other) == ["built number"]
    assert not files.find(f"{root}/.claims")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nonsense://bucket/x", r"store\.remote=nonsense://bucket/x: Protocol not known"),
        ("sftp://host/x", r"store\.remote=sftp://host/x needs the package paramiko"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_before_any_work(
    tmp_path: Path, address: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        machine(tmp_path, "a", address).get(Number(3, str(tmp_path / "log")))
    assert not (tmp_path / "log").exists()


def test_a_bucket_that_is_not_there_is_refused(tmp_path: Path, endpoint: str) -> None:
    with pytest.raises(InputError, match=r"store\.remote=s3://nobody/x: there is no such"):
        machine(tmp_path, "a", "s3://nobody/x").get(Number(3, str(tmp_path / "log")))
