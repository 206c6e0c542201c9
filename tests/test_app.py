"""The command line: jobs, sweeps, failures, plans, and what a warm table must not import."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import commands

TINY = ["debug=tiny", "evaluation.latency.queries=0", "retriever.engine=bm25s"]
BM25 = ["retriever=bm25", *TINY]


def run(
    outputs: Path, *words: str, code: str = ""
) -> commands.Done | subprocess.CompletedProcess[str]:
    """`python -m neurosearch …`; with `code`, Python's own start and this code around it."""
    if not code:
        return commands.run(words, {"NEUROSEARCH_OUTPUTS": str(outputs)})
    command = [sys.executable, "-W", "ignore", "-c", code, *words]
    environment = {**os.environ, "NEUROSEARCH_OUTPUTS": str(outputs)}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("app")


TINY_SHOP = "shop,n_products=500,n_queries=60,n_sessions=100,images=False"


def csv_of(outputs: Path, name: str = "adhoc", data: str = TINY_SHOP) -> list[dict[str, str]]:
    with (outputs / "tables" / name / f"{data}.csv").open() as handle:
        return list(csv.DictReader(handle))


def test_a_job_records_itself(outputs: Path) -> None:
    done = run(outputs, *BM25)
    assert done.returncode == 0, done.stderr
    (folder,) = (outputs / "jobs" / "adhoc").glob("*,retriever=bm25")
    record = json.loads((folder / "record.json").read_text())
    assert record["status"] == "done"
    assert record["label"] == "BM25 (bm25s)"
    assert 0 < record["means"]["nDCG@10"] < 1
    assert {"config.yaml", "run.parquet", "run.trec", "metrics.parquet", "curves.csv"} <= {
        path.name for path in folder.iterdir()
    }
    assert [e["event"] for e in record["artifacts"]].count("built") >= 3
    assert "hardware" in record and record["peak_memory_mb"] > 0


def test_a_job_can_be_profiled(outputs: Path) -> None:
    done = run(outputs, *BM25, "runtime.profile=true", "name=profiled")
    assert done.returncode == 0, done.stderr
    (path,) = (outputs / "jobs" / "profiled").glob("*/profile.txt")
    assert "evaluate.py" in path.read_text() and path.with_suffix(".pstats").stat().st_size > 1000


def test_a_warm_sweep_imports_neither_ranx_nor_torch_and_is_the_same(outputs: Path) -> None:
    words = ["-m", *BM25, "retriever.k1=0.6,1.2", "evaluation.baseline='retriever.k1=0.6'"]
    first = run(outputs, *words)
    assert first.returncode == 0, first.stderr
    files = {p: p.read_bytes() for p in (outputs / "tables" / "adhoc").iterdir()}
    code = (
        "import sys; sys.argv[0] = 'neurosearch'\n"
        "from neurosearch import app; app.main()\n"
        "heavy = {'ranx', 'torch', 'numba', 'faiss', 'transformers', 'bm25s'}\n"
        "print('imported', sorted(heavy & set(sys.modules)))"
    )
    again = run(outputs, *words, code=code)
    assert "imported []" in again.stdout, again.stdout + again.stderr
    assert " built " not in again.stderr.replace("0 built", "")
    assert {p: p.read_bytes() for p in files} == files

    # Two rows of one name are told apart, and tested.
    rows = csv_of(outputs)
    assert ",".join(rows[0]) == (
        "experiment,data,protocol,split,system,metric,mean,ci_low,ci_high,sd_seeds,n_seeds,"
        "n_queries,baseline,p_holm,hardware,commit,gain,ties,precision,chosen,command"
    )
    assert {r["system"] for r in rows} == {"BM25 (bm25s) · k1=0.6", "BM25 (bm25s) · k1=1.2"}
    other = next(r for r in rows if "1.2" in r["system"] and r["metric"] == "nDCG@10")
    assert 0 < float(other["p_holm"]) <= 1
    assert float(other["ci_low"]) <= float(other["mean"]) <= float(other["ci_high"])


def test_a_failed_job_is_a_hole_and_an_exit_status(outputs: Path) -> None:
    words = ["retriever.engine=bm25s,lucene", "runtime.java_memory=1x", "name=holes"]
    done = run(outputs, "-m", *BM25[:-1], *words)
    assert done.returncode == 1
    assert "| failed: RuntimeError: io.anserini.index.IndexCollection ended with 1" in done.stdout
    assert {r["system"] for r in csv_of(outputs, "holes")} == {"BM25 (bm25s)"}


