"""Recipes: frozen dataclasses whose fields are their config, and their fingerprints.

A recipe says exactly what changes its result and nothing else: devices, paths, worker counts
and progress bars live in `Runtime`. A field that names files (a data folder, model weights)
declares how its content is digested, so that what is fingerprinted is the content, not where
it happens to lie.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from neurosearch.core.bounds import bounds_of, check_seed
from neurosearch.core.digests import digest
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
        """The error of a field's value; `reason` begins with a verb, such as `must be …`.

        Args:
            field: the field's name.
            reason: what is allowed, and what was given.

        Returns:
            The error, to be raised.
        """
        return FieldError(type(self).__name__, field, reason)

    @property
    def fingerprint(self) -> str:
        """Hex digest of the class's code and the fields' content."""
        return digest_of(self)

    def label(self) -> str:
        """How a reader would name this component in a table.

        Returns:
            A short name, without its parameters where they are the usual ones.
        """
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


PRECISIONS = ("fp32", "bf16")  # of a network's weights and activations


R = TypeVar("R", bound=Recipe)
P = ParamSpec("P")
T = TypeVar("T")

_generation = [0]


def look_again() -> None:
    """Let recipes be described anew: files may have changed since they were."""
    _generation[0] += 1


def describe(value: Any) -> Any:
    """JSON-able description of a recipe or a field: what its fingerprint is taken of.

    Args:
        value: a recipe, an artifact, a dataclass, a mapping, a list or a scalar.

    Returns:
        Nested dictionaries, lists and scalars.
    """
    if hasattr(value, "artifact_fingerprint"):
        return {"artifact": value.artifact_fingerprint}
    if isinstance(value, Recipe):
        memory = _memory(value)
        if "described" not in memory:
            memory["described"] = _describe_fields(value)
        return memory["described"]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _describe_fields(value)
    if isinstance(value, Mapping):
        return {str(key): describe(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return repr(value)
    raise TypeError(f"a recipe's field can't hold {type(value).__name__}: {value!r}")


def digest_of(value: Any) -> str:
    """Hex digest of what `describe` says of a value.

    Args:
        value: a recipe, an artifact, a dataclass, a mapping, a list or a scalar.

    Returns:
        24 characters; of an artifact its fingerprint.
    """
    if hasattr(value, "artifact_fingerprint"):
        fingerprint: str = value.artifact_fingerprint
        return fingerprint
    if not isinstance(value, Recipe):
        return digest(describe(value))
    memory = _memory(value)
    if "digest" not in memory:
        memory["digest"] = digest(describe(value))
    return cast(str, memory["digest"])


def remembered(
    method: Callable[Concatenate[R, P], T],
) -> Callable[Concatenate[R, P], T]:
    """A method of a recipe that is called once for the same arguments, told by their digests.

    It is for methods that say which artifacts are needed. Where a system is trained on what
    another system found, those of both are asked for again at every step, and the calls multiply.

    Args:
        method: of a recipe; its arguments are what `digest_of` takes.

    Returns:
        The method, which remembers what it returned until files may have changed (`look_again`).
    """

    @wraps(method)
    def call(self: R, /, *args: P.args, **kwargs: P.kwargs) -> T:
        memory = _memory(self)
        named = [f"{name}={digest_of(value)}" for name, value in sorted(kwargs.items())]
        key = " ".join([method.__qualname__, *map(digest_of, args), *named])
        if key not in memory:
            memory[key] = method(self, *args, **kwargs)
        return cast(T, memory[key])

    return call


def _memory(recipe: Recipe) -> dict[str, Any]:
    """What is known of a recipe, which is frozen, until its files may have changed."""
    known = recipe.__dict__.get("_known")
    if known is None or known[0] != _generation[0]:
        known = (_generation[0], {})
        object.__setattr__(recipe, "_known", known)
    return cast(dict[str, Any], known[1])


def _describe_fields(value: Any) -> dict[str, Any]:
    cls = type(value)
    fields: dict[str, Any] = {}
    for spec in dataclasses.fields(value):
        item = getattr(value, spec.name)
        if not spec.metadata.get("identity", True):
            continue
        digester = spec.metadata.get("digest")
        fields[spec.name] = describe(item) if digester is None else digester(item)
    return {
        "recipe": f"{cls.__module__}.{cls.__qualname__}",
        "code": code_digest(cast(Any, cls)),
        **fields,
    }


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
