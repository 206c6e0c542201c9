"""Artifacts: lazy, content-addressed results, and the store that builds each one once.

An artifact is a frozen dataclass of recipes and input artifacts with a way to build itself
into a folder and to load itself from it. Its address is the fingerprint of its code, its
recipes and its inputs' fingerprints, so nothing stale can be found under it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Generic, TypeVar, cast

from neurosearch.code import code_digest, edited_since_start, releases
from neurosearch.errors import InputError, SealedError
from neurosearch.processes import build_together
from neurosearch.recipe import describe, digest, file_digest
from neurosearch.runtime import Runtime, git_commit, hardware, log, peak_memory_mb

T = TypeVar("T")
MANIFEST = "manifest.json"
ATTEMPTS = "attempts.json"  # in the folder of a resumable build: what its killed attempts took
NO_IDENTITY = {"identity": False}  # metadata of a field that an artifact's result doesn't depend on
SEALED = "neurosearch.evaluation"  # the one package that may open the test split's judgments


@dataclass(frozen=True)
class Artifact(Generic[T]):
    """A node of the build graph. Subclasses add fields (recipes, artifacts, scalars).

    Class attributes:
        kind: folder under outputs/artifacts.
        resumable: `build` continues from what an earlier, killed attempt left in its folder.
        spreads: several processes may run `build` together, each doing its share (`processes`).
    """

    kind: ClassVar[str]
    resumable: ClassVar[bool] = False
    spreads: ClassVar[bool] = False

    @property
    def sealed(self) -> bool:
        """Whether its value holds the judgments of the test split."""
        return False

    def stored(self) -> Artifact[Any]:
        """The artifact whose folder this one is loaded from: itself, unless it is a view."""
        return self

    def check(self, runtime: Runtime) -> None:
        """Raise InputError where the data or the machine lack what `build` needs.

        Asked of all that is to be built before any of it is; may build the data, nothing else.
        """

    def check_view(self, user: Artifact[Any]) -> None:
        """Raise InputError where this, as an input of `user`, can't give what it promises."""

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any] | None:
        """Write the result into `folder`; may return details for the manifest."""
        raise TypeError(f"{type(self).__name__} does not say how it is built")

    def load(self, folder: Path) -> T:
        """The value, read from a complete `folder`."""
        raise TypeError(f"{type(self).__name__} does not say how it is loaded")

    @cached_property
    def artifact_fingerprint(self) -> str:
        """Hex digest of kind, code, fields and inputs."""
        return digest({"kind": self.kind, **self.description()})

    @property
    def address(self) -> str:
        """`kind/fingerprint`: its folder, relative to the store's."""
        return f"{self.kind}/{self.artifact_fingerprint}"

    def description(self) -> dict[str, Any]:
        """What the fingerprint is taken of; input artifacts appear by fingerprint."""
        cls: Any = type(self)
        fields = {
            f.name: describe(getattr(self, f.name))
            for f in dataclasses.fields(self)
            if f.metadata.get("identity", True)
        }
        return {"class": f"{cls.__module__}.{cls.__qualname__}", "code": code_digest(cls), **fields}

    def inputs(self) -> list[Artifact[Any]]:
        """Input artifacts, in field order, those in tuples, mappings and dataclasses included."""
        values = (getattr(self, spec.name) for spec in dataclasses.fields(self))
        return [found for value in values for found in _artifacts_in(value)]


