"""The code of what was typed in a notebook, which has no file: what it was compiled to."""

from __future__ import annotations

import sys
from types import CodeType, FunctionType, ModuleType
from typing import Any


def compiled(module: str, name: str) -> tuple[str, list[tuple[str, str]]]:
    """The compiled code of what a notebook defines, and the names of its own that it uses.

    Args:
        module: of a notebook; it is imported.
        name: what it defines.

    Returns:
        Code as text, and pairs of a module and a name.
    """
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
