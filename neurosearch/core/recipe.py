"""Recipes: frozen dataclasses whose fields are their config, and their fingerprints.

A recipe says exactly what changes its result and nothing else: devices, paths, worker counts
and progress bars live in `Runtime`. A field that names files (a data folder, model weights)
declares how its content is digested, so that what is fingerprinted is the content, not where
it happens to lie.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

from neurosearch.core.errors import InputError
from neurosearch.core.fingerprint import code_digest

_SCALARS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (float, int),
    "str": (str,),
    "bool": (bool,),
}


@dataclass(frozen=True)
class Recipe:
    """Base of every component. Subclasses are frozen dataclasses; lists become tuples.

    Raises:
        InputError: a field holds a value of another type, or one out of its bounds (named as
            `Class.field`).
    """

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            value = getattr(self, spec.name)
            object.__setattr__(self, spec.name, _checked(type(self).__name__, spec, value))
        for name, limits in bounds_of(cast(Any, type(self))).items():
            refusal = limits.refusal(getattr(self, name))
            if refusal:
                raise self.error(name, refusal)

    def error(self, field: str, reason: str) -> FieldError:
        """The error of a field's value; `reason` begins with a verb, such as `must be …`."""
        return FieldError(type(self).__name__, field, reason)

    @property
    def fingerprint(self) -> str:
        """Hex digest of the class's code and the fields' content."""
        return digest(describe(self))

    def label(self) -> str:
        """How a reader would name this component in a table."""
        return type(self).__name__


class FieldError(InputError):
    """A value that a recipe's field refuses.

    Attributes:
        field: its name; the config key as it was typed is put before it where there is one
            (`task.base.build`).
        reason: what is allowed, and what was given.
    """

    def __init__(self, owner: str, field: str, reason: str) -> None:
        super().__init__(f"{owner}.{field} {reason}")
        self.field, self.reason = field, reason


@dataclass(frozen=True)
class Bounds:
    """What a field accepts; None is always accepted where the type allows it."""

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf
    choices: tuple[str, ...] = ()

    def refusal(self, value: Any) -> str:
        """What is wrong with a value, such as `must be at least 1, not 0`; '' where nothing is."""
        if value is None:
            return ""
        if self.choices:
            known = ", ".join(self.choices)
            return "" if value in self.choices else f"must be one of {known}, not {value!r}"
        if self.least <= value <= self.most and self.above < value < self.below:
            return ""
        limits = {"at least": self.least, "above": self.above, "at most": self.most}
        limits["below"] = self.below
        allowed = " and ".join(f"{w} {x:g}" for w, x in limits.items() if math.isfinite(x))
        return f"must be {allowed}, not {value}"


def bounds(
    *,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    choices: Sequence[str] = (),
) -> dict[str, Bounds]:
    """Metadata of a field that has no default (`setting` for one that has).

    Args:
        least, most: inclusive limits.
        above, below: exclusive limits.
        choices: the only values allowed.
    """
    return {"bounds": Bounds(least, most, above, below, tuple(choices))}


@cache
def bounds_of(kind: type) -> dict[str, Bounds]:
    """The bounds of a recipe's fields; a field with another default keeps those of its base."""
    found: dict[str, Bounds] = {}
    for base in reversed(kind.__mro__):
        for name, spec in vars(base).get("__dataclass_fields__", {}).items():
            if "bounds" in spec.metadata:
                found[name] = spec.metadata["bounds"]
    return found


def setting(default: Any, **limits: Any) -> Any:
    """A field with a default and bounds, which `Recipe` checks; `limits`: see `bounds`."""
    return field(default=default, metadata=bounds(**limits))


def within(key: str, value: float | None, **limits: float) -> None:
    """Raise InputError naming the config key for what no recipe holds; `limits`: see `bounds`."""
    refusal = Bounds(**limits).refusal(value)  # type: ignore[arg-type]
    if refusal:
        raise InputError(f"{key} {refusal}")


PRECISIONS = ("fp32", "bf16")  # of a network's weights and activations


def one_of(key: str, value: str, choices: Sequence[str]) -> None:
    """Raise InputError naming the config key unless `value` is among `choices`."""
    refusal = Bounds(choices=tuple(choices)).refusal(value)
    if refusal:
        raise InputError(f"{key} {refusal}")


def check_seed(key: str, value: Any) -> None:
    """Raise InputError naming the config key for what NumPy and torch don't both take as a seed."""
    if not isinstance(value, int) or not 0 <= value < 2**32:
        raise InputError(f"{key} must be 0 to {2**32 - 1}, not {value}")


def values_of(value: Any, name: str) -> list[Any]:
    """All values of a field of this name in a recipe and its parts."""
    found = []
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for spec in dataclasses.fields(value):
            item = getattr(value, spec.name)
            found += [item] if spec.name == name else values_of(item, name)
    elif isinstance(value, Mapping):
        found = [x for item in value.values() for x in values_of(item, name)]
    elif isinstance(value, list | tuple):
        found = [x for item in value for x in values_of(item, name)]
    return found


