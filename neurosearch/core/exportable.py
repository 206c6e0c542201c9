"""A part of a system that other libraries can load, and how it is written for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurosearch.core.runtime import Runtime


@dataclass(frozen=True)
class Exportable:
    """What `task=export` writes.

    Attributes:
        label: of the part.
        library: the hub's name of the library that loads it, such as `sentence-transformers`.
        base: the model that its training began with; '' for none.
        is_trained: whether it was trained here.
        example: lines of Python that load and use it.
        write: writes it into an empty folder.
        networks: its torch modules by file name, functions of padded tokens and their mask, for
            ONNX; None for a part that has none.
        note: what the library does otherwise than NeuroSearch; '' for nothing.
    """

    label: str
    library: str
    base: str
    example: tuple[str, ...]
    write: Callable[[Path, Runtime], None]
    note: str = ""
    is_trained: bool = True
    networks: Callable[[Runtime], Mapping[str, Any]] | None = None


def below(place: str, parts: Mapping[str, Exportable]) -> dict[str, Exportable]:
    """The parts of a member, by their addresses from above: `members.dense.encoder`.

    Args:
        place: the member's key, such as `members.dense`.
        parts: by their addresses within the member.

    Returns:
        The same parts by longer addresses.
    """
    return {f"{place}.{name}": part for name, part in parts.items()}
