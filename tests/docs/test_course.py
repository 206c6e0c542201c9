"""Every chapter runs at toy size, says what it said, and its notebook is its script."""

from __future__ import annotations

import os
import runpy
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest
import yaml

from tests.commands import forked_servers, routed

COURSE = Path(__file__).parents[2] / "docs" / "course"
CHAPTERS = sorted(COURSE.glob("[0-9]*.py"))
EXPECTED = COURSE / "expected.yaml"
LOOSE = 0.02  # other processors round otherwise, and small trainings follow


def test_there_are_ten() -> None:
    assert [int(path.name[:2]) for path in CHAPTERS] == list(range(1, 11))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_runs_and_its_answers_stay(
    chapter: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, toy_outputs: Path
) -> None:
    def mkdtemp(*places: Any, **named: Any) -> str:
        """A folder of its own for each chapter; the artifacts in it are those of all of them."""
        folder = own(*places, **named)
        if not (places or named):
            Path(folder, "artifacts").symlink_to(toy_outputs / "artifacts")
        return folder

    own = tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    monkeypatch.setenv("NEUROSEARCH_COURSE", "toy")
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("COURSE_BEIR", raising=False)
    monkeypatch.setattr(subprocess, "run", routed)
    with forked_servers():
        answers = runpy.run_path(str(chapter))["answers"]
    found = {name: round(float(value), 4) for name, value in answers.items()}
    if os.environ.get("UPDATE_EXPECTED"):
        said = yaml.safe_load(EXPECTED.read_text()) if EXPECTED.exists() else {}
        EXPECTED.write_text(yaml.safe_dump({**said, chapter.stem: found}))
    expected = yaml.safe_load(EXPECTED.read_text())[chapter.stem]
    assert found == pytest.approx(expected, abs=LOOSE)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_notebook_is_its_script_and_was_executed(chapter: Path) -> None:
    notebook = nbformat.read(chapter.with_suffix(".ipynb"), as_version=4)
    script = jupytext.read(chapter)
    assert [cell.source for cell in notebook.cells] == [cell.source for cell in script.cells]
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    assert any("image/png" in out.get("data", {}) for out in outputs)
    assert not any(out.output_type == "error" for out in outputs)


def test_a_chapter_has_what_a_chapter_has() -> None:
    for chapter in CHAPTERS:
        text = chapter.read_text()
        for part in ("**Question.**", "Exercises", "answers = {", "assert "):
            assert part in text, f"{chapter.name}: {part}"
        assert "**In production.**" in text or chapter.name.startswith("10"), chapter.name
        assert "Paper" in text or chapter.name.startswith("10"), chapter.name


def test_the_page_of_the_course_is_made_of_its_chapters() -> None:
    page: dict[str, Any] = runpy.run_path(str(COURSE.parent / "making" / "execute.py"))
    import json

    minutes = json.loads((COURSE / "minutes.json").read_text())
    assert set(minutes) == {chapter.stem for chapter in CHAPTERS}
    assert (COURSE / "README.md").read_text() == page["page"](minutes)
