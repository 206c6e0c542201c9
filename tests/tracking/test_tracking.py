"""Tracking: files always; W&B offline, one run a job, grouped by sweep, finished."""

from __future__ import annotations

import csv
import json
import runpy
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neurosearch.core.errors import InputError
from neurosearch.tracking.csv import CsvTracker
from neurosearch.tracking.wandb import WandbTracker, WandbTracking
from tests.test_app import BM25, run


def test_curves_are_a_long_csv(tmp_path: Path) -> None:
    tracker = CsvTracker(tmp_path / "curves.csv")
    tracker.log({"loss": 2.0}, step=1)
    tracker.log({"loss": 1.0, "lr": 0.1}, step=2)
    tracker.log({"nDCG@10": 0.4})
    with (tmp_path / "curves.csv").open() as handle:
        rows = list(csv.reader(handle))
    assert rows == [
        ["step", "metric", "value"],
        ["1", "loss", "2.0"],
        ["2", "loss", "1.0"],
        ["2", "lr", "0.1"],
        ["", "nDCG@10", "0.4"],
    ]


def records_of(file: Path) -> Iterator[Any]:
    """W&B's own records of an offline run: LevelDB's log format after a seven-byte header."""
    from wandb.proto import wandb_internal_pb2

    data = file.read_bytes()
    assert data[:4] == b":W&B"
    at, parts = 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # a block's tail too short for a header is padding
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def finished(file: Path) -> list[Any]:
    """The records of a run that has ended: W&B's own process may still be writing them."""
    for _ in range(100):
        records = list(records_of(file))
        if records and records[-1].WhichOneof("record_type") == "exit":
            return records
        time.sleep(0.2)
    raise AssertionError(f"{file} has no end")


def test_wandb_offline_runs_are_grouped_and_readable(tmp_path: Path) -> None:
    done = run(tmp_path, "-m", *BM25, "tracking=wandb", "retriever.k1=0.6,1.2")
    assert done.returncode == 0, done.stderr
    files = sorted((tmp_path / "wandb").rglob("*.wandb"))
    assert len(files) == 3  # two jobs and the table
    groups, names, types, summaries, artifacts, configs = set(), [], [], {}, set(), set()
    for file in files:
        kinds = set()
        for record in finished(file):
            kind = record.WhichOneof("record_type")
            kinds.add(kind)
            if kind == "run":
                groups.add(record.run.run_group)
                names.append(record.run.display_name)
                types.append(record.run.job_type)
                configs |= {item.key for item in record.run.config.update}
            elif kind == "summary":
                for item in record.summary.update:
                    key = item.key or "/".join(item.nested_key)
                    summaries[key] = json.loads(item.value_json)
            elif kind == "artifact":
                artifacts.add((record.artifact.type, record.artifact.name))
        assert "exit" in kinds, file
    assert len(groups) == 1
    assert sum(name.startswith("BM25 (bm25s)") for name in names) == 2
    assert "table adhoc" in names and sorted(types) == ["adhoc", "adhoc", "table"]
    assert {"retriever", "evaluation", "data", "seed", "identity"} <= configs
    assert 0 < summaries["nDCG@10"] < 1
    assert summaries["adhoc/_type"] == "table-file" and summaries["adhoc/nrows"] > 10
    # What a job stands on, by fingerprint.
    path = next((tmp_path / "jobs" / "adhoc").glob("*/record.json"))
    stood = {(e["kind"], f"{e['kind']}-{e['fingerprint']}") for e in _events(path)}
    assert len(stood) >= 4 and stood <= artifacts


def test_a_killed_job_resumes_its_run(tmp_path: Path) -> None:
    tracking, kept = WandbTracking(str(tmp_path / "runs")), tmp_path / "job" / "wandb.id"
    ids = []
    with (
        pytest.raises(KeyboardInterrupt),
        tracking._run("sweep", "name", "table", {}, kept) as first,
    ):
        ids.append(first.id)
        raise KeyboardInterrupt
    assert kept.read_text() == ids[0]
    with tracking._run("sweep", "name", "table", {}, kept) as second:
        ids.append(second.id)
    assert ids[0] == ids[1] and not kept.exists()
    with tracking._run("sweep", "name", "table", {}, kept) as third:
        assert third.id != ids[0]  # the job had ended well


def test_the_workspace_is_defined_of_what_is_logged() -> None:
    script = Path(__file__).parents[2] / "experiments" / "sweeps" / "wandb_workspace.py"
    made = runpy.run_path(str(script))["workspace"]("me", "neurosearch")
    shown = [panel for section in made.sections for panel in section.panels]
    assert len(shown) >= 10 and {"Quality", "Trainings"} <= {s.name for s in made.sections}


def _events(record: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(record.read_text())["artifacts"]
    return found


def test_curves_of_trainings_go_to_wandb(tmp_path: Path) -> None:
    folder = tmp_path / "biencoder" / "f00d"
    folder.mkdir(parents=True)
    (folder / "curves.csv").write_text("dev nDCG@10,loss,step\n,4.5,1\n0.25,,2\n")
    tracking = WandbTracking(folder=str(tmp_path))
    with tracking._run("sweep", "name", "type", {}) as live:
        tracker = WandbTracker(live, CsvTracker(tmp_path / "job.csv"))
        event = {"kind": "biencoder", "fingerprint": "f00d", "event": "built"}
        tracker.artifacts([{**event, "seconds": 1.0, "bytes": 2}], tmp_path)
    (file,) = (tmp_path / "wandb").rglob("*.wandb")
    points = []
    for record in finished(file):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            points.append({i.key or i.nested_key[0]: json.loads(i.value_json) for i in items})
    told = [{k: v for k, v in p.items() if k.startswith("biencoder/")} for p in points]
    assert {"biencoder/loss": 4.5, "biencoder/step": 1.0} in told
    assert {"biencoder/dev nDCG@10": 0.25, "biencoder/step": 2.0} in told


def test_a_wrong_mode_is_refused() -> None:
    with pytest.raises(InputError, match=r"mode must be one of offline"):
        WandbTracking(folder="x", mode="on")
