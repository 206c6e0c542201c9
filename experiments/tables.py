"""What the readable form of a published table says of itself. For `again.py` and `changed.py`."""

from __future__ import annotations

import re
import shlex
from pathlib import Path


def command(text: str) -> list[str]:
    """The words of the command that made a table; none where it doesn't say."""
    found = re.search(r"(?:^|\s)Command: (.+?)\.?\s*$", text, re.M)
    return shlex.split(found[1]) if found else []


def link(place: Path) -> str:
    """A link to a table, from a page of this folder.

    Args:
        place: of the table below this folder.

    Returns:
        Markdown.
    """
    path = place.as_posix()
    return f"[{path.removesuffix('.md').replace('/results', '')}]({path})"
