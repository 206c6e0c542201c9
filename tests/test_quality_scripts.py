"""The scripts about unjudged products run at toy size, and say what a hand computes."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from neurosearch.core.semantic_ids import SemanticIds
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


def test_forgetting_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = script("changing", "forgetting", tmp_path, monkeypatch)
    seen = {0: [0.5], 1: [0.6, 0.2], 2: [0.4, 0.3, 0.1]}
    records = []
    for (step, values), gap in itertools.product(seen.items(), (0.0, 0.1)):
        names = [f"Recall@10 arrival {number}" for number in range(step + 1)]
        names = names if step == 2 else ["Recall@10 old", "Recall@10 new"]
        texts = [f"data.step={step}", "data.steps=2", "data.models=kept"]
        means = dict(zip(names, np.array(values) + gap, strict=False))
        one = {"overrides": texts, "means": means, "seed": int(gap > 0), "folder": "f"}
        facts = {"data": "toy", "label": "L", "split": "test", "protocol": "p", "commit": "c"}
        path = tmp_path / f"{step}.parquet"
        asks = {name: [0.5] * (3 - n) + [None] * n for n, name in enumerate(names)}
        pl.DataFrame(asks).write_parquet(path)
        more = {"metrics": str(path), "variant": f"share=0.1,step={step}", "simulated": True}
        records.append({**one, **facts, **more})
    monkeypatch.setattr("neurosearch.task.table.read_jobs", lambda *_: records)
    module.main(["toy"])
    text = (tmp_path / "forgetting.toy,share=0.1.md").read_text()
    # A: (.4 + .3 + .1) / 3; F: (.6 - .4 + .2 - .3) / 2; L: (.2 + .1) / 2; seeds differ by .1.
    assert "| kept | .317 ± .071 | .050 ± .000 | .200 ± .071 |" in text
    assert "| 1 | .650 ± .071 | .250 ± .071 |  |" in text
    assert "| queries at the end | 3 | 2 | 1 |" in text and "SIMULATED" in text
    # A second policy shares the job of step 0.
    later = [{**r, "overrides": [*r["overrides"], "data.models=indexed"]} for r in records[2:]]
    found = module.matrices([*records, *later])
    np.testing.assert_array_equal(found["kept"], found["indexed"])
    other = {**records[0], "label": "BM25"}
    for wrong, message in (
        (records[:-1], "models=kept, seed 1: no Recall@10 of arrival 0 after step 2"),
        ([*records, records[-1]], "two jobs of step 2, models kept, seed 1"),
        ([*records, other], "more than one label: BM25, L"),
        (records[:2], "no Recall@10 of arrival 0 after step 1"),
        ([], "more than one label: there are none"),
        ([*records, {**records[0], "variant": "share=0.2"}], "more than one catalogue: share=0.1;"),
    ):
        with pytest.raises(SystemExit, match=re.escape(message)):
            module.matrices(wrong)
    with pytest.raises(SystemExit, match="which jobs"):
        module.main([])


def test_ids_of_renamed_clusters_are_the_same_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = script("changing", "churn", tmp_path, monkeypatch)
    codes = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.int32)
    one = SemanticIds(codes, (2, 2), 2)
    np.testing.assert_array_equal(module.compared(one, one), [1, 1, 1, np.nan])  # unique IDs
    assert module.shown([1.0, np.nan], 3) == "–"
    shared = SemanticIds(codes[[0, 0, 2, 3]], (2, 2), 2)
    assert module.compared(shared, shared) == [1, 1, 1, 1]
    renamed = SemanticIds(codes ^ np.array([1, 0], dtype=np.int32), (2, 2), 2)
    assert module.compared(one, renamed)[:3] == [0, 0, 1]
    # {0, 1}, {2, 3} against {0, 2}, {1, 3}: no pair is together in both; by chance 2 * 2 / 6 are,
    # so the index is (0 - 2/3) / (2 - 2/3). Two of four IDs stay.
    crossed = SemanticIds(codes[:, ::-1].copy(), (2, 2), 2)
    assert module.compared(one, crossed)[:2] == [0.5, 0.5]
    assert module.compared(one, crossed)[2] == pytest.approx(-0.5)


def test_churn(tmp_path: Path, toy_outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROSEARCH_OUTPUTS", str(toy_outputs))
    module = script("changing", "churn", tmp_path, monkeypatch)
    words = ("tokenizer=rqkmeans", "encoder@tokenizer.encoder=hashing", "tokenizer.levels=2")
    monkeypatch.setattr(module, "TOKENIZERS", {"toy": words})
    monkeypatch.setattr(module, "SEEDS", (0, 1))
    module.main(["data=changing", *TOY])
    (path,) = tmp_path.glob("churn.shop*.md")
    text = path.read_text()
    grown, seeded = (line for line in text.splitlines() if line.startswith("| toy | with"))
    assert "SIMULATED" in text and "Seeds: 2" in text
    # Nothing that is fitted again keeps its codes, and both refits keep some of the groups.
    for line in (grown, seeded):
        same, first, rand, _ = (float(re.findall(r"[-\d.]+", c)[0]) for c in line.split("|")[3:7])
        assert same <= first < 90 and rand > 0.1
    monkeypatch.setattr(module, "SEEDS", (0,))
    with pytest.raises(SystemExit, match="no products arrive"):
        module.main(["data=changing", "data.new_share=0", *TOY])


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