def test_a_job_that_cannot_work_is_told_before_the_others_run(outputs: Path) -> None:
    done = run(outputs, "-m", *BM25, "retriever.b=0.4,7", "name=refused")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr == "error: retriever.b must be at least 0 and at most 1, not 7.0\n"
    assert not (outputs / "jobs" / "refused").exists()


@pytest.mark.parametrize(
    "words, message",
    [
        (["retriever=bm25", "retriever.k1=high"], "retriever.k1 must be float, not 'high'"),
        (["data=home_depot", "paths.data=/nowhere"], "/nowhere/home_depot: no such file or folder"),
        (["data.n_products=3"], "data.n_products must be 500 to 10000000, not 3"),
        (["evaluation.depth=5"], "evaluation.depth is 5; Recall@100 needs at least 100"),
        (["evaluation/gain=wands_lin", *BM25], "gain wands_lin has no label 'C'"),
        (["runtime.device=banana"], "runtime.device must be auto, cpu, cuda or cuda:N"),
        (["retriever=bm25", "retriever.k1=nan"], "retriever.k1 must be a finite number, not nan"),
    ],
)
def test_bad_input_is_one_clear_line(outputs: Path, words: list[str], message: str) -> None:
    done = run(outputs, *words, "name=bad")
    assert done.returncode == 1
    assert f"error: {message}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["task=prune"], ["task=prune", "task.hours=-1"]])
def test_what_another_task_refuses_leaves_the_job_s_record(
    words: list[str], tmp_path: Path
) -> None:
    record = tmp_path / "jobs" / "adhoc" / "default" / "record.json"
    record.parent.mkdir(parents=True)
    record.write_text("no JSON")
    (tmp_path / "artifacts").mkdir()
    done = run(tmp_path, *words)
    assert done.returncode == 1 and "error: " in done.stderr
    assert record.read_text() == "no JSON"


def test_an_unknown_key_is_hydra_s_error(outputs: Path) -> None:
    done = run(outputs, "retriever=bm25", "retriever.k2=1")
    assert done.returncode == 1
    assert "k2" in done.stderr


def test_the_plan_says_what_would_be_built(outputs: Path) -> None:
    before = run(outputs, "task=plan", *BM25, "retriever.k1=1.9")
    assert "to build" in before.stdout and "data" in before.stdout
    assert not list((outputs / "jobs").glob("*/*k1=1.9*/record.json"))
    assert run(outputs, *BM25, "name=planned").returncode == 0
    known = run(outputs, "task=plan", *BM25, "runtime.threads=1", "runtime.tokens_per_batch=77")
    assert "0 artifacts to build, 4 there already" in known.stdout
    # What stands under it is shown too, with its size. What serves is needed, were it gone;
    # what only the metrics stood on is not.
    assert re.search(r"\n {4}run \w{8}: there \d+\.\d MB, .* s, just built", known.stdout)
    (short,) = re.findall(r"bm25s (\w{8}): there", known.stdout)
    (index,) = (outputs / "artifacts" / "bm25s").glob(f"{short}*")
    shutil.move(index, outputs / "away")
    without = run(outputs, "task=plan", *BM25)
    shutil.move(outputs / "away", index)
    assert "1 artifacts to build, 3 there already" in without.stdout
    members = [f"retriever@retriever.members.{kind}=random" for kind in ("sparse", "dense")]
    words = ["retriever=hybrid", *members, *TINY[:2], "name=planned"]
    assert run(outputs, *words).returncode == 0
    plan = run(outputs, "task=plan", *words).stdout
    assert plan.startswith("Hybrid RRF") and "0 artifacts to build" in plan
    for folder in (outputs / "artifacts" / "run").glob("[0-9a-f]*"):
        if f"      run {folder.name[:8]}: there" in plan:
            shutil.rmtree(folder)
    plan = run(outputs, "task=plan", *words).stdout
    assert "0 artifacts to build" in plan and plan.count("gone, and not needed") >= 1
    # Of a whole experiment, every job of its sweep.
    whole = run(outputs, "task=plan", "experiment=fusion_k", "debug=tiny")
    assert whole.stdout.count("Hybrid RRF") == 8


def test_two_protocols_are_two_tables(outputs: Path) -> None:
    done = run(outputs, "-m", *BM25, "evaluation=catalogue,judged", "name=protocols")
    assert done.returncode == 0, done.stderr
    folder = outputs / "tables" / "protocols"
    names = {f"{TINY_SHOP}.csv", f"{TINY_SHOP}.judged.csv"}
    assert {p.name for p in folder.glob("*.csv")} == names
    judged = csv_of(outputs, "protocols", f"{TINY_SHOP}.judged")
    assert {r["protocol"] for r in judged} == {"judged"}
    assert float(next(r["mean"] for r in judged if r["metric"] == "judged@10")) == 1.0


