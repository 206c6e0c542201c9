"""A folder of judging: plan.json, tasks.jsonl (what to judge) and labels.jsonl (what people said).

Lines are only ever added. A label that was taken back is followed by a line with the label null.
Labels may come from the page (`service`), or from any other tool that writes such lines.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from neurosearch.core.errors import InputError
from neurosearch.core.store import write_whole

PLAN, TASKS, LABELS, STEPS = "plan.json", "tasks.jsonl", "labels.jsonl", "steps.json"


@dataclass(frozen=True)
class Label:
    """What a judge said of a pair."""

    query_id: str
    product_id: str
    label: str
    judge: str


class Folder:
    """The files of one plan."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def opened(self, plan: Mapping[str, Any]) -> None:
        """Begin a plan, or go on with it.

        Args:
            plan: what tells it from others, JSON-able.

        Raises:
            InputError: the folder holds another plan.
        """
        path = self.path / PLAN
        text = json.dumps(plan, indent=1, sort_keys=True)
        if path.exists():
            before = _read(path)
            now = json.loads(text)
            other = [key for key in now if now[key] != before.get(key)]
            if other:
                raise InputError(
                    f"{path}: this folder holds another plan ({', '.join(other)} differ): choose "
                    "another task.folder, or the settings that it names"
                )
            return
        self.path.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode())

    def tasks(self) -> list[dict[str, Any]]:
        """The tasks so far, in order."""
        return [line for _, line in _lines(self.path / TASKS)]

    def add_tasks(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Add tasks.

        Args:
            tasks: JSON-able, each with `query_id` and `product_id`.
        """
        self._add(TASKS, tasks)

    def steps(self) -> list[dict[str, float]]:
        """What was known when each finished step of the design went on.

        Returns:
            Gains by `query id<TAB>product id`, one mapping a step.
        """
        path = self.path / STEPS
        if not path.exists():
            return []
        found = _read(path).get("steps")
        if not isinstance(found, list):
            raise InputError(f"{path}: steps is no list")
        return found

    def add_step(self, gains: Mapping[str, float]) -> None:
        """Keep what a step went on with: a label that is corrected later draws nothing anew.

        Args:
            gains: as in `steps`.
        """
        whole = {"steps": [*self.steps(), dict(gains)]}
        write_whole(self.path / STEPS, json.dumps(whole).encode())

    def add_label(self, pair: tuple[str, str], label: str | None, judge: str) -> None:
        """Add what a judge said.

        Args:
            pair: query id and product id.
            label: one of the grades; None takes the last one back.
            judge: a name.
        """
        time = datetime.now(UTC).isoformat(timespec="seconds")
        line = {"query_id": pair[0], "product_id": pair[1], "label": label}
        self._add(LABELS, [{**line, "judge": judge, "time": time}])

    def _add(self, name: str, lines: Sequence[Mapping[str, Any]]) -> None:
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        path = self.path / name
        if path.exists() and path.read_bytes()[-1:] not in (b"", b"\n"):  # written by hand
            text = "\n" + text
        with path.open("a", encoding="utf-8") as handle:
            handle.write(text)

    def labels(self, grades: Sequence[str]) -> list[Label]:
        """What people said, the last word of each judge on each pair.

        Args:
            grades: that there are.

        Returns:
            Labels in the order of the first ones.

        Raises:
            InputError: a line of an unknown pair or grade, or without a judge: file and line.
        """
        known = {(task["query_id"], task["product_id"]) for task in self.tasks()}
        said: dict[tuple[str, str, str], str] = {}
        for where, line in _lines(self.path / LABELS):
            missing = [k for k in ("query_id", "product_id", "label", "judge") if k not in line]
            if missing:
                raise InputError(f"{where}: {missing[0]} is missing")
            pair = line["query_id"], line["product_id"]
            if not all(isinstance(name, str) for name in pair):
                raise InputError(f"{where}: query_id and product_id must be texts")
            if pair not in known:
                raise InputError(f"{where}: {pair[0]}/{pair[1]} is no task of {TASKS}")
            if not isinstance(line["judge"], str) or not line["judge"].strip():
                raise InputError(f"{where}: the judge has no name")
            key = (*pair, line["judge"])
            if line["label"] is None:
                said.pop(key, None)
                continue
            if line["label"] not in grades:
                raise InputError(
                    f"{where}: the label {line['label']!r} is none of {', '.join(grades)}"
                )
            said[key] = line["label"]
        return [Label(q, p, label, judge) for (q, p, judge), label in said.items()]


def _read(path: Path) -> dict[str, Any]:
    """A JSON object. Raises InputError where the file holds none."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError:
        raise InputError(f"{path} is not JSON") from None
    if not isinstance(found, dict):
        raise InputError(f"{path} is not an object")
    return found


def _lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Place and content of each line; none where there is no file."""
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_text("utf-8").split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            one = json.loads(line)
        except ValueError:
            raise InputError(f"{where} is not JSON") from None
        if not isinstance(one, dict):
            raise InputError(f"{where} is not an object")
        found.append((where, one))
    return found
