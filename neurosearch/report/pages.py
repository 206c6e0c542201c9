"""Pages from templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def rendered(template: Path, **facts: Any) -> str:
    """A page. What is put into it is escaped, unless the template says otherwise.

    Args:
        template: of Jinja.
        facts: by the names that it uses.

    Returns:
        HTML.
    """
    from jinja2 import Environment

    made = Environment(autoescape=True).from_string(template.read_text(encoding="utf-8"))
    return made.render(**facts)
