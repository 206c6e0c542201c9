"""The notebook runs from its first to its last cell, and says what its paired script says."""

from __future__ import annotations

import os
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

DOCS = Path(__file__).parents[1] / "docs"


def test_the_notebook_runs_and_equals_its_script(tmp_path: Path) -> None:
    notebook = nbformat.read(DOCS / "first_table.ipynb", as_version=4)
    script = jupytext.read(DOCS / "first_table.py")
    assert [cell.source for cell in notebook.cells] == [cell.source for cell in script.cells]
    env = {**os.environ, "NEUROSEARCH_OUTPUTS": str(tmp_path)}
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute(cwd=tmp_path, env=env)
    outputs = [str(output) for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = "".join(outputs)
    assert "Hybrid RRF" in shown and "Holm-corrected" in shown  # the table and its notes
    assert "\\begin{tabular}" in shown and "stand mixer" in shown
    assert not any("Loading weights" in output for output in outputs)
