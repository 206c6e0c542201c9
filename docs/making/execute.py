"""Execute notebooks from their scripts, and keep their outputs and minutes.

    python docs/making/execute.py                       # the ten chapters of the course
    python docs/making/execute.py docs/first_table.py   # one notebook

A notebook is paired with a script of the same name by jupytext; the script is what is edited. Writes
the notebook with its outputs, and the course's page, whose minutes are measured.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

DOCS = Path(__file__).parents[1]
COURSE = DOCS / "course"
MINUTES = COURSE / "minutes.json"
HEAD = """# The course

Ten chapters, from nearest neighbours to a served system. Each asks one question and answers it with
an idea, a formula, ten lines of Python, a picture, and exercises whose answers are checked. They run
on two CPU cores and on data that is simulated, so their numbers show mechanisms; the
[experiments](../../experiments/RESULTS.md) have numbers on real data.

A chapter is a notebook and a script of the same name; either runs:
`jupyter lab docs/course` or `python docs/course/01_faiss.py`.

| chapter | question | minutes |
|---|---|---|
"""


def execute(script: Path) -> float:
    """Write the executed notebook beside its script; returns seconds."""
    notebook = jupytext.read(script)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
    }
    start = time.perf_counter()
    NotebookClient(notebook, timeout=3600, kernel_name="python3").execute(cwd=str(script.parent))
    seconds = time.perf_counter() - start
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
        cell.metadata = {}
        if "outputs" in cell:
            cell["outputs"] = [output for output in cell["outputs"] if is_result(output)]
    nbformat.write(notebook, script.with_suffix(".ipynb"))
    return seconds


def is_result(output: Any) -> bool:
    """Whether a reader should see it: no log lines of libraries, no objects of matplotlib."""
    shown = output.get("data", {}).get("text/plain", "")
    return output.get("name") != "stderr" and not re.match(r"\W*(Text|matplotlib|\w+ at 0x)", shown)


def page(minutes: dict[str, float]) -> str:
    """The course's page, with the title and the question of each chapter."""
    lines = []
    for script in sorted(COURSE.glob("[0-9]*.py")):
        text = script.read_text(encoding="utf-8")
        title = text.split("# # ", 1)[1].split("\n", 1)[0].split(". ", 1)[1]
        asked = text.split("# **Question.** ", 1)[1].split("\n#\n", 1)[0].replace("\n# ", " ")
        number = script.name[:2].lstrip("0")
        took = f"{minutes[script.stem]:.1f}" if script.stem in minutes else ""
        lines.append(f"| [{number}. {title}]({script.stem}.ipynb) | {asked} | {took} |")
    return HEAD + "\n".join(lines) + "\n"


def main(paths: list[str]) -> None:
    """Execute the scripts, or all chapters."""
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    minutes = json.loads(MINUTES.read_text()) if MINUTES.exists() else {}
    for script in [Path(p) for p in paths] or sorted(COURSE.glob("[0-9]*.py")):
        seconds = execute(script)
        print(f"{script.name}: {seconds / 60:.1f} minutes", flush=True)
        if script.parent.resolve() == COURSE.resolve():
            minutes[script.stem] = round(seconds / 60, 2)
            MINUTES.write_text(
                json.dumps(minutes, indent=1, sort_keys=True) + "\n", encoding="utf-8"
            )
    (COURSE / "README.md").write_text(page(minutes), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
