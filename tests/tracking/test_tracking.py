"""Tracking: files always; W&B offline, one run a job, grouped by sweep, finished."""

from __future__ import annotations

import csv
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neurosearch.errors import InputError
from neurosearch.tracking.csv import CsvTracker
from neurosearch.tracking.wandb import WandbTracking
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


def test_wandb_offline_runs_are_grouped_and_readable(tmp_path: Path) -> None:
    done = run(tmp_path, "-m", *BM25, "tracking=wandb", "retriever.k1=0.6,1.2")
    assert done.returncode == 0, done.stderr
    files = sorted((tmp_path / "wandb").rglob("*.wandb"))
    assert len(files) == 3  # two jobs and the table
    groups, names, summaries = set(), [], {}
    for file in files:
        kinds = set()
        for record in records_of(file):
            kind = record.WhichOneof("record_type")
            kinds.add(kind)
            if kind == "run":
                groups.add(record.run.run_group)
                names.append(record.run.display_name)
            elif kind == "summary":
                for item in record.summary.update:
                    key = item.key or item.nested_key[0]
                    summaries[key] = json.loads(item.value_json)
        assert "exit" in kinds, file
    assert len(groups) == 1
    assert sum(name.startswith("BM25 (bm25s)") for name in names) == 2
    assert "table adhoc" in names
    assert 0 < summaries["nDCG@10"] < 1


def test_a_wrong_mode_is_refused() -> None:
    with pytest.raises(InputError, match=r"tracking\.mode must be one of offline"):
        WandbTracking(folder="x", mode="on")
