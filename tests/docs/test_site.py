"""The site builds without a warning, its links lead somewhere, and it needs no network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


class Page(HTMLParser):
    """Links, and what is fetched, of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids |= {str(given["id"])} if given.get("id") else set()
        if tag == "a" and given.get("href"):
            self.links.append(str(given["href"]))
        if tag in ("script", "img") and given.get("src"):
            self.fetched.append(str(given["src"]))
        if tag == "link" and given.get("rel") in ("stylesheet", "icon"):
            self.fetched.append(str(given["href"]))


def test_links_lead_somewhere_and_nothing_is_fetched(site: Path) -> None:
    pages = {path: Page(path.read_text("utf-8")) for path in site.rglob("*.html")}
    assert len(pages) > 120
    faults = []
    for path, page in pages.items():
        if path.name == "404.html":  # served for any address, so its links begin at the root
            continue
        for link in (*page.links, *page.fetched):
            if re.match(r"(https?|mailto):", link):
                faults += [f"{path.name} fetches {link}"] if link in page.fetched else []
                continue
            place, _, fragment = unquote(link).partition("#")
            target = (path.parent / place).resolve() if place else path
            if not target.exists():
                faults.append(f"{path.relative_to(site)}: {link}")
            elif fragment and target in pages and fragment not in pages[target].ids:
                faults.append(f"{path.relative_to(site)}: {link} (no such place)")
    assert not faults, faults[:20]


def test_the_reference_has_every_choice_and_field(site: Path) -> None:
    for folder in ("retriever", "encoder", "tokenizer", "task"):
        page = (site / "reference" / "config" / f"{folder}.html").read_text("utf-8")
        for path in (ROOT / "conf" / folder).glob("*.yaml"):
            assert f"{folder}={path.stem}" in page, path
    page = (site / "reference" / "config" / "retriever.html").read_text("utf-8")
    line = page[page.index("<code>k1</code>") :][:600]
    assert "at least 0" in line and "<code>0.9</code>" in line
    assert "saturation of term frequency" in line  # a meaning that recipes share


def test_every_experiment_has_a_page_with_its_tables(site: Path) -> None:
    for readme in ROOT.glob("experiments/*/README.md"):
        page = (site / "experiments" / f"{readme.parent.name}.html").read_text("utf-8")
        for table in (readme.parent / "results").rglob("*.md"):
            row = [x for x in table.read_text().splitlines() if x.startswith("| ")]
            if len(row) > 1:
                name = re.sub(r"[*_`]", "", row[1].split("|")[1]).strip().split(" · ")[0]
                assert name.split("&")[0].split("<")[0][:20] in page, f"{table}: {name}"


def test_formulas_are_drawn_without_a_script(site: Path) -> None:
    page = (site / "course" / "02_two_towers.html").read_text("utf-8")
    assert page.count("<math") >= 3 and "$$" not in page
