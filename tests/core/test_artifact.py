"""The store: built once, verified, never half there."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from tests.commands import START


@dataclass(frozen=True)
class Number(Artifact[int]):
    """Writes a number, and a line to `log` for each build."""

    kind: ClassVar[str] = "number"
    value: int
    log: str
    pause: float = 0.0

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        with Path(self.log).open("a") as handle:
            handle.write("x")
        (folder / "half").write_text("something")
        time.sleep(self.pause)
        (folder / "number").write_text(str(self.value))
        return {"value": self.value}

    def load(self, folder: Path) -> int:
        return int((folder / "number").read_text())


@dataclass(frozen=True)
class Sum(Artifact[int]):
    kind: ClassVar[str] = "sum"
    parts: tuple[Artifact[int], ...]

    def build(self, folder: Path, runtime: Runtime) -> None:
        total = sum(runtime.get(part) for part in self.parts)
        (folder / "number").write_text(str(total))

    def load(self, folder: Path) -> int:
        return int((folder / "number").read_text())


def again(runtime: Runtime) -> Runtime:
    """A new process' view of the same store."""
    return Runtime(outputs=runtime.outputs, progress=False)


def test_built_once_and_reused(runtime: Runtime, tmp_path: Path) -> None:
    number = Number(3, str(tmp_path / "log"))
    assert runtime.get(number) == 3
    other = again(runtime)
    assert other.get(number) == 3
    assert (tmp_path / "log").read_text() == "x"
    assert [event["event"] for event in runtime.store.events] == ["built"]
    assert [event["event"] for event in other.store.events] == ["reused"]


def test_inputs_are_built_first_and_shared(runtime: Runtime, tmp_path: Path) -> None:
    number = Number(3, str(tmp_path / "log"))
    assert runtime.get(Sum((number, number))) == 6
    assert (tmp_path / "log").read_text() == "x"
    manifest = runtime.store.manifest(Sum((number, number)))
    assert manifest is not None
    assert manifest["inputs"] == [["number", number.artifact_fingerprint]] * 2


@dataclass(frozen=True)
class Refused(Sum):
    def check(self, runtime: Runtime) -> None:
        raise InputError("no")


