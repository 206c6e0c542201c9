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
import importlib.util
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

PACKAGE = "neurosearch"

# What moves bytes and reports progress but decides no result.
INFRASTRUCTURE = frozenset(
    f"{PACKAGE}.{name}"
    for name in (
        "app",
        "core.artifact",
        "core.command",
        "core.distributed",
        "core.errors",
        "core.fingerprint",
        "core.machine",
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

# Presentation only: a better name for a row must not re-run it.
PRESENTATION = frozenset({"label", "__repr__", "__str__"})


# The sources as they were when this process began: what runs is what is fingerprinted.
_SNAPSHOT = {path: path.read_bytes() for path in Path(__file__).parents[1].rglob("*.py")}


def edited_since_start() -> list[str]:
    """Files of this package whose code is another than when this process began.

    What such a process builds would be filed under code that it doesn't run, so the store
    refuses to build then.
    """
    edited = []
    for path, before in _SNAPSHOT.items():
        now = path.read_bytes() if path.exists() else b""
        if now != before and _normalised(now) != _normalised(before):
            edited.append(path.name)
    return edited


def _normalised(source: bytes) -> str:
    try:
        return ast.unparse(_Strip().visit(ast.parse(source)))
    except SyntaxError:
        return ""


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
    definitions: dict[tuple[str, str], str] = {}
    _reach(cls.__module__, cls.__qualname__.split(".")[0], definitions)
    return definitions


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
    source = _parsed(module) if _is_followed(module) else None
    if source is None:
        return frozenset()
    outside = source.outside
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        names.update(_imported(node))
        if isinstance(node, ast.Name) and node.id in outside:
            names.add(outside[node.id])
    return frozenset(names)


@cache
def _release(distribution: str) -> str:
    for name in SAME.get(distribution, (distribution,)):
        with suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name).split("+")[0]
    return "absent"


def _imported(node: ast.AST) -> list[str]:
    """Outside packages that a statement imports, or looks for with `find_spec("name")`."""
    if isinstance(node, ast.Import):
        return [alias.name.split(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [(node.module or "").split(".")[0]]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("find_spec"):
        values = [a.value for a in node.args if isinstance(a, ast.Constant)]
        return [value for value in values if isinstance(value, str)]
    return []


class _Strip(ast.NodeTransformer):
    """Removes what cannot change a result: docstrings, annotations, presentation methods.

    Strings with fields become calls of their parts: releases of Python quote them differently, and
    a store may be shared by several.
    """

    def _body(self, node: ast.AST) -> ast.AST:
        body = node.body  # type: ignore[attr-defined]
        first = body[0] if body else None
        text = first.value if isinstance(first, ast.Expr) else None
        if isinstance(text, ast.Constant) and isinstance(text.value, str):
            body = body[1:]
        node.body = body or [ast.Pass()]  # type: ignore[attr-defined]
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        self.generic_visit(node)
        return self._body(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = [
            item
            for item in node.body
            if not (isinstance(item, ast.FunctionDef) and item.name in PRESENTATION)
        ]
        self.generic_visit(node)
        return self._body(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(value=None)
        self.generic_visit(node)
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        self.generic_visit(node)
        return ast.Call(ast.Constant(value="f"), node.values, [])

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.AST:
        self.generic_visit(node)
        form = node.format_spec or ast.Constant(value=None)
        return ast.Tuple([node.value, ast.Constant(value=node.conversion), form], ast.Load())


class _Module:
    """Top-level definitions and imports of one source file; `outside`: name -> outside package."""

    def __init__(self, path: Path, name: str) -> None:
        tree = ast.parse(_SNAPSHOT.get(path) or path.read_bytes())
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.imports: dict[str, tuple[str, str | None]] = {}
        self.outside: dict[str, str] = {}
        for statement in tree.body:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                for alias, package in zip(
                    statement.names, _imported(statement) * len(statement.names), strict=False
                ):
                    self.outside[(alias.asname or alias.name).split(".")[0]] = package
            for defined in _defined_names(statement):
                self.definitions.setdefault(defined, []).append(statement)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    named = alias.asname or alias.name
                    if "." not in named and _is_followed(alias.name):
                        self.imports[named] = (alias.name, None)
            elif isinstance(node, ast.ImportFrom):
                module = _absolute(node, name, path)
                if not _is_followed(module):
                    continue
                for alias in node.names:
                    target: tuple[str, str | None] = (module, alias.name)
                    if _source_of(f"{module}.{alias.name}") is not None:
                        target = (f"{module}.{alias.name}", None)
                    self.imports[alias.asname or alias.name] = target


def _defined_names(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign):
        return [n.id for t in statement.targets for n in ast.walk(t) if isinstance(n, ast.Name)]
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return [statement.target.id]
    return []


def _is_followed(module: str) -> bool:
    """Whether the code of a module counts: this package's, or a user's own."""
    package = module.partition(".")[0]
    return package == PACKAGE or _is_users(package)


@cache
def _is_users(package: str) -> bool:
    """Whether a top-level module or package is neither Python's nor an installed distribution."""
    if package == "__main__":
        return True
    if not package or package in sys.stdlib_module_names:
        return False
    places = [str(place) for place in _places_of(package)]
    installed = ("site-packages", "dist-packages")
    return bool(places) and not any(name in place for place in places for name in installed)


def _places_of(package: str) -> list[Path]:
    """The folders of a package, or the file of a module; none where it is not written in Python."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations:
        return [Path(place) for place in spec.submodule_search_locations]
    return [Path(spec.origin)] if spec.origin and spec.origin.endswith(".py") else []


def _absolute(node: ast.ImportFrom, name: str, path: Path) -> str:
    """The module that `from … import` names, in the module `name`."""
    if not node.level:
        return str(node.module or "")
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    if name == "__main__":
        package = str(getattr(sys.modules.get(name), "__package__", "") or "")
    above = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])


@cache
def _source_of(module: str) -> Path | None:
    """A module's file, found without importing anything: importlib would import its parents."""
    package, *parts = module.split(".")
    if package == "__main__":
        file = getattr(sys.modules.get(package), "__file__", None)
        return Path(file) if file and str(file).endswith(".py") else None
    places = _places_of(package)
    if len(places) == 1 and places[0].suffix == ".py":
        return None if parts else places[0]
    for root in places:
        place = Path(root, *parts)
        for file in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
            if file.is_file():
                return file
    return None


@cache
def _parsed(module: str) -> _Module | None:
    path = _source_of(module)
    return None if path is None else _Module(path, module)


def _reach(module: str, name: str, definitions: dict[tuple[str, str], str]) -> None:
    pending = [(module, name)]
    while pending:
        module, name = pending.pop()
        if (module, name) in definitions or module in INFRASTRUCTURE:
            continue
        if not _is_followed(module):
            definitions[module, name] = ""
            continue
        source = _parsed(module)
        if source is None:
            definitions[module, name], used = _compiled(module, name)
            pending += used
            continue
        if name not in source.definitions:
            imported = source.imports.get(name)
            if imported is not None and imported[1] is not None:
                pending.append((imported[0], imported[1]))
            continue
        definitions[module, name], used = _definition(module, name)
        pending += used


@cache
def _definition(module: str, name: str) -> tuple[str, list[tuple[str, str]]]:
    """The normalised source of a definition, and the definitions that it names."""
    source = _parsed(module)
    assert source is not None
    stripped = [_stripped(statement) for statement in source.definitions[name]]
    text = "\n".join(ast.unparse(node) for node in stripped)
    return text, [use for node in stripped for use in _uses(node, module, source)]


def _compiled(module: str, name: str) -> tuple[str, list[tuple[str, str]]]:
    """The compiled code of what a notebook defines, and the names of its own that it uses."""
    space = vars(sys.modules.get(module, ModuleType(module)))
    value = space.get(name)
    codes: list[CodeType] = []
    used: list[tuple[str, str]] = []
    if isinstance(value, type):
        used += [(base.__module__, base.__name__) for base in value.__bases__]
        for member in vars(value).values():
            function = getattr(member, "__func__", getattr(member, "fget", member))
            if isinstance(function, FunctionType) and not function.__name__.startswith("__"):
                codes.append(function.__code__)
    elif isinstance(value, FunctionType):
        codes.append(value.__code__)
    elif isinstance(value, bool | int | float | str | tuple):
        return repr(value), []
    texts: list[str] = []
    while codes:
        code = codes.pop()
        nested = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        codes += nested
        constants = [c for c in code.co_consts if c not in nested and c != _doc_of(code)]
        texts.append(f"{code.co_qualname} {code.co_code.hex()} {constants!r} {code.co_names}")
        used += [
            _place_of(space[other], module, other) for other in code.co_names if other in space
        ]
    return "\n".join(sorted(texts)), used


def _doc_of(code: CodeType) -> Any:
    """A function's docstring, which is its first constant."""
    first = code.co_consts[0] if code.co_consts else None
    return first if isinstance(first, str) else None


def _place_of(value: Any, module: str, name: str) -> tuple[str, str]:
    """Where a value that a notebook calls `name` is defined: there, or in what it imported."""
    if isinstance(value, type | FunctionType):
        return value.__module__, value.__name__
    return module, name


def _stripped(statement: ast.stmt) -> ast.stmt:
    copy = ast.parse(ast.unparse(statement)).body[0]
    stripped = _Strip().visit(copy)
    assert isinstance(stripped, ast.stmt)
    return stripped


def _uses(node: ast.AST, module: str, source: _Module) -> list[tuple[str, str]]:
    uses: list[tuple[str, str]] = []
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            if part.id in source.definitions:
                uses.append((module, part.id))
            elif part.id in source.imports:
                target, name = source.imports[part.id]
                if name is not None:
                    uses.append((target, name))
        elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
            imported = source.imports.get(part.value.id)
            if imported is not None and imported[1] is None:
                if part.attr == "__file__":  # a script that is run by its path counts whole
                    script = _parsed(imported[0])
                    uses += [(imported[0], name) for name in (script.definitions if script else ())]
                uses.append((imported[0], part.attr))
    return uses
