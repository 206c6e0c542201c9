"""A small page for judging: one pair at a time, grades by keys, several raters at once.

A pair needs one label. Some tasks are repeats, which a second judge labels as well, for κ.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field

from neurosearch.annotation.files import Folder
from neurosearch.core.errors import InputError

PAGE = Path(__file__).with_name("page.html")
LONGEST = 64  # characters of a judge's name
SAFE = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
)


class Judge(BaseModel):
    """Who asks."""

    model_config = ConfigDict(extra="forbid")
    judge: str = Field(min_length=1, max_length=LONGEST, pattern=r"\S")


class Said(Judge):
    """A label."""

    query_id: str
    product_id: str
    label: str


class Desk:
    """Hands out tasks and takes labels. Any thread may call it."""

    def __init__(self, folder: Folder, grades: Sequence[str]) -> None:
        self.folder, self.grades = folder, tuple(grades)
        self._lock = threading.Lock()
        self._tasks = folder.tasks()
        self._known = {(t["query_id"], t["product_id"]): t for t in self._tasks}
        self._said: dict[tuple[str, str], dict[str, str]] = {}
        for one in folder.labels(grades):
            self._said.setdefault((one.query_id, one.product_id), {})[one.judge] = one.label
        self._last: dict[str, list[tuple[str, str]]] = {}

    def next(self, judge: str) -> dict[str, Any]:
        """The next task of a judge, and how far the work is.

        Args:
            judge: a name.

        Returns:
            `task` (None where nothing is left), `done`, `total`.
        """
        with self._lock:
            wanted = [t for t in self._tasks if self._is_open(t, judge)]
            done = sum(bool(self._said.get((t["query_id"], t["product_id"]))) for t in self._tasks)
            task = wanted[0] if wanted else None
            return {"task": task, "done": done, "total": len(self._tasks)}

    def _is_open(self, task: dict[str, Any], judge: str) -> bool:
        said = self._said.get((task["query_id"], task["product_id"]), {})
        return judge not in said and len(said) < (2 if task.get("repeat") else 1)

    def label(self, pair: tuple[str, str], label: str, judge: str) -> None:
        """Take a label.

        Args:
            pair: query id and product id.
            label: a grade.
            judge: a name.

        Raises:
            InputError: of an unknown pair or grade.
        """
        if pair not in self._known:
            raise InputError(f"{pair[0]}/{pair[1]} is no task")
        if label not in self.grades:
            raise InputError(f"{label!r} is none of {', '.join(self.grades)}")
        with self._lock:
            self.folder.add_label(pair, label, judge)
            self._said.setdefault(pair, {})[judge] = label
            self._last.setdefault(judge, []).append(pair)

    def undo(self, judge: str) -> bool:
        """Take back the last label that a judge gave here.

        Args:
            judge: a name.

        Returns:
            False where there is none.
        """
        with self._lock:
            if not self._last.get(judge):
                return False
            pair = self._last[judge].pop()
            self.folder.add_label(pair, None, judge)
            self._said[pair].pop(judge, None)
            return True

    @property
    def is_done(self) -> bool:
        """Whether every pair has a label."""
        with self._lock:
            return all(self._said.get((t["query_id"], t["product_id"])) for t in self._tasks)


def application(desk: Desk) -> FastAPI:
    """The page as a FastAPI application.

    Args:
        desk: of the tasks.

    Returns:
        An ASGI application: `/`, `/next`, `/label`, `/undo`.
    """
    app = FastAPI(title="Judging", docs_url=None, redoc_url=None, openapi_url=None)
    html = PAGE.read_text(encoding="utf-8")

    @app.get("/", response_class=HTMLResponse)
    def page() -> Any:
        headers = {"Content-Security-Policy": SAFE, "X-Content-Type-Options": "nosniff"}
        return HTMLResponse(html, headers=headers)

    @app.post("/next")
    def following(body: Judge) -> dict[str, Any]:
        return {**desk.next(body.judge.strip()), "grades": desk.grades}

    @app.post("/label")
    def label(body: Said) -> dict[str, bool]:
        try:
            desk.label((body.query_id, body.product_id), body.label, body.judge.strip())
        except InputError as error:
            raise HTTPException(422, str(error)) from None
        return {"ok": True}

    @app.post("/undo")
    def undo(body: Judge) -> dict[str, bool]:
        return {"ok": desk.undo(body.judge.strip())}

    return app
