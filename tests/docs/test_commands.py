"""Every command of the documentation composes, and its pages' links and files exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser

from neurosearch import app  # noqa: F401  (registers the resolvers of the config)

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "docs" / "course").glob("*.py"))]
BLOCK = r"^(?:ns|(?:    )?python -m neurosearch) (.*?)(?:\s+#.*)?$"
SPAN = r"`(?:ns|python -m neurosearch) ([^`]+)`"
PLACEHOLDER = r"[…<]|\{\W|\bmine\b"


def commands() -> list[tuple[str, str]]:
    """Page and words of each `ns` command, in blocks and in sentences."""
    found = set()
    for page in PAGES:
        text = page.read_text("utf-8").replace("\n# ", "\n")
        for words in re.findall(BLOCK, text, flags=re.M) + re.findall(SPAN, text):
            if not re.search(PLACEHOLDER, words):
                found.add((page.relative_to(ROOT).as_posix(), " ".join(words.split())))
    return sorted(found)


def test_there_are_commands() -> None:
    assert len(commands()) > 60


@pytest.mark.parametrize("page,command", commands(), ids=lambda text: text[:60])
def test_it_composes(page: str, command: str) -> None:
    """Each of its sweeps with each of its values."""
    words = [w for w in shlex.split(command) if not w.startswith(("-", "hydra", "+hydra"))]
    choices: list[list[str]] = [[]]
    for override in OverridesParser.create().parse_overrides(words):
        ways = [override.input_line]
        if override.is_sweep_override():
            key = override.get_key_element()
            ways = [f"{key}={value}" for value in override.sweep_string_iterator()]
        choices = [[*chosen, way] for chosen in choices for way in ways]
    with initialize_config_module("neurosearch.conf", version_base="1.3"):
        for chosen in choices[:12]:
            compose("config", overrides=chosen)


def test_links_and_files_exist() -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
            path = link.partition("#")[0]
            if path and not re.match(r"[a-z]+:|(\.\./)*reference/", path):
                assert (page.parent / path).exists(), f"{page}: {link}"
