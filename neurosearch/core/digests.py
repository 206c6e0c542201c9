"""Digests: of a description, of a file's bytes, of a folder's content."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import field
from functools import cache
from pathlib import Path
from typing import Any

from neurosearch.core.errors import InputError

RECENT = 100_000_000  # nanoseconds; clocks of file systems tick every few milliseconds


def content(digester: Callable[[Any], str], **kwargs: Any) -> Any:
    """A dataclass field that is fingerprinted by `digester(value)`, not by its value."""
    return field(metadata={"digest": digester}, **kwargs)


def digest(description: Any) -> str:
    """Hex digest (24 characters) of a JSON-able description."""
    text = json.dumps(description, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def content_digest(path: str | Path) -> str:
    """Hex digest of a file's bytes, or of a folder's relative names and bytes.

    A file is read again only if its size or its time of change differ from the last time. Raises
    InputError where nothing lies at `path`.
    """
    path = Path(path)
    if path.is_dir():
        parts = [
            f"{file.relative_to(path).as_posix()} {content_digest(file)}"
            for file in sorted(files_below(path))
            if not _is_hidden(file.relative_to(path))
        ]
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=12).hexdigest()
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder")
    try:
        state = path.stat()
        if time.time_ns() - state.st_mtime_ns < RECENT:  # another change may have the same time
            return file_digest(path)
        return _digest_of(str(path), state.st_size, state.st_mtime_ns, state.st_ino)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


@cache
def _digest_of(path: str, size: int, changed: int, number: int) -> str:
    return file_digest(Path(path))


def file_digest(path: Path) -> str:
    """Hex digest (24 characters) of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.blake2b(digest_size=12)).hexdigest()


def files_below(folder: Path) -> Iterator[Path]:
    """Files at any depth, links followed: loaders follow them too. No folder is read twice."""
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [x for x in folders if os.path.realpath(f"{place}/{x}") not in seen]
        seen.update(os.path.realpath(f"{place}/{x}") for x in folders)
        yield from (path for name in files if (path := Path(place, name)).is_file())


def _is_hidden(path: Path) -> bool:
    """Whether a name below the digested folder begins with a dot (`.git`, `.DS_Store`)."""
    return any(part.startswith(".") for part in path.parts)
