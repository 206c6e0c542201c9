"""The dashboard: what ran, what failed and why, what is being built, where time went."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from neurosearch.report import activity
from neurosearch.task.dashboard import written
from tests.commands import run


def job(outputs: Path, name: str, age: float = 0.0, **record: Any) -> Path:
    """A job's folder, with a record where one is given."""
    folder = outputs / "jobs" / "table" / name
    folder.mkdir(parents=True)
    (folder / "app.log").write_text("12:00:00 building biencoder 1234abcd\n")
    if record:
        (folder / "record.json").write_text(json.dumps(record))
    for path in folder.iterdir():
        os.utime(path, (time.time() - age,) * 2)
    return folder


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    gpu, cpu = "Xeon (8 cores) + NVIDIA H100", "Xeon (2 cores)"
    trained = {"event": "built", "kind": "biencoder", "fingerprint": "f" * 24, "seconds": 1800.0}
    reused = {"event": "reused", "kind": "data", "fingerprint": "d" * 24, "seconds": 7200.0}
    facts = {"status": "done", "seed": 1, "seconds": 60.0, "means": {"nDCG@10": 0.4321}}
    job(tmp_path, "a", 30, **facts, label="Tuned <b>", hardware=gpu, artifacts=[trained, reused])
    encoded = {"event": "built", "kind": "embeddings", "fingerprint": "e" * 24, "seconds": 360.0}
    job(tmp_path, "b", 20, **facts, label="Plain", hardware=cpu, artifacts=[encoded])
    job(tmp_path, "c", 10, status="failed", error="no train judgments")
    job(tmp_path, "d", 7200)
    curves = tmp_path / "artifacts" / "biencoder" / ("f" * 24)
    curves.mkdir(parents=True)
    (curves / "curves.csv").write_text("step,loss\n0,2.0\n10,1.0\n")
    return tmp_path


def test_jobs_failures_and_what_was_killed(outputs: Path) -> None:
    found = {one["name"]: one for one in activity.jobs(outputs)}
    assert list(found) == ["c", "b", "a", "d"]  # the latest first
    assert {name: one["status"] for name, one in found.items()} == {
        "a": "done",
        "b": "done",
        "c": "failed",
        "d": "stopped",
    }
    assert found["c"]["reason"] == "no train judgments"
    assert found["d"]["reason"] == "12:00:00 building biencoder 1234abcd"
    assert found["a"]["value"] == 0.4321


def test_tasks_without_a_record_end_as_their_log_does(outputs: Path) -> None:
    ended = job(outputs, "e", 7200)
    (ended / "app.log").write_text("12:00:00 reused run 1234abcd\n")
    refused = job(outputs, "f", 7200)
    (refused / "app.log").write_text("12:00:00 error: the reference has 24 queries\n")
    for folder in (ended, refused):
        os.utime(folder / "app.log", (time.time() - 7200,) * 2)
    found = {one["name"]: one["status"] for one in activity.jobs(outputs)}
    assert (found["e"], found["f"]) == ("done", "failed")


def test_time_is_of_what_was_built(outputs: Path) -> None:
    spent = activity.spent(activity.jobs(outputs))
    assert spent == [("biencoder", 1, 0.5, 0.5), ("embeddings", 1, pytest.approx(0.1), 0.0)]


def test_what_is_being_built_has_a_process_or_not(outputs: Path) -> None:
    folder = outputs / "artifacts" / "colbert"
    (folder / f".{'a' * 24}.building").mkdir(parents=True)
    (one,) = activity.building(outputs)
    assert (one["kind"], one["held"]) == ("colbert", False)
    with FileLock(str(folder / f".{'a' * 24}.lock")):
        (one,) = activity.building(outputs)
        assert one["held"]
        killed = {j["name"]: j["status"] for j in activity.jobs(outputs)}
        assert killed["d"] == "running"  # somebody is at work


def test_a_record_that_cant_be_read_is_a_failure(outputs: Path) -> None:
    (outputs / "jobs" / "table" / "b" / "record.json").write_text("{")
    found = {one["name"]: one for one in activity.jobs(outputs)}
    assert found["b"]["status"] == "failed" and "record.json" in found["b"]["reason"]


def test_the_page_says_it_and_escapes(outputs: Path) -> None:
    (outputs / "tables" / "table").mkdir(parents=True)
    (outputs / "tables" / "table" / "shop.html").write_text("")
    page = written(outputs, 500, 5.0)
    for said in ("no train judgments", "Tuned &lt;b&gt;", "0.432", '<meta http-equiv="refresh"'):
        assert said in page
    assert "../tables/table/shop.html" in page
    facts = json.loads(page.split('type="application/json">')[1].split("</script>")[0])
    values = facts["charts"]["curves"][0]["data"]["values"]
    assert [(v["step"], v["value"]) for v in values] == [(0.0, 2.0), (10.0, 1.0)]
    assert 'http-equiv="refresh"' not in written(outputs, 500, None)


def test_from_the_command_line(outputs: Path, tmp_path: Path) -> None:
    done = run(["task=dashboard"], {"NEUROSEARCH_OUTPUTS": str(outputs)})
    assert done.returncode == 0, done.stderr
    assert (outputs / "dashboard" / "index.html").is_file()
    empty = run(["task=dashboard"], {"NEUROSEARCH_OUTPUTS": str(tmp_path / "none")})
    assert empty.returncode == 1 and "there are no jobs yet" in empty.stderr