def content(digester: Callable[[Any], str], **kwargs: Any) -> Any:
    """A dataclass field that is fingerprinted by `digester(value)`, not by its value."""
    return field(metadata={"digest": digester}, **kwargs)


def digest(description: Any) -> str:
    """Hex digest (24 characters) of a JSON-able description."""
    text = json.dumps(description, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def describe(value: Any) -> Any:
    """JSON-able description of a recipe or a field: what its fingerprint is taken of."""
    if hasattr(value, "artifact_fingerprint"):
        return {"artifact": value.artifact_fingerprint}
    if isinstance(value, Recipe):
        # It is frozen, and what its files hold is digested once a process.
        if "_described" not in value.__dict__:
            object.__setattr__(value, "_described", _describe_fields(value))
        return value.__dict__["_described"]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _describe_fields(value)
    if isinstance(value, Mapping):
        return {str(key): describe(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return repr(value)
    raise TypeError(f"a recipe's field can't hold {type(value).__name__}: {value!r}")


def _describe_fields(value: Any) -> dict[str, Any]:
    cls = type(value)
    fields: dict[str, Any] = {}
    for spec in dataclasses.fields(value):
        item = getattr(value, spec.name)
        digester = spec.metadata.get("digest")
        fields[spec.name] = describe(item) if digester is None else digester(item)
    return {
        "recipe": f"{cls.__module__}.{cls.__qualname__}",
        "code": code_digest(cast(Any, cls)),
        **fields,
    }


@cache
def content_digest(path: str | Path) -> str:
    """Hex digest of a file's bytes, or of a folder's relative names and bytes.

    Cached for the life of the process. Raises InputError where nothing lies at `path`.
    """
    path = Path(path)
    if path.is_dir():
        parts = [
            f"{file.relative_to(path).as_posix()} {content_digest(file)}"
            for file in sorted(_files_below(path))
            if not _is_hidden(file.relative_to(path))
        ]
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=12).hexdigest()
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder")
    try:
        return file_digest(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


def file_digest(path: Path) -> str:
    """Hex digest (24 characters) of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.blake2b(digest_size=12)).hexdigest()


def _files_below(folder: Path) -> Iterator[Path]:
    """Files at any depth, links followed: loaders follow them too. No folder is read twice."""
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [x for x in folders if os.path.realpath(f"{place}/{x}") not in seen]
        seen.update(os.path.realpath(f"{place}/{x}") for x in folders)
        yield from (path for name in files if (path := Path(place, name)).is_file())


def _is_hidden(path: Path) -> bool:
    """Whether a name below the digested folder begins with a dot (`.git`, `.DS_Store`)."""
    return any(part.startswith(".") for part in path.parts)


def _checked(owner: str, spec: dataclasses.Field[Any], value: Any) -> Any:
    declared = str(spec.type)
    optional = declared.endswith(" | None")
    allowed = _SCALARS.get(declared.removesuffix(" | None"))
    if allowed is None:
        _check_member(owner, spec.name, declared, value)
        _check_holder(owner, spec.name, declared, value)
        return _frozen(value)
    if value is None and optional:
        return None
    # bool is an int to Python, but `k1: true` is a mistake.
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise FieldError(owner, spec.name, f"must be {declared}, not {value!r}")
    if spec.name == "seed":
        check_seed(f"{owner}.seed", value)
    if isinstance(value, float) and not math.isfinite(value):
        raise FieldError(owner, spec.name, f"must be a finite number, not {value!r}")
    return float(str(value)) if declared.startswith("float") and isinstance(value, int) else value


def _check_holder(owner: str, name: str, declared: str, value: Any) -> None:
    """Raise InputError where a mapping or a list is wanted, and something else is given."""
    if value is None and declared.endswith(" | None"):
        return
    if declared.startswith(("Mapping[", "dict[")) and not isinstance(value, Mapping):
        raise FieldError(owner, name, f"must be a mapping, not {value!r}")
    if declared.startswith("tuple[") and not isinstance(value, list | tuple):
        raise FieldError(owner, name, f"must be a list, not {value!r}")


def _check_member(owner: str, name: str, declared: str, value: Any) -> None:
    """Raise InputError where a component is wanted, such as `encoder: Encoder`, and a plain value
    or nothing is given."""
    kind = declared.removesuffix(" | None")
    if not re.fullmatch(r"[A-Z]\w*", kind) or kind in ("Any", "Path"):
        return
    optional = kind != declared
    if (value is None and not optional) or isinstance(value, str | int | float):
        raise FieldError(owner, name, f"must be a config of {kind}, not {value!r}")


def _frozen(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return value
