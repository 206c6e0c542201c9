"""Pages from templates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def script_data(facts: Any) -> Any:
    """Facts as JSON that a page's script element can hold: nothing in it may look like a tag.

    Args:
        facts: JSON-able.

    Returns:
        Markup.
    """
    from markupsafe import Markup

    text = json.dumps(facts, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))


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
