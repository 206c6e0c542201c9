"""Notebooks as pages: text as it is, code with its output below, pictures as files."""

from __future__ import annotations

import base64
from pathlib import Path

import links
import nbformat


def pages(notebook: Path, docs: Path) -> dict[str, str | bytes]:
    """The page of a notebook, and its pictures.

    Args:
        notebook: executed.
        docs: the folder of all pages.

    Returns:
        By path on the site.
    """
    page = notebook.relative_to(docs).with_suffix(".md").as_posix()
    made: dict[str, str | bytes] = {}
    parts: list[str] = []
    for number, cell in enumerate(nbformat.read(notebook, as_version=4).cells):
        if cell.cell_type == "markdown":
            parts.append(links.rewritten(cell.source, f"docs/{page}", page))
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for place, output in enumerate(cell.get("outputs", [])):
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{notebook.stem}_{number}_{place}.png"
                made[str(Path(page).parent / name)] = base64.b64decode(data["image/png"])
                parts.append(f"![what the cell above draws]({name})")
            elif "text/markdown" in data:
                parts.append(data["text/markdown"])
            elif "text/html" in data:
                parts.append(f'<div class="wide">{data["text/html"]}</div>')
            else:
                parts.append(
                    f"```text\n{(output.get('text') or data.get('text/plain', '')).rstrip()}\n```"
                )
    script = f"docs/{Path(page).with_suffix('.py')}"
    parts.append(
        f"*This page is the notebook `docs/{Path(page).with_suffix('.ipynb')}`; its script is `{script}`.*"
    )
    made[page] = "\n\n".join(parts)
    return made
