"""The public interface is documented: arguments, what is returned, and what is raised.

Public is what `neurosearch` exports, the protocols of the roles (`<role>/base.py`), and the types
that flow between roles (`core`). An override may leave to its base what is the same there.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import FunctionType

import pytest

import neurosearch

PACKAGE = Path(neurosearch.__file__).parent
CORE = ("artifact", "exportable", "query", "ragged", "recipe", "retrieval", "run", "runtime")
CORE = (*CORE, "semantic_ids", "store", "types", "vectors")
MODULES = [
    *(f"neurosearch.core.{name}" for name in CORE),
    *(
        ".".join(("neurosearch", *path.relative_to(PACKAGE).with_suffix("").parts))
        for path in sorted(PACKAGE.rglob("base.py"))
    ),
    "neurosearch.comparison",
    "neurosearch.evaluation.gain",
    "neurosearch.report.comparison",
    "neurosearch.training.schedule",
]


def functions() -> Iterator[tuple[str, list[FunctionType]]]:
    """Public functions and methods by name, each with the definitions that it overrides."""
    public = {getattr(neurosearch, name) for name in neurosearch.__all__}
    for name in MODULES:
        public |= {
            value
            for key, value in vars(import_module(name)).items()
            if not key.startswith("_") and getattr(value, "__module__", "") == name
        }
    for item in public:
        if inspect.isclass(item):
            for name in dir(item):
                versions = [plain(vars(c).get(name)) for c in item.__mro__ if ours(c)]
                versions = [version for version in versions if version is not None]
                if versions and not name.startswith("_"):
                    yield f"{versions[0].__module__}.{versions[0].__qualname__}", versions
        elif (found := plain(item)) is not None:
            yield f"{found.__module__}.{found.__qualname__}", [found]


def ours(owner: type) -> bool:
    return owner.__module__.startswith("neurosearch")


def plain(value: object) -> FunctionType | None:
    """The function behind decorators; None for what is no function, a property for instance."""
    if isinstance(value, classmethod | staticmethod):
        value = value.__func__
    value = inspect.unwrap(value) if callable(value) else value
    return value if isinstance(value, FunctionType) else None


PUBLIC = dict(functions())


def section(doc: str, title: str) -> str:
    """The indented lines below `Args:`, `Returns:` or `Raises:`."""
    found = re.search(rf"^{title}:\n((?:    .*\n?|\n)*)", inspect.cleandoc(doc), re.MULTILINE)
    return found.group(1) if found else ""


def raised(function: FunctionType) -> set[str]:
    """The errors of bad input that the function's own lines raise."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    called = [n.exc.func for n in ast.walk(tree) if isinstance(n, ast.Raise) and is_call(n.exc)]
    return {ast.unparse(name) for name in called} & {"InputError", "SealedError"}


def is_call(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Call)


@pytest.mark.parametrize("kind", ["arguments", "returned", "raised"])
def test_public_functions_are_documented(kind: str) -> None:
    assert len(PUBLIC) > 300
    missing = []
    for name, versions in PUBLIC.items():
        docs = [version.__doc__ or "" for version in versions]
        signature = inspect.signature(versions[0])
        if kind == "arguments":
            wanted = [key for key in signature.parameters if key not in ("self", "cls")]
            named = " ".join(section(doc, "Args") for doc in docs)
            lacking = [key for key in wanted if not re.search(rf"^    .*\b{key}\b.*:", named, re.M)]
            missing += [f"{name}: {key}" for key in lacking]
        elif kind == "returned" and signature.return_annotation != "None":
            if not any(section(doc, "Returns") or section(doc, "Yields") for doc in docs):
                missing.append(name)
        elif kind == "raised":
            said = " ".join(docs)
            missing += [f"{name}: {error}" for error in raised(versions[0]) if error not in said]
    assert missing == []