def test_two_catalogues_are_two_tables(outputs: Path) -> None:
    sizes = ["data.n_products=500,600", "name=sizes"]
    done = run(outputs, "-m", *BM25, *sizes)
    assert done.returncode == 0, done.stderr
    names = {p.name for p in (outputs / "tables" / "sizes").glob("*.csv")}
    assert names == {f"{TINY_SHOP}.csv", f"{TINY_SHOP.replace('=500', '=600')}.csv"}


def test_a_wrong_column_is_named(outputs: Path) -> None:
    done = run(outputs, "-m", *BM25, "report.columns=[nDGC@10]", "name=columns")
    assert done.returncode == 1
    assert "report.columns has ['nDGC@10']; known are nDCG@10" in done.stderr + done.stdout


def test_outputs_that_cannot_be_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(tmp_path / "file", *BM25)
    assert done.returncode == 1
    assert "NEUROSEARCH_OUTPUTS sets the folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_seeds_are_folded(outputs: Path) -> None:
    tiny = ["debug=tiny", "name=seeds"]
    done = run(outputs, "-m", "retriever=random,oracle", "seed=0,1,2", *tiny)
    assert done.returncode == 0, done.stderr
    rows = {r["system"]: r for r in csv_of(outputs, "seeds") if r["metric"] == "Recall@100"}
    assert rows["Random"]["n_seeds"] == "3"
    assert float(rows["Random"]["sd_seeds"]) > 0
    assert rows["Oracle"]["n_seeds"] == "1"  # the same run under every seed


def test_joblib_workers_build_nothing_twice(outputs: Path, tmp_path: Path) -> None:
    words = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "retriever.k1=0.5,0.7,1.1,1.3"]
    done = run(tmp_path, "-m", *BM25, *words, "name=parallel")
    assert done.returncode == 0, done.stderr
    records = [
        json.loads(path.read_text()) for path in (tmp_path / "jobs/parallel").glob("*/record.json")
    ]
    built = [
        (event["kind"], event["fingerprint"])
        for record in records
        for event in record["artifacts"]
        if event["event"] == "built"
    ]
    assert len(records) == 4
    assert len(built) == len(set(built))
    assert len({r["system"] for r in csv_of(tmp_path, "parallel")}) == 4


def test_publishing_copies_the_table(outputs: Path, tmp_path: Path) -> None:
    done = run(outputs, "-m", *BM25, f"report.publish={tmp_path / 'results'}", "name=published")
    assert done.returncode == 0, done.stderr
    names = {p.name for p in (tmp_path / "results").iterdir()}
    assert names == {f"{TINY_SHOP}.{suffix}" for suffix in ("csv", "md", "tex")}


def test_doctor_says_what_is_there(outputs: Path) -> None:
    done = run(outputs, "task=doctor")
    assert done.returncode == 0, done.stderr
    assert "ok       torch" in done.stdout
    assert "MiniLM weights" in done.stdout


def test_folds_of_any_data_are_one_row_that_tests_every_query(tmp_path: Path) -> None:
    words = ["-m", "retriever=random", "data.folds=3", "data.fold=0,1,2", "debug=tiny"]
    done = run(tmp_path, *words, "evaluation.latency.queries=0", "evaluation.resamples=50")
    assert done.returncode == 0, done.stderr
    (table,) = (tmp_path / "tables" / "adhoc").glob("*.csv")
    assert ",folds=3," in table.stem
    with table.open() as handle:
        rows = [row for row in csv.DictReader(handle) if row["metric"] == "nDCG@10"]
    assert [(row["system"], row["n_queries"]) for row in rows] == [("Random", "60")]


def test_a_lone_job_prints_its_row_and_m_may_stand_anywhere(tmp_path: Path) -> None:
    tiny = ["debug=tiny", "evaluation.latency.queries=0", "evaluation.resamples=50"]
    done = run(tmp_path, "retriever=random", *tiny)
    assert "nDCG@10" in done.stdout and "[" in done.stdout and "record.json" in done.stdout
    done = run(tmp_path, "retriever=random,oracle", "-m", *tiny)
    assert done.returncode == 0 and "| Oracle |" in done.stdout
    done = run(tmp_path, "task=table", "task.jobs=[adhoc]", "name=joined")
    assert done.returncode == 0 and "## joined: shop" in done.stdout
    done = run(tmp_path, "task=table", "task.jobs=[nothing]", "name=joined")
    assert done.returncode == 1 and "no finished job below" in done.stderr
