"""The store of artifacts: builds each one once, under a file lock, whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import socket
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar, cast

from neurosearch.core.artifact import MANIFEST, Artifact
from neurosearch.core.digests import file_digest
from neurosearch.core.distributed import build_together
from neurosearch.core.errors import InputError, SealedError
from neurosearch.core.fingerprint import edited_since_start, releases
from neurosearch.core.machine import git_commit, hardware, is_running, log, peak_memory_mb
from neurosearch.core.remote import Remote
from neurosearch.core.seal import check_seal, is_evaluation, opens_test
from neurosearch.core.stopping import check_stopped

if TYPE_CHECKING:
    from neurosearch.core.runtime import Runtime

T = TypeVar("T")
HELD = "held bytes"  # detail of an artifact that keeps something elsewhere: how much
ATTEMPTS = (
    "attempts.json"  # in the folder of a resumable build: seconds spent by earlier, killed attempts
)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old or the new file, never a partly written one.

    Temporary files of killed processes on this machine are removed.

    Args:
        path: of the file.
        content: of the file.
    """
    stem = f".{path.name}.{_machine()}-"
    for left in path.parent.glob(f"{glob.escape(stem)}*"):
        if not is_running(left.name.removeprefix(stem)):
            left.unlink(missing_ok=True)
    temporary = path.with_name(f"{stem}{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@cache
def _machine() -> str:
    """A short name of this machine: process ids are unique only within one machine."""
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest in an artifact's folder; None where there is none, or it is malformed.

    Args:
        folder: of the artifact.

    Returns:
        The manifest, or None.
    """
    try:
        content = (folder / MANIFEST).read_bytes()
    except OSError:
        return None
    return parsed_manifest(content)


def parsed_manifest(content: bytes) -> dict[str, Any] | None:
    """A manifest; None where it is malformed.

    Args:
        content: of the file.

    Returns:
        The manifest, or None.
    """
    try:
        manifest = json.loads(content)
        sound = (
            isinstance(manifest["fingerprint"], str)
            and isinstance(manifest["details"], dict)
            and all(_is_plain(name) for name in manifest["files"])
            and all(
                isinstance(size, int) and isinstance(hashed, str)
                for size, hashed in manifest["files"].values()
            )
            and all(
                isinstance(kind, str) and isinstance(name, str) for kind, name in manifest["inputs"]
            )
            and float(manifest["seconds"]) >= 0
            and datetime.fromisoformat(manifest["created"]).tzinfo is not None
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return manifest if sound else None


def _is_plain(name: str) -> bool:
    """Whether a file's name stays within its folder."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


class Store:
    """Folder of artifacts: `<kind>/<fingerprint>/` with a manifest that load verifies.

    `events` lists what this process reused and built, in order, for the job's record. `builds`: set
    to False, it refuses to build (a server loads what is there).
    """

    def __init__(self, root: Path, runtime: Runtime) -> None:
        self.root = root
        self.runtime = runtime
        self.events: list[dict[str, Any]] = []
        self.builds = True
        self.remote = None if runtime.remote is None else Remote(runtime.remote)
        self._loaded: dict[str, Any] = {}
        self._verified: set[str] = set()
        self._checked: set[str] = set()
        self._building: list[Artifact[Any]] = []
        self._shared: set[str] = set()  # what was compared with the remote store
        self._damaged: set[str] = set()  # what is damaged there

    def folder(self, artifact: Artifact[Any]) -> Path:
        """Where an artifact is kept, whether or not it is there.

        Args:
            artifact: a node of the build graph.

        Returns:
            `<root>/<kind>/<fingerprint>`.
        """
        return self.root / artifact.stored().address

    def manifest(self, artifact: Artifact[Any]) -> dict[str, Any] | None:
        """The manifest of a complete artifact, or None. Reads no other file.

        Args:
            artifact: a node of the build graph.

        Returns:
            Fingerprint, files with their digests, and the details of its build.
        """
        return read_manifest(self.folder(artifact))

    def get(self, artifact: Artifact[T]) -> T:
        """The artifact's value, built first where it is not there. Loaded once a process.

        Args:
            artifact: a node of the build graph.

        Returns:
            What `artifact.load` returns.

        Raises:
            SealedError: it holds the judgments of the test split, which are opened by the
                evaluation alone.
        """
        key = artifact.address
        if self._building and not is_evaluation(self._building[-1]) and opens_test(artifact):
            raise SealedError(f"{self._building[-1].kind} asks for the judgments of the test split")
        if key not in self._loaded:
            self._loaded[key] = artifact.load(self.ensure(artifact))
        value: T = self._loaded[key]
        return value

    def ensure(self, artifact: Artifact[Any]) -> Path:
        """The folder of the complete artifact: reused, or built under a file lock.

        Args:
            artifact: a node of the build graph.

        Returns:
            A complete folder, verified.
        """
        artifact = artifact.stored()
        folder = self.folder(artifact)
        if self._usable(artifact, folder) or self._pulled(artifact, folder):
            return folder
        self.check(artifact, unusable=True)
        for source in artifact.inputs():
            self.ensure(source)
        with self._locked(artifact, folder):
            if self._usable(artifact, folder, tell=True):
                return folder
            if self.remote is None or not self.builds:
                self._build(artifact, folder)
                return folder
            with self.remote.claimed(artifact.address):
                if not self._fetched(artifact, folder):
                    self._build(artifact, folder)
                    self._push(artifact, folder)
        return folder

    @contextlib.contextmanager
    def _locked(self, artifact: Artifact[Any], folder: Path) -> Iterator[None]:
        """One process of this machine at a time."""
        from filelock import FileLock, Timeout

        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(str(folder.parent / f".{folder.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("waiting: another process is building %s %s", artifact.kind, folder.name[:8])
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _pulled(self, artifact: Artifact[Any], folder: Path) -> bool:
        """Whether the remote store had it, and it is here now."""
        if self.remote is None or not self.builds:
            return False
        if self.remote.manifest(artifact.address) is None:
            return False
        with self._locked(artifact, folder):
            return self._usable(artifact, folder, tell=True) or self._fetched(artifact, folder)

    def _fetched(self, artifact: Artifact[Any], folder: Path) -> bool:
        """As `_pulled`, of who holds the lock."""
        assert self.remote is not None
        content = self.remote.manifest(artifact.address)
        if content is None or artifact.address in self._damaged:
            return False
        listed = parsed_manifest(content)
        if listed is None or listed["fingerprint"] != artifact.artifact_fingerprint:
            fault = "its manifest is damaged"
        else:
            fault = self.remote.pull(artifact.address, listed, folder)
        if fault or listed is None:
            self._damaged.add(artifact.address)
            message = "%s at %s is damaged (%s): building it again"
            log.warning(message, artifact.address, self.remote.address, fault)
            return False
        self._verified.add(artifact.address)
        self._shared.add(artifact.address)
        self._note("pulled", artifact, listed)
        return True

    def _push(self, artifact: Artifact[Any], folder: Path) -> None:
        """Send a complete artifact to the remote store."""
        manifest = read_manifest(folder)
        assert self.remote is not None and manifest is not None
        self._shared.add(artifact.address)
        self.remote.push(artifact.address, manifest, folder)

    def check(self, artifact: Artifact[Any], unusable: bool = False) -> None:
        """Check every artifact that is still to be built; each raises for what it lacks.

        Args:
            artifact: a node of the build graph.
            unusable: the artifact is known to be damaged: check as if it were not there.

        Raises:
            InputError: for one that would learn from the test split's judgments.
        """
        artifact = artifact.stored()
        key = artifact.address
        if key in self._checked:
            return
        self._checked.add(key)
        if unusable or not (
            self.manifest(artifact) or self._pulled(artifact, self.folder(artifact))
        ):
            check_seal(artifact)
            for source in artifact.inputs():
                source.check_view(artifact)
            artifact.check(self.runtime)
            for source in artifact.inputs():
                self.check(source)

    def _usable(self, artifact: Artifact[Any], folder: Path, tell: bool = False) -> bool:
        key = artifact.address
        if key in self._verified:
            return True
        manifest = self.manifest(artifact)
        if manifest is None:
            return False
        fault = verify(folder, manifest, artifact.artifact_fingerprint)
        fault = fault or artifact.missing(folder, self.runtime)
        if fault:
            if tell:
                message = "%s %s is damaged (%s): building it again"
                log.warning(message, artifact.kind, folder, fault)
            return False
        self._verified.add(key)
        with contextlib.suppress(OSError):  # another user's store
            os.utime(folder)  # in use: not to be pruned
        self._note("reused", artifact, manifest)
        if self.remote is not None and self.builds and key not in self._shared:
            # Built before there was a remote store, or its sending was cut off.
            if self.remote.manifest(key) is None:
                self._push(artifact, folder)
            self._shared.add(key)
        return True

    def _build(self, artifact: Artifact[Any], folder: Path) -> None:
        check_stopped()
        if not self.builds:
            name = f"{artifact.kind} {folder.name[:8]}"
            raise InputError(f"{name} is not built: a server loads what is there; build it first")
        edited = edited_since_start()
        if edited:
            what = f"{', '.join(edited)} changed while this process ran"
            raise InputError(f"{what}: run the command again; it resumes from what is built")
        temporary = folder.parent / f".{folder.name}.building"
        if temporary.exists() and not artifact.resumable:
            shutil.rmtree(temporary)
        temporary.mkdir(parents=True, exist_ok=True)
        log.info("building %s %s", artifact.kind, folder.name[:8])
        earlier = _begin_attempt(temporary)
        start = time.perf_counter()
        self._building.append(artifact)
        try:
            if artifact.spreads and self.runtime.devices > 1:
                details = build_together(artifact, temporary, self.runtime)
            else:
                details = artifact.build(temporary, self.runtime)
        except InputError:  # a configuration error: the partial build is of no use
            shutil.rmtree(temporary)
            raise
        finally:
            self._building.pop()
        (temporary / ATTEMPTS).unlink()
        manifest = {
            "kind": artifact.kind,
            "fingerprint": artifact.artifact_fingerprint,
            "description": artifact.description(),
            "inputs": [
                [x.stored().kind, x.stored().artifact_fingerprint] for x in artifact.inputs()
            ],
            "packages": releases(cast(Any, type(artifact))),
            "files": {name: [size, hashed] for name, size, hashed in _listing(temporary)},
            "seconds": round(earlier + time.perf_counter() - start, 3),
            "peak_memory_mb": round(peak_memory_mb(), 1),
            "hardware": hardware(),
            "commit": git_commit(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "details": details or {},
        }
        with (temporary / MANIFEST).open("w", encoding="utf-8") as handle:
            json.dump(manifest, handle, indent=1)
            handle.flush()
            os.fsync(handle.fileno())
        if folder.exists():  # a damaged one: we hold the lock, so no process loads it
            shutil.rmtree(folder)
        temporary.rename(folder)
        self._verified.add(artifact.address)
        self._note("built", artifact, manifest)

    def _note(self, event: str, artifact: Artifact[Any], manifest: dict[str, Any]) -> None:
        size = sum(entry[0] for entry in manifest["files"].values())
        self.events.append(
            {
                "event": event,
                "kind": artifact.kind,
                "fingerprint": artifact.artifact_fingerprint,
                "seconds": manifest["seconds"],
                "bytes": size,
            }
        )
        name = f"{artifact.kind} {artifact.artifact_fingerprint[:8]}"
        log.info("%s %s (%.1f MB, %.1f s to build)", event, name, size / 1e6, manifest["seconds"])

    def flags(self) -> list[str]:
        """Flags of the artifacts used in this process, which a table repeats.

        Returns:
            Distinct flags, such as `timed under load`.
        """
        folders = (self.root / e["kind"] / e["fingerprint"] for e in self.events)
        manifests = [manifest for path in folders if (manifest := read_manifest(path))]
        return sorted({m["details"]["flag"] for m in manifests if "flag" in m["details"]})

    def chosen(self, artifact: Artifact[Any]) -> dict[str, Any]:
        """What tuning chose for an artifact, by kind: details named `chosen` of all below it.

        Args:
            artifact: a node of the build graph.

        Returns:
            Parameters by name; empty where nothing was tuned.
        """
        parameters: dict[str, Any] = {}
        seen: set[str] = set()
        pending = [artifact]
        while pending:
            part = pending.pop(0)
            if part.address in seen:
                continue
            seen.add(part.address)
            manifest = self.manifest(part)
            facts = (manifest or {}).get("details", {}).get("chosen")
            if facts:
                taken = part.kind in parameters
                parameters[
                    f"{part.kind} {part.artifact_fingerprint[:6]}" if taken else part.kind
                ] = facts
            pending += part.inputs()
        return parameters

    def cost(self, artifacts: list[Artifact[Any]]) -> tuple[int, float]:
        """Bytes of these artifacts, and seconds to build them and all that they stand on.

        Args:
            artifacts: what a system is served from.

        Returns:
            Bytes on disk, and seconds.
        """
        size, seconds, seen, pending = 0, 0.0, set(), []
        for artifact in artifacts:
            manifest = self.manifest(artifact)
            assert manifest is not None, "cost is asked of built artifacts only"
            size += sum(entry[0] for entry in manifest["files"].values())
            size += manifest["details"].get(HELD, 0)
            pending.append((artifact.stored().kind, artifact.stored().artifact_fingerprint))
        while pending:
            kind, fingerprint = pending.pop()
            if (kind, fingerprint) in seen or kind == "data":
                continue
            seen.add((kind, fingerprint))
            manifest = read_manifest(self.root / kind / fingerprint)
            if manifest is None:  # pruned, after its dependents were built
                continue
            seconds += manifest["seconds"]
            pending += [tuple(pair) for pair in manifest["inputs"]]
        return size, seconds


def _begin_attempt(folder: Path) -> float:
    """Note the start of a build; returns the seconds that killed attempts before it took.

    An attempt that was killed lasted at least until it wrote its last file.
    """
    path, earlier = folder / ATTEMPTS, 0.0
    for leftover in folder.glob(".*"):  # temporary files of a killed process
        leftover.unlink()
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        written = [file.stat().st_mtime for file in folder.rglob("*") if file.is_file()]
        earlier = float(noted["earlier"]) + max(0.0, max(written) - float(noted["began"]))
    except (OSError, ValueError, KeyError, TypeError):
        earlier = 0.0  # the first attempt, or an incomplete note
    write_whole(path, json.dumps({"earlier": earlier, "began": time.time()}).encode())
    return earlier


def verify(folder: Path, manifest: dict[str, Any], fingerprint: str) -> str:
    """What is wrong with a complete artifact's folder, or '' where nothing is.

    Args:
        folder: of the artifact.
        manifest: of the folder.
        fingerprint: that the artifact should have.

    Returns:
        One line, or ''.
    """
    if manifest.get("fingerprint") != fingerprint:
        return "its manifest belongs to another artifact"
    for name, (size, hashed) in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes, not {size}"
        if file_digest(path) != hashed:
            return f"{name} changed since it was built"
    return ""


def _listing(folder: Path) -> list[tuple[str, int, str]]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    return [(p.relative_to(folder).as_posix(), p.stat().st_size, file_digest(p)) for p in files]