def test_what_cannot_be_built_says_so_before_anything_is(runtime: Runtime, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first, second = Number(1, str(log)), Number(2, str(log))
    with pytest.raises(InputError, match="no"):
        runtime.get(Sum((first, Sum((second, Refused(()))))))
    assert not log.exists() and runtime.store.events == []
    # What is there already isn't asked, nor what it stands on.
    fine = Sum((second, first))
    runtime.get(fine)
    (runtime.store.folder(second) / "manifest.json").unlink()
    other = again(runtime)
    assert other.get(Sum((fine,))) == 3
    assert log.read_text() == "xx"


def test_fingerprints_depend_on_fields_and_inputs(tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    sums = [Sum((Number(1, log),)), Sum((Number(2, log),)), Sum((Number(1, log), Number(2, log)))]
    assert len({s.artifact_fingerprint for s in sums}) == 3


def test_runtime_settings_change_no_fingerprint(tmp_path: Path) -> None:
    number = Number(1, str(tmp_path / "log"))
    one = Runtime(tmp_path, threads=1, tokens_per_batch=64)
    other = Runtime(tmp_path, threads=2, device="cpu", progress=False, java_memory="1g")
    assert one.store.folder(number) == other.store.folder(number)
    one.get(number)
    other.get(number)
    assert other.store.events[0]["event"] == "reused"


def _get(outputs: Path, artifact: Artifact[int]) -> None:
    Runtime(outputs=outputs, progress=False).get(artifact)


def test_two_processes_build_one_artifact_once(runtime: Runtime, tmp_path: Path) -> None:
    number = Number(3, str(tmp_path / "log"), pause=0.5)
    context = multiprocessing.get_context(START)
    both = [context.Process(target=_get, args=(runtime.outputs, number)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert (tmp_path / "log").read_text() == "x"


def test_a_killed_build_leaves_nothing_that_load_accepts(runtime: Runtime, tmp_path: Path) -> None:
    number = Number(3, str(tmp_path / "log"), pause=60)
    process = multiprocessing.get_context(START).Process(
        target=_get, args=(runtime.outputs, number)
    )
    process.start()
    deadline = time.time() + 60
    while not list(runtime.outputs.rglob("half")) and time.time() < deadline:
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert runtime.store.manifest(number) is None
    assert not runtime.store.folder(number).exists()
    finished = Number(3, str(tmp_path / "log"))
    assert runtime.get(finished) == 3


def test_a_failed_build_leaves_nothing_and_can_be_repeated(
    runtime: Runtime, tmp_path: Path
) -> None:
    bad = Number(3, str(tmp_path / "no" / "folder"))
    with pytest.raises(FileNotFoundError):
        runtime.get(bad)
    assert runtime.store.manifest(bad) is None
    (tmp_path / "no").mkdir()
    assert runtime.get(bad) == 3


@pytest.mark.parametrize(
    "damage",
    ["bytes", "size", "missing", "manifest", "not text", "not an object", "half an object"],
)
def test_damage_is_found_and_mended(runtime: Runtime, tmp_path: Path, damage: str) -> None:
    number = Number(3, str(tmp_path / "log"))
    runtime.get(number)
    folder = runtime.store.folder(number)
    if damage == "bytes":
        (folder / "number").write_text("4")
    elif damage == "size":
        (folder / "number").write_text("33")
    elif damage == "missing":
        (folder / "number").unlink()
    elif damage == "not text":
        (folder / "manifest.json").write_bytes(b"\xff\xfe")
    elif damage == "not an object":
        (folder / "manifest.json").write_text("[]")
    elif damage == "half an object":
        (folder / "manifest.json").write_text(f'{{"fingerprint": "{folder.name}"}}')
    else:
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps({**manifest, "fingerprint": "other"}))
    other = again(runtime)
    assert other.get(number) == 3
    assert (tmp_path / "log").read_text() == "xx"


def test_the_manifest_says_how_it_was_made(runtime: Runtime, tmp_path: Path) -> None:
    number = Number(3, str(tmp_path / "log"))
    runtime.get(number)
    manifest = runtime.store.manifest(number)
    assert manifest is not None
    assert manifest["details"] == {"value": 3}
    assert manifest["description"]["value"] == 3
    assert manifest["hardware"] and manifest["seconds"] >= 0
    assert set(manifest["files"]) == {"half", "number"}


def test_nothing_is_built_of_code_that_changed_meanwhile(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neurosearch.core import store
    from neurosearch.core.errors import InputError

    monkeypatch.setattr(store, "edited_since_start", lambda: ["method.py"])
    with pytest.raises(InputError, match=r"method\.py changed while this process ran"):
        runtime.get(Number(3, str(tmp_path / "log")))


@dataclass(frozen=True)
class Slow(Artifact[int]):
    """A resumable build that dies in its first attempts, after some work."""

    kind: ClassVar[str] = "slow"
    resumable: ClassVar[bool] = True

    def build(self, folder: Path, runtime: Runtime) -> None:
        done = len(list(folder.glob("part*")))
        time.sleep(0.3)
        (folder / f"part{done}").write_text("x")
        if done < 2:
            raise KeyboardInterrupt

    def load(self, folder: Path) -> int:
        return len(list(folder.glob("part*")))


def test_seconds_are_those_of_all_attempts(runtime: Runtime) -> None:
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            runtime.get(Slow())
    folder = runtime.store.folder(Slow())
    # A kill between a file's writing and its renaming leaves one with a dot.
    (folder.parent / f".{folder.name}.building" / ".attempts.json.123").write_text("torn")
    assert runtime.get(Slow()) == 3
    manifest = runtime.store.manifest(Slow())
    assert manifest is not None and 0.85 < manifest["seconds"] < 3
    assert sorted(manifest["files"]) == ["part0", "part1", "part2"]


def test_what_a_kill_left_of_a_write_goes_with_the_next_one(tmp_path: Path) -> None:
    from neurosearch.core.store import _machine, write_whole

    path = tmp_path / "record [1].json"
    dead = tmp_path / f".{path.name}.{_machine()}-999999999"
    alive = tmp_path / f".{path.name}.{_machine()}-1"
    elsewhere = tmp_path / f".{path.name}.00000000-999999999"
    for left in (dead, alive, elsewhere):
        left.write_text("half of it")
    write_whole(path, b"whole")
    assert path.read_bytes() == b"whole"
    assert {p.name for p in tmp_path.iterdir()} == {path.name, alive.name, elsewhere.name}
