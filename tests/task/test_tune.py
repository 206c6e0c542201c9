"""`task=tune` as a whole: it keeps its limits, resumes from what is built, and explains itself."""

from __future__ import annotations

import json
import os
from pathlib import Path

import polars as pl

from tests.commands import run

SMALL = ["data.n_products=1500", "data.n_queries=200", "data.n_sessions=20", "data.images=false"]
DENSE = ["retriever=dense", "encoder@retriever.encoder=hashing", "task=tune"]
FEW = ["task.families=[flat,sq,ivf]", "task.target=0.9"]


def test_it_chooses_within_its_limits(tmp_path: Path) -> None:
    outputs = [f"paths.outputs={tmp_path}"]
    done = run([*SMALL, *DENSE, *FEW, *outputs, "task.minimise=bytes"], dict(os.environ))
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob("jobs/*/*/tune/*")
    report = json.loads((folder / "report.json").read_text())
    points = pl.read_csv(folder / "points.csv")
    timed = points.filter(pl.col("p50 ms").is_not_null())
    good = timed.filter(pl.col("low") >= 0.9)
    assert report["chosen"]["low"] >= 0.9
    assert report["chosen"]["bytes"] <= good["bytes"].min() + 1e-3
    assert f"chosen: {report['chosen']['index']}" in done.stdout
    page = (folder / "index.html").read_text()
    assert report["chosen"]["index"] in page and "vegaEmbed" in page
    refused = run([*SMALL, *DENSE, *FEW, *outputs, "task.bytes_per_product=1"], dict(os.environ))
    assert refused.returncode == 1 and "no index that was built within" in refused.stderr
    assert "built index" not in refused.stderr  # what was built is taken up again
    wrong = run([*SMALL, *DENSE, *outputs, "task.families=[tree]"], dict(os.environ))
    assert wrong.returncode == 1 and "known are flat, sq" in wrong.stderr