def _artifacts_in(value: Any) -> Iterator[Artifact[Any]]:
    if isinstance(value, Artifact):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _artifacts_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _artifacts_in(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for spec in dataclasses.fields(value):
            yield from _artifacts_in(getattr(value, spec.name))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader finds the old or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest in an artifact's folder; None where there is none, or none of that shape."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
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
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return manifest if sound else None


def _is_plain(name: str) -> bool:
    """Whether a file's name stays within its folder."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


class Store:
    """Folder of artifacts: `<kind>/<fingerprint>/` with a manifest that load verifies.

    `events` lists what this process reused and built, in order, for the job's record.
    """

    def __init__(self, root: Path, runtime: Runtime) -> None:
        self.root = root
        self.runtime = runtime
        self.events: list[dict[str, Any]] = []
        self._loaded: dict[str, Any] = {}
        self._verified: set[str] = set()
        self._checked: set[str] = set()
        self._building: list[Artifact[Any]] = []

    def folder(self, artifact: Artifact[Any]) -> Path:
        return self.root / artifact.stored().address

    def manifest(self, artifact: Artifact[Any]) -> dict[str, Any] | None:
        """The manifest of a complete artifact, or None. Reads no other file."""
        return read_manifest(self.folder(artifact))

    def get(self, artifact: Artifact[T]) -> T:
        """The artifact's value, built first where it is not there. Loaded once a process."""
        key = artifact.address
        if self._building and not is_evaluation(self._building[-1]) and opens_test(artifact):
            raise SealedError(f"{self._building[-1].kind} asks for the judgments of the test split")
        if key not in self._loaded:
            self._loaded[key] = artifact.load(self.ensure(artifact))
        value: T = self._loaded[key]
        return value

    def ensure(self, artifact: Artifact[Any]) -> Path:
        """The folder of the complete artifact: reused, or built under a file lock."""
        artifact = artifact.stored()
        folder = self.folder(artifact)
        if self._usable(artifact, folder):
            return folder
        self.check(artifact, unusable=True)
        for source in artifact.inputs():
            self.ensure(source)
        from filelock import FileLock, Timeout

        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(str(folder.parent / f".{folder.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("waiting: another process is building %s %s", artifact.kind, folder.name[:8])
            lock.acquire()
        try:
            if not self._usable(artifact, folder, tell=True):
                self._build(artifact, folder)
        finally:
            lock.release()
        return folder

    def check(self, artifact: Artifact[Any], unusable: bool = False) -> None:
        """Let all that an artifact still needs say what it can't be built from.

        Raises InputError for one that would learn from the test split's judgments.
        """
        artifact = artifact.stored()
        key = artifact.address
        if key in self._checked:
            return
        self._checked.add(key)
        if unusable or self.manifest(artifact) is None:
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
        if fault:
            if tell:
                told = "%s %s is damaged (%s): building it again"
                log.warning(told, artifact.kind, folder, fault)
            return False
        self._verified.add(key)
        with contextlib.suppress(OSError):  # somebody else's store
            os.utime(folder)  # in use: not to be pruned
        self._note("reused", artifact, manifest)
        return True

    def _build(self, artifact: Artifact[Any], folder: Path) -> None:
        edited = edited_since_start()
        if edited:
            what = f"{', '.join(edited)} changed while this process ran"
            raise InputError(f"{what}: run the command again, it goes on from what is built")
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
        except InputError:  # to be mended in the config: nothing here can be gone on with
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
        if folder.exists():  # a damaged one: the lock is ours, nobody loads it
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
        """What artifacts of this process say of themselves that a table must repeat."""
        found = (self.root / e["kind"] / e["fingerprint"] for e in self.events)
        manifests = [manifest for path in found if (manifest := read_manifest(path))]
        return sorted({m["details"]["flag"] for m in manifests if "flag" in m["details"]})

    def chosen(self, artifact: Artifact[Any]) -> dict[str, Any]:
        """What tuning chose for an artifact, by kind: details named `chosen` of all below it."""
        found: dict[str, Any] = {}
        seen: set[str] = set()
        pending = [artifact]
        while pending:
            part = pending.pop(0)
            if part.address in seen:
                continue
            seen.add(part.address)
            manifest = self.manifest(part)
            told = (manifest or {}).get("details", {}).get("chosen")
            if told:
                taken = part.kind in found
                found[f"{part.kind} {part.artifact_fingerprint[:6]}" if taken else part.kind] = told
            pending += part.inputs()
        return found

    def cost(self, artifacts: list[Artifact[Any]]) -> tuple[int, float]:
        """Bytes of these artifacts, and seconds to build them and all that they stand on."""
        size, seconds, seen, pending = 0, 0.0, set(), []
        for artifact in artifacts:
            manifest = self.manifest(artifact)
            assert manifest is not None, "cost is asked of built artifacts only"
            size += sum(entry[0] for entry in manifest["files"].values())
            pending.append((artifact.stored().kind, artifact.stored().artifact_fingerprint))
        while pending:
            kind, fingerprint = pending.pop()
            if (kind, fingerprint) in seen or kind == "data":
                continue
            seen.add((kind, fingerprint))
            manifest = read_manifest(self.root / kind / fingerprint)
            if manifest is None:  # pruned: what stands on it didn't need it again
                continue
            seconds += manifest["seconds"]
            pending += [tuple(pair) for pair in manifest["inputs"]]
        return size, seconds


def is_evaluation(artifact: Artifact[Any]) -> bool:
    """Whether an artifact is of the package that may open the test split's judgments."""
    return type(artifact).__module__.startswith(f"{SEALED}.")


def opens_test(artifact: Artifact[Any]) -> bool:
    """Whether an artifact gives away judgments of the test split: a view, or what was made of one.

    Runs and models can't: the store has refused them. Metrics and ideal lists of `evaluation` can.
    """
    if artifact.sealed:
        return True
    return is_evaluation(artifact) and any(opens_test(source) for source in artifact.inputs())


def check_seal(artifact: Artifact[Any]) -> None:
    """Raise InputError where an artifact outside `evaluation` asks for the test split's judgments.

    Whatever trains, tunes, mines, selects or stops is refused here, whoever wrote it.
    """
    if not is_evaluation(artifact) and any(opens_test(source) for source in artifact.inputs()):
        what = f"{artifact.kind} ({type(artifact).__name__})"
        raise SealedError(
            f"{what} asks for the judgments of the test split: they are sealed, and open to "
            "the evaluation alone; use train or dev"
        )


def _begin_attempt(folder: Path) -> float:
    """Note the start of a build; returns the seconds that killed attempts before it took.

    An attempt that was killed lasted at least until it wrote its last file.
    """
    path, earlier = folder / ATTEMPTS, 0.0
    for torn in folder.glob(".*"):  # files that a kill kept from being renamed
        torn.unlink()
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        written = [file.stat().st_mtime for file in folder.rglob("*") if file.is_file()]
        earlier = float(noted["earlier"]) + max(0.0, max(written) - float(noted["began"]))
    except (OSError, ValueError, KeyError, TypeError):
        earlier = 0.0  # the first attempt, or a note that a kill has torn
    write_whole(path, json.dumps({"earlier": earlier, "began": time.time()}).encode())
    return earlier


def verify(folder: Path, manifest: dict[str, Any], fingerprint: str) -> str:
    """What is wrong with a complete artifact's folder, or '' where nothing is."""
    if manifest.get("fingerprint") != fingerprint:
        return "its manifest is another artifact's"
    for name, (size, hashed) in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes, not {size}"
        if file_digest(path) != hashed:
            return f"{name} has other content than when it was built"
    return ""


def _listing(folder: Path) -> list[tuple[str, int, str]]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    return [(p.relative_to(folder).as_posix(), p.stat().st_size, file_digest(p)) for p in files]
