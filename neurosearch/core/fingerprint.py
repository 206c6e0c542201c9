"""Fingerprints of code: the syntax trees of every definition that a class can reach.

An artifact must not outlive an edit of the method that made it, and must survive a better
comment. So a class is fingerprinted by the normalised source (comments, docstrings and
annotations stripped) of its own definition and, transitively, of every function, class and
constant that those definitions name, wherever it is imported: of this package, and of a user's
scripts, modules and packages, as long as they are no installed distribution. What was typed in a
notebook has no file; there it is the compiled code that counts. Nobody lists dependencies by hand,
and editing an unrelated function in the same file costs nothing.

The releases of outside packages that these definitions import count too, where a package's numerics
decide the result (`NUMERIC`): an upgrade of torch or FAISS builds anew.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
from contextlib import suppress
from functools import cache

from neurosearch.core.compiled import compiled
from neurosearch.core.definitions import (
    PACKAGE,
    SNAPSHOT,
    definition,
    imported,
    is_followed,
    parsed,
)
from neurosearch.core.normalised import normalised

# What moves bytes and reports progress but decides no result.
INFRASTRUCTURE = frozenset(
    f"{PACKAGE}.{name}"
    for name in (
        "app",
        "core.artifact",
        "core.command",
        "core.compiled",
        "core.definitions",
        "core.distributed",
        "core.errors",
        "core.fingerprint",
        "core.machine",
        "core.normalised",
        "core.recipe",
        "core.runtime",
        "core.seal",
        "core.stages",
        "core.store",
    )
)

# Distributions that bring the same module; the first one names it.
SAME = {"faiss-cpu": ("faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs")}
# Imported name -> distribution, of the packages whose releases are part of a result's identity.
# Those that only move or store data (polars, pyarrow, safetensors) are not.
NUMERIC = {
    "bm25s": "bm25s",
    "efficientnet_lite_pytorch": "efficientnet-lite-pytorch",
    "faiss": "faiss-cpu",
    "lightgbm": "lightgbm",
    "numpy": "numpy",
    "onnxruntime": "onnxruntime",
    "peft": "peft",
    "PIL": "pillow",
    "pyserini": "pyserini",  # carries Lucene, in Anserini's jar
    "ranx": "ranx",
    "scipy": "scipy",
    "sentence_transformers": "sentence-transformers",
    "sklearn": "scikit-learn",
    "Stemmer": "PyStemmer",
    "tokenizers": "tokenizers",
    "torch": "torch",
    "transformers": "transformers",
    "umap": "umap-learn",
}


def edited_since_start() -> list[str]:
    """Files of this package whose code is another than when this process began.

    What such a process builds would be filed under code that it doesn't run, so the store
    refuses to build then.
    """
    edited = []
    for path, before in SNAPSHOT.items():
        now = path.read_bytes() if path.exists() else b""
        if now != before and normalised(now) != normalised(before):
            edited.append(path.name)
    return edited


@cache
def code_digest(cls: type) -> str:
    """Hex digest of the code behind `cls`; classes of installed packages digest to their name."""
    definitions = _reached(cls)
    text = "\n".join(
        f"{module}:{name}\n{definitions[module, name]}" for module, name in sorted(definitions)
    )
    text += "".join(f"\n{name} {version}" for name, version in releases(cls).items())
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def reached(cls: type) -> list[str]:
    """The definitions whose code counts for `cls`, as `module:name`; for people and tests."""
    return [f"{module}:{name}" for module, name in sorted(_reached(cls))]


@cache
def _reached(cls: type) -> dict[tuple[str, str], str]:
    return reach(cls.__module__, cls.__qualname__.split(".")[0])


def reach(module: str, name: str) -> dict[tuple[str, str], str]:
    """A definition and all that it names, and so on.

    Args:
        module: its full name; it is not imported.
        name: of a definition at its top level.

    Returns:
        (module, name) -> normalised source; that of installed packages is empty.
    """
    found: dict[tuple[str, str], str] = {}
    pending = [(module, name)]
    while pending:
        module, name = pending.pop()
        if (module, name) in found or module in INFRASTRUCTURE:
            continue
        if not is_followed(module):
            found[module, name] = ""
            continue
        source = parsed(module)
        if source is None:
            found[module, name], used = compiled(module, name)
            pending += used
            continue
        if name not in source.definitions:
            origin = source.imports.get(name)
            if origin is not None and origin[1] is not None:
                pending.append((origin[0], origin[1]))
            continue
        found[module, name], used = definition(module, name)
        pending += used
    return found


@cache
def releases(cls: type) -> dict[str, str]:
    """Distribution -> release of the numeric packages that the code behind `cls` imports.

    Nothing is imported for it. A build's local part (`+cpu`) is left out: it names the machine.
    """
    names = {name for (module, _), text in _reached(cls).items() for name in _outside(module, text)}
    return {NUMERIC[name]: _release(NUMERIC[name]) for name in sorted(names & set(NUMERIC))}


@cache
def _outside(module: str, text: str) -> frozenset[str]:
    """Outside packages that a definition's normalised source imports, or names."""
    source = parsed(module) if is_followed(module) else None
    if source is None:
        return frozenset()
    outside = source.outside
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        names.update(imported(node))
        if isinstance(node, ast.Name) and node.id in outside:
            names.add(outside[node.id])
    return frozenset(names)


@cache
def _release(distribution: str) -> str:
    for name in SAME.get(distribution, (distribution,)):
        with suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name).split("+")[0]
    return "absent"
