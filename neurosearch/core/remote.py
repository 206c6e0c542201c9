"""A store that machines share: any address that fsspec reads (s3://, gs://, ssh://, a folder).

An artifact is there once its manifest is, which is written last; what is fetched is verified
against it, file by file. Who is about to build an artifact claims it, so that a team builds it
once. A claim is renewed while its owner lives; one that nobody renews is taken over.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurosearch.core.artifact import MANIFEST
from neurosearch.core.digests import file_digest
from neurosearch.core.errors import InputError
from neurosearch.core.machine import log

RENEWED = 10.0  # seconds between two signs of life of a claim's owner
ABANDONED = 60.0  # seconds without one
ATTEMPTS = 3
BUCKETS = ("s3", "s3a", "gs", "gcs", "abfs", "az")
PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "ssh": "sshfs", "sftp": "paramiko"}


@dataclass
class Remote:
    """Attributes:
    address: as fsspec reads it; credentials come from the environment, as its packages say.
    """

    address: str
    _opened: Any = field(default=None, init=False, repr=False)

    @property
    def _protocol(self) -> str:
        return self.address.partition("://")[0] if "://" in self.address else "file"

    def _files(self) -> tuple[Any, str]:
        """The file system and the folder in it; opened once.

        Raises:
            InputError: the protocol is unknown, its package is missing, or nothing answers.
        """
        if self._opened is None:
            import fsspec

            protocol = self._protocol
            try:
                files, root = fsspec.core.url_to_fs(self.address, use_listings_cache=False)
                if protocol in BUCKETS:  # their folders are there once something is in them
                    if not files.exists(root.partition("/")[0]):
                        raise FileNotFoundError("there is no such bucket")
                else:
                    files.makedirs(root, exist_ok=True)
                    files.ls(root)
            except ImportError as error:
                package = PACKAGES.get(protocol, protocol)
                message = f"store.remote={self.address} needs the package {package}"
                raise InputError(f"{message}: pip install {package}") from error
            except Exception as error:  # each protocol has its own
                told = " ".join(str(error).split()) or type(error).__name__
                raise InputError(f"store.remote={self.address}: {told}") from error
            self._opened = files, root.rstrip("/")
        opened: tuple[Any, str] = self._opened
        return opened

    def _make(self, folder: str) -> None:
        """Make a folder, where there are such."""
        files, _ = self._files()
        if self._protocol not in BUCKETS:
            files.makedirs(folder, exist_ok=True)

    def manifest(self, address: str) -> bytes | None:
        """The manifest of a complete artifact there; None where there is none.

        Args:
            address: `kind/fingerprint`.

        Returns:
            Its bytes, which may be damaged.
        """
        files, root = self._files()
        try:
            content: bytes = files.cat_file(f"{root}/{address}/{MANIFEST}")
        except FileNotFoundError:
            return None
        return content

    def pull(self, address: str, listed: dict[str, Any], folder: Path) -> str:
        """Fetch an artifact's files into `folder`, the manifest last.

        Args:
            address: `kind/fingerprint`.
            listed: its manifest.
            folder: that does not exist yet; it appears whole or not at all.

        Returns:
            What is wrong with what lies there, or ''.
        """
        files, root = self._files()
        temporary = folder.with_name(f".{folder.name}.pulling-{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            for name, (size, hashed) in listed["files"].items():
                path = temporary / name
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    files.get_file(f"{root}/{address}/{name}", str(path))
                except FileNotFoundError:
                    return f"{name} is missing"
                if path.stat().st_size != size or file_digest(path) != hashed:
                    return f"{name} is not what was pushed"
            temporary.mkdir(parents=True, exist_ok=True)
            (temporary / MANIFEST).write_text(json.dumps(listed, indent=1), encoding="utf-8")
            if folder.exists():  # a damaged one
                shutil.rmtree(folder)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return ""

    def push(self, address: str, listed: dict[str, Any], folder: Path) -> None:
        """Send a complete artifact, the manifest last. What fails is said; nothing is lost by it.

        Args:
            address: `kind/fingerprint`.
            listed: its manifest.
            folder: of the artifact on this machine.
        """
        files, root = self._files()
        there = f"{root}/{address}"
        for attempt in range(ATTEMPTS):
            try:
                for name in [*listed["files"], MANIFEST]:
                    target = f"{there}/{name}"
                    self._make(target.rpartition("/")[0])
                    files.put_file(str(folder / name), target)
                log.info("pushed %s to %s", address, self.address)
                return
            except Exception as error:  # each protocol has its own
                if attempt + 1 == ATTEMPTS:
                    log.warning("%s could not be pushed to %s: %s", address, self.address, error)
                else:
                    time.sleep(2**attempt)

    @contextmanager
    def claimed(self, address: str) -> Iterator[None]:
        """Claim the building of an artifact, once another owner's claim has ended.

        Args:
            address: `kind/fingerprint`.

        Returns:
            A context; whoever had to wait finds the artifact there, most often.
        """
        files, root = self._files()
        path = f"{root}/.claims/{address.replace('/', '-')}"
        token = f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex[:8]}"
        self._take(path, token)
        ended = threading.Event()

        def renew() -> None:
            beat = 0
            while not ended.wait(RENEWED):
                beat += 1
                with suppress(Exception):  # the next beat may reach it
                    files.pipe_file(path, f"{token} {beat}".encode())

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with suppress(Exception):  # another's claim ends by itself
                files.rm_file(path)

    def _take(self, path: str, token: str) -> None:
        """Take a claim, once nobody else has it."""
        files, _ = self._files()
        self._make(path.rpartition("/")[0])
        seen, since, told = b"", time.monotonic(), False
        while True:
            try:
                files.pipe_file(path, f"{token} 0".encode(), mode="create")
                return
            except FileExistsError:
                pass
            try:
                held = files.cat_file(path)
            except FileNotFoundError:
                continue
            if held != seen:
                seen, since = held, time.monotonic()
            if not told:
                owner = held.decode(errors="replace").partition(" ")[0]
                log.info("waiting: %s is building %s", owner, path.rpartition("/")[2][:24])
                told = True
            if time.monotonic() - since > ABANDONED:
                log.info("the claim of %s is taken over", path.rpartition("/")[2][:24])
                files.pipe_file(path, f"{token} 0".encode())
                time.sleep(1.0)  # another waiter may have done the same: the last one has it
                if files.cat_file(path).decode(errors="replace").startswith(token):
                    return
                since = time.monotonic()
            time.sleep(min(1.0, RENEWED))
