"""The scripts about unjudged products run at toy size, and say what a hand computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.commands import run
from tests.test_user_scripts import HASHED, TOY, WORDS, script, written


def test_robustness(tmp_path: Path, toy_outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROSEARCH_OUTPUTS", str(toy_outputs))
    module = script("holes", "robustness", tmp_path, monkeypatch)
    toy = {"SYSTEMS": {**WORDS, "hashing": HASHED}, "DRAWS": 2, "SHARES": (0.5,)}
    toy["WITHOUT_WORDS"] = ("hashing",)
    frame = written(module, toy, TOY, "robustness.shop")
    assert set(frame["metric"]) == set(module.METRICS) and frame["tau"].is_between(-1, 1).all()
    assert frame.filter(pl.col("dropped").str.contains("random"))["draws"].unique().to_list() == [2]


def test_its_ndcg_is_that_of_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = script("holes", "robustness", tmp_path, monkeypatch)
    names = ["query_id", "product_id", "gain"]
    graded = pl.DataFrame(
        [("a", "x", 2.0), ("a", "y", 1.0), ("b", "z", 1.0), ("c", "w", 0.0)], names, orient="row"
    )
    run_of = pl.DataFrame(
        [("a", "y", 1), ("a", "u", 2), ("a", "x", 3), ("c", "w", 1)],
        ["query_id", "product_id", "rank"],
        orient="row",
    )
    found = dict(module.ndcg(run_of, graded).iter_rows())
    assert found["a"] == pytest.approx((1 + 2 / np.log2(4)) / (2 + 1 / np.log2(3)))
    assert found["b"] == 0 and found["c"] == 0  # found nothing; nothing to find


def test_judgedness(tmp_path: Path, toy_outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"NEUROSEARCH_OUTPUTS": str(toy_outputs)}
    systems = ["retriever=bm25,random", "name=judged_rows", "seed=0"]
    done = run(["-m", *systems, *TOY, "evaluation.latency.queries=0"], environment)
    assert done.returncode == 0, done.stderr[-2000:]
    monkeypatch.setenv("NEUROSEARCH_OUTPUTS", str(toy_outputs))
    module = script("best", "judgedness", tmp_path, monkeypatch)
    module.main(["judged_rows"])
    text = (tmp_path / "judgedness.shop.md").read_text()
    (row,) = [line for line in text.splitlines() if line.startswith("| BM25")]
    assert "| Random |" in row
    rows = {}
    for job in (toy_outputs / "jobs" / "judged_rows").glob("*/metrics.parquet"):
        rows["bm25" if "bm25" in job.parent.name else "random"] = pl.read_parquet(job)
    one, other = (rows[name].sort("query_id") for name in ("bm25", "random"))
    equal = (one["judged@10"] - other["judged@10"]).abs() < 1e-9
    gap = one["nDCG@10"] - other["nDCG@10"]
    assert f"| {gap.mean():+.3f} |" in row
    assert f"| {equal.mean():.0%} | {gap.filter(equal).mean():+.3f} |" in row
    with pytest.raises(SystemExit, match="which jobs"):
        module.main([])
