"""Hooks of the site: pages made of notebooks, experiments and recipes, and links that fit.

A page of the repository links to files of the repository. On the site some of these are pages
elsewhere, and others (scripts, configs) are not there: their links become plain text.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).parent))

import formulas
import links
import notebooks
import reference

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ASSETS = {".svg", ".png"}


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made."""
    made: dict[str, str | bytes] = {}
    for notebook in (*sorted((DOCS / "course").glob("*.ipynb")), DOCS / "first_table.ipynb"):
        made |= notebooks.pages(notebook, DOCS)
    made |= experiments()
    made |= reference.config_pages()
    made |= reference.api_pages()
    made |= reference.methods_page()
    for name in ("CONTRIBUTING.md", "CHANGELOG.md"):
        made[name] = links.rewritten((ROOT / name).read_text("utf-8"), name, name)
    for name in ("site.css", "frames.js"):
        made[f"assets/own/{name}"] = (DOCS / "making" / name).read_text("utf-8")
    for path, content in made.items():
        there = files.get_file_from_path(path)
        if there is not None:
            files.remove(there)
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links of pages that lie in docs/."""
    source = page.file.src_uri
    if not page.file.generated_by:
        markdown = links.rewritten(markdown, f"docs/{source}", source)
    # A reference's signatures have dollars of their own.
    return markdown if source.startswith("reference/") else formulas.drawn(markdown)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """A script that the theme would fetch from the network is our own."""
    root = "../" * page.url.count("/")
    return re.sub(r"https://unpkg\.com/iframe-worker/shim", f"{root}assets/own/frames.js", output)


def experiments() -> dict[str, str | bytes]:
    """A page an experiment, with its tables, and one of all."""
    made: dict[str, str | bytes] = {}
    lines = ["# Experiments", "", "| experiment | question |", "|---|---|"]
    for readme in sorted((ROOT / "experiments").glob("*/README.md")):
        name = readme.parent.name
        text = readme.read_text("utf-8")
        claim = next((x for x in text.splitlines() if x.startswith("* **Claim**: ")), "")
        lines.append(f"| [{name}]({name}.md) | {claim.removeprefix('* **Claim**: ')} |")
        parts = [links.rewritten(text, f"experiments/{name}/README.md", f"experiments/{name}.md")]
        for table in sorted((readme.parent / "results").rglob("*.md")):
            place = table.relative_to(ROOT).as_posix()
            body = table.read_text("utf-8")
            shown = links.rewritten(body, place, f"experiments/{name}.md")
            title = table.relative_to(readme.parent / "results").with_suffix("").as_posix()
            rest = shown.split("\n", 1)[1] if shown.startswith("#") else shown
            parts.append(f"## {title} {{ #{links.anchor(place)} }}\n\n{rest}")
        for picture in sorted((readme.parent / "results").rglob("*")):
            if picture.suffix in ASSETS:
                made[picture.relative_to(ROOT).as_posix()] = picture.read_bytes()
        made[f"experiments/{name}.md"] = "\n\n".join(parts)
    overview = ["", "[What won, by how much](RESULTS.md), and [claims held against it](CLAIMS.md)."]
    made["experiments/index.md"] = "\n".join([*lines[:2], *overview, "", *lines[2:]])
    for name in ("RESULTS.md", "CLAIMS.md"):
        text = (ROOT / "experiments" / name).read_text("utf-8")
        made[f"experiments/{name}"] = links.rewritten(
            text, f"experiments/{name}", f"experiments/{name}"
        )
    return made
