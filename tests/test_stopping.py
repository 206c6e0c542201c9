"""Being stopped: SIGTERM and Ctrl-C end a sweep in one line; kills leave nothing that misleads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from neurosearch import app
from neurosearch.core import stopping
from neurosearch.core.store import Store, read_manifest
from neurosearch.sweep.callback import OWNER, begin
from tests.commands import COMMAND
from tests.test_app import BM25, run


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("stage", ["building biencoder", "building run"])
def test_a_sweep_ends_in_one_line(number: int, stage: str, tiny_model: str, tmp_path: Path) -> None:
    """Its next jobs don't run, and the command that is printed resumes it."""
    system = ["retriever=dense/finetuned", f"retriever.encoder.model={tiny_model}"]
    long = ["retriever.encoder.schedule.epochs=2000", "retriever.encoder.product_max_length=32"]
    words = ["-m", *system, *long, "retriever.encoder.batch_size=16", "seed=0,1", "debug=tiny"]
    words += ["data.n_products=600"] if number == signal.SIGINT else []
    if stage == "building run":
        words = ["-m", "retriever=random,bm25", "debug=tiny", "data.n_products=9000"]
    environment = {**os.environ, "NEUROSEARCH_OUTPUTS": str(tmp_path)}
    process = subprocess.Popen(
        [*COMMAND, *words], stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stderr is not None
    for line in process.stderr:
        if stage in line:
            break
    time.sleep(0.5 if stage == "building biencoder" else 0)
    process.send_signal(number)
    left = process.stderr.read()
    assert process.wait(20) == 130, left
    told = [line for line in left.splitlines() if "resumes it" in line]
    assert told == [f"stopped; this resumes it: python -m neurosearch {' '.join(words)}"]
    assert "Traceback" not in left and left.count("building ") <= 1
    assert not list(tmp_path.glob("jobs/*/.sweeps/*"))
    assert not list(tmp_path.glob("jobs/adhoc/*/record.json"))


def test_a_signal_during_a_finaliser_is_not_lost() -> None:
    code = """
import os, signal
from neurosearch.core.stopping import check_stopped, stop_on_signals
stop_on_signals()
class Dying:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        [n for n in range(1000)]  # the handler runs here, and Python drops what it raises
gone = Dying()
del gone
try:
    check_stopped()
    print("lost")
except KeyboardInterrupt:
    print("stopped")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "stopped\n" and not done.stderr


def test_an_error_that_a_signal_made_is_no_failed_job(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A library may catch KeyboardInterrupt and raise another error: the job was stopped."""
    monkeypatch.setattr(stopping, "_noted", [signal.SIGTERM])
    with pytest.raises(KeyboardInterrupt):
        app._report(OmegaConf.create(), None, tmp_path, 0, [], "ValueError: made of it", "trace")
    assert not caplog.records and not list(tmp_path.iterdir())


def test_what_killed_sweeps_left_goes_with_the_next_one(tmp_path: Path) -> None:
    sweeps = tmp_path / ".sweeps"
    dead, mine, study = sweeps / "00000001", sweeps / "00000002", sweeps / "search-abcdef"
    for folder, owner in ((dead, "999999999"), (mine, str(os.getpid()))):
        folder.mkdir(parents=True)
        (folder / OWNER).write_text(f"{os.uname().nodename} {owner}")
    study.mkdir()
    begin(sweeps / "00000003")
    assert sorted(p.name for p in sweeps.iterdir()) == ["00000002", "00000003", "search-abcdef"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "null",
        '{"fingerprint": 1}',
        '{"fingerprint": "a", "files": [], "inputs": [], "details": {}, "seconds": 1}',
        '{"fingerprint": "a", "files": {"../../x": [1, "b"]}, "inputs": [], "details": {}, '
        '"seconds": 1, "created": "2026-01-01T00:00:00+00:00"}',
        '{"fingerprint": "a", "files": {"x": 3}, "inputs": [], "details": {}, "seconds": 1, '
        '"created": "2026-01-01T00:00:00+00:00"}',
        '{"fingerprint": "a", "files": {}, "inputs": [3], "details": {}, "seconds": 1, '
        '"created": "2026-01-01T00:00:00+00:00"}',
        '{"fingerprint": "a", "files": {}, "inputs": [], "details": {}, "seconds": "x", '
        '"created": "2026-01-01T00:00:00+00:00"}',
        '{"fingerprint": "a", "files": {}, "inputs": [], "details": {}, "seconds": 1, '
        '"created": "yesterday"}',
    ],
)
def test_a_manifest_of_the_wrong_shape_heals(content: str, shop_runtime, shop) -> None:
    folder = shop_runtime.store.ensure(shop)
    good = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(content)
    assert read_manifest(folder) is None
    store = Store(shop_runtime.store.root, shop_runtime)
    assert store.cost([]) == (0, 0.0) and store.flags() == []
    store.ensure(shop)
    fresh = json.loads((folder / "manifest.json").read_text())
    assert fresh["files"] == json.loads(good)["files"]


def test_tables_of_two_sweeps_of_one_name_stay(tmp_path: Path) -> None:
    assert run(tmp_path, "-m", *BM25, "retriever.k1=0.5,0.7").returncode == 0
    (first,) = (tmp_path / "tables" / "adhoc").glob("*.md")
    text = first.read_text()
    assert run(tmp_path, "-m", *BM25, "retriever.b=0.1,0.2").returncode == 0
    assert first.read_text() == text
    others = sorted((tmp_path / "tables" / "adhoc").glob("*.md"))
    assert len(others) == 2
    # Run again, with other devices, each finds its own.
    done = run(tmp_path, "-m", *BM25, "retriever.b=0.1,0.2", "runtime.threads=1")
    assert done.returncode == 0
    assert sorted((tmp_path / "tables" / "adhoc").glob("*.md")) == others


