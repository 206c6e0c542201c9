"""What a recipe's field may hold: bounds on the field itself, and checks with the same messages."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from neurosearch.core.errors import InputError


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
            values = value if isinstance(value, list | tuple) else [value]
            wrong = [one for one in values if one not in self.choices]
            return f"must be one of {known}, not {wrong[0]!r}" if wrong else ""
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
    declared: dict[str, Bounds] = {}
    for base in reversed(kind.__mro__):
        for name, spec in vars(base).get("__dataclass_fields__", {}).items():
            if "bounds" in spec.metadata:
                declared[name] = spec.metadata["bounds"]
    return declared


def setting(default: Any, *, identity: bool = True, **limits: Any) -> Any:
    """A field with a default and bounds, which `Recipe` checks; `limits`: see `bounds`.

    `identity`: whether it changes the result, and so the fingerprint.
    """
    limited: dict[str, Any] = dict(bounds(**limits)) if limits else {}
    return field(default=default, metadata={**limited, "identity": identity})


def within(key: str, value: float | None, **limits: float) -> None:
    """Raise InputError naming the config key for what no recipe holds; `limits`: see `bounds`."""
    refusal = Bounds(**limits).refusal(value)  # type: ignore[arg-type]
    if refusal:
        raise InputError(f"{key} {refusal}")


def one_of(key: str, value: str, choices: Sequence[str]) -> None:
    """Raise InputError naming the config key unless `value` is among `choices`."""
    refusal = Bounds(choices=tuple(choices)).refusal(value)
    if refusal:
        raise InputError(f"{key} {refusal}")


def check_name(name: str) -> None:
    """Raise InputError for an experiment's name that is no plain folder's."""
    if not re.fullmatch(r"\w[\w.=,+-]{0,99}", name):
        message = "1 to 100 letters, digits or . , = + - and a letter or digit first"
        raise InputError(f"name must be {message}, not {name[:120]!r}")


def check_seed(key: str, value: Any) -> None:
    """Raise InputError naming the config key for what NumPy and torch don't both take as a seed."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**32:
        raise InputError(f"{key} must be 0 to {2**32 - 1}, not {value}")


def values_of(value: Any, name: str) -> list[Any]:
    """All values of a field of this name in a recipe and its parts."""
    values_found = []
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for spec in dataclasses.fields(value):
            item = getattr(value, spec.name)
            values_found += [item] if spec.name == name else values_of(item, name)
    elif isinstance(value, Mapping):
        values_found = [x for item in value.values() for x in values_of(item, name)]
    elif isinstance(value, list | tuple):
        values_found = [x for item in value for x in values_of(item, name)]
    return values_found
