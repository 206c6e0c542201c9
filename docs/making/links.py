"""Links of the repository's pages as links of the site."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
KEPT = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
}


def anchor(path: str) -> str:
    """The anchor of a results file on its experiment's page."""
    return re.sub(r"[^a-z0-9]+", "-", path.split("/results/", 1)[1].removesuffix(".md").lower())


def target_of(path: str) -> str | None:
    """Where a file of the repository is on the site; None where it is not there."""
    parts = PurePosixPath(path).parts
    if path in KEPT:
        return KEPT[path]
    if parts[0] == "docs":
        inside = "/".join(parts[1:])
        return inside.removesuffix(".ipynb") + ".md" if inside.endswith(".ipynb") else inside
    if parts[0] == "experiments" and len(parts) == 2 and path.endswith(".md"):
        return path
    if parts[0] == "experiments" and len(parts) > 2:
        if parts[2] == "README.md":
            return f"experiments/{parts[1]}.md"
        if parts[2] == "results" and path.endswith(".md") and (ROOT / path).exists():
            return f"experiments/{parts[1]}.md#{anchor(path)}"
        if path.endswith((".svg", ".png")):
            return path
    return None


def rewritten(markdown: str, source: str, page: str) -> str:
    """Markdown whose links fit a page of the site.

    Args:
        markdown: of a file of the repository.
        source: its path in the repository.
        page: the path of the page on the site.

    Returns:
        Markdown; links to what is not on the site are their text alone.
    """

    def changed(match: re.Match[str]) -> str:
        picture, text, link = match.groups()
        if re.match(r"[a-z]+:|#", link):
            return match.group(0)
        path, _, fragment = link.partition("#")
        whole = os.path.normpath(os.path.join(os.path.dirname(source), path))  # noqa: PTH118, PTH120
        target = target_of(whole)
        if target is None:
            return text
        place = os.path.relpath(target.split("#")[0], os.path.dirname(page) or ".")  # noqa: PTH120
        fragment = fragment or target.partition("#")[2]
        return f"{picture}[{text}]({place}{'#' + fragment if fragment else ''})"

    return LINK.sub(changed, markdown)