def test_no_password_is_written_or_printed(tmp_path: Path) -> None:
    url = "postgresql://me:s3cret@nowhere.invalid/db"
    words = [
        "runtime.pruner={_target_: neurosearch.sweep.pruning.Pruner, storage: '"
        + url
        + "', study: s}"
    ]
    done = run(tmp_path, *BM25, *words)
    swept = run(tmp_path, "-m", *BM25, "retriever.k1=0.5,0.6", *words)
    assert done.returncode == 0, done.stderr
    written = [p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()]
    assert not any(b"s3cret" in content for content in written)
    assert "s3cret" not in done.stderr + done.stdout + swept.stderr + swept.stdout


@pytest.mark.parametrize(
    "words, message",
    [
        (["-m", "retriever=bm25", "tokenizer=mmq,rqvae"], "task=evaluate does not read tokenizer"),
        (["retriever=multiphase", "tokenizer=mmq"], "say tokenizer@retriever.tokenizer=mmq"),
        (["task=tokenize", "tokenizer=rqkmeans", "retriever=bm25"], "does not read retriever"),
        (["retriever=dense", "encoder=hashing"], "say encoder@retriever.encoder=hashing"),
        (["retriever=hybrid", "fusion=convex"], "say fusion@retriever.fusion=convex"),
        (["retriever=bm25", "name=../../x"], "name must be 1 to 100 letters"),
        (["-m", "retriever=bm25", f"name={'x' * 300}"], "name must be 1 to 100 letters"),
        (["retriever=bm25", "evaluation.baseline='BM25 (Lucene)'"], "baseline names a row by its"),
    ],
)
def test_overrides_that_change_nothing_are_errors(
    words: list[str], message: str, tmp_path: Path
) -> None:
    done = run(tmp_path / "outputs", *words, "debug=tiny")
    assert done.returncode == 1 and message in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    left = {p.name for p in tmp_path.rglob("*") if p.is_file()}
    assert left <= {"record.json", "app.log"}, left


def test_what_cannot_work_is_told_before_the_first_job(tmp_path: Path) -> None:
    """Data without dev queries: tuned rows can't be, whatever else is in the sweep."""
    source = tmp_path / "shop"
    (source / "qrels").mkdir(parents=True)
    (source / "corpus.jsonl").write_text('{"_id": "d", "title": "mug"}\n')
    (source / "queries.jsonl").write_text('{"_id": "q", "text": "mug"}\n')
    (source / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td\t1\n")
    words = ["retriever=bm25,bm25_tuned,hybrid/convex", "data=beir", f"data.path={source}"]
    done = run(tmp_path / "o", "-m", *words)
    assert done.returncode == 1 and "retriever=" not in done.stdout
    for kind in ("bm25_parameters (TunedParameters)", "fusion (FittedFusion)"):
        assert f"the data has no dev queries, which {kind} needs" in done.stderr
    assert {p.name for p in (tmp_path / "o" / "artifacts").iterdir()} == {"data"}
    plan = run(tmp_path / "o", "task=plan", "retriever=hybrid/convex", *words[1:])
    assert plan.returncode == 1 and "which fusion (FittedFusion) needs" in plan.stderr
    inside = run(source / "o", "retriever=bm25", *words[1:])
    assert "paths.outputs" in inside.stderr and "lies in it: choose another folder" in inside.stderr


@pytest.mark.parametrize(
    "words, message",
    [
        (["retriever=null"], "error: Config group override must be a string"),
        (["query=null"], "error: "),
        (["retriever=nothing"], "error: retriever=nothing: no such choice; there are bm25, "),
        (
            ["retriever=bm25", "retriever.fields=[]"],
            "error: retriever.fields: BM25 has no key 'fields'; there are engine, k1",
        ),
        (["retriever=bm25", "seed=[1,2]"], "error: seed must be 0 to 4294967295, not [1, 2]"),
        (["retriever=bm25", "seed=-1"], "error: seed must be 0 to 4294967295, not -1"),
        (["retriever=bm25", "name=null"], "error: name must be"),
        (["retriever=bm25", "precision=fp8"], "error: precision must be one of fp32, bf16"),
        (
            ["retriever=bm25", "retriever.boosts=foo"],
            "retriever.boosts must be a mapping, not 'foo'",
        ),
        (
            ["retriever=bm25", "retriever.boosts.contents=0"],
            "boosts.contents must be a number above",
        ),
        (["retriever=bm25", "evaluation.latency.queries=-1"], "latency.queries must be at least 0"),
        (["retriever=bm25", "evaluation.resamples=1000000000000"], "resamples must be at least 1"),
        (["-m", "retriever=bm25,random", "retriever.engine=bm25s"], "error: "),
    ],
)
def test_wrong_commands_are_one_line(words: list[str], message: str, tmp_path: Path) -> None:
    done = run(tmp_path, *words, "debug=tiny")
    assert done.returncode == 1 and message in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_legitimate_overrides_are_taken(tmp_path: Path) -> None:
    words = ["query=normalize", "evaluation=judged", "~tokenizer", "data.share=0.5"]
    done = run(tmp_path, "task=plan", "retriever=bm25", "debug=tiny", *words)
    assert done.returncode == 0, done.stderr
