"""What is told before the first job of a multirun."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.plugins.sweeper import Sweeper

from neurosearch.core.errors import InputError
from neurosearch.sweep.checks import _check_columns, preflight, study_of
from neurosearch.task.jobs import check_jobs, check_search
from tests import commands
from tests.test_app import run
from tests.test_conf import composed

FUSION = "search=fusion"
HERE = "paths.outputs={0}"


@pytest.mark.parametrize(
    "overrides, told",
    [
        (["report.columns=[Foo@3]"], r"report\.columns has \['Foo@3'\]; known are nDCG@10"),
        (["report.publish={0}/file/x"], r"report\.publish: .*file can't be written"),
        (["hydra/launcher=joblib", "hydra.launcher.n_jobs=0"], r"hydra\.launcher\.n_jobs is 0"),
        (["hydra/launcher=slurm"], "hydra/launcher=slurm: there is no srun here"),
        ([FUSION, "hydra.sweeper.n_trials=0"], r"n_trials must be at least 1, not 0"),
        ([FUSION, "hydra.sweeper.storage=sqlite:///{0}/file"], "storage=sqlite:.*not a database"),
        (["report.columns=[Recall@10 seen]"], r"seen'\], which need evaluation\.seen=true"),
        ([FUSION, "retriever=dense"], r"params: this config has no retriever\.fusion\.k"),
    ],
)
def test_what_cannot_run_is_told(
    overrides: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if FUSION in overrides:
        pytest.importorskip("optuna")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    (tmp_path / "file").write_text("no data base, no folder")
    config = composed(HERE.format(tmp_path), *(word.format(tmp_path) for word in overrides))
    with pytest.raises(InputError, match=told):
        preflight(config)


def test_a_column_that_may_be_swept_is_not_refused(tmp_path: Path) -> None:
    columns = "report.columns=[Recall@10 seen]"
    config = composed(HERE.format(tmp_path), "experiment=fusion", "debug=tiny", columns)
    config.hydra.overrides.task.append("evaluation.seen=true,false")
    with initialize_config_module("neurosearch.conf", version_base="1.3"):
        assert _check_columns(config, ["Recall@10 seen"]) is None
        config.hydra.overrides.task[-1] = "evaluation.split=dev,test"  # another key's sweep
        with pytest.raises(InputError):
            _check_columns(config, ["Recall@10 seen"])


@pytest.mark.parametrize(
    "words, message",
    [
        (["retriever=bm25", "seed=0,abc"], "seed must be 0 to 4294967295, not abc"),
        (["retriever=bm25", "seed=0,1.5"], "seed must be 0 to 4294967295, not 1.5"),
        (["retriever=bm25", "seed=0,true"], "seed must be 0 to 4294967295, not True"),
        (["retriever=bm25,bm26"], "retriever=bm26: no such choice; there are bm25"),
    ],
)
def test_each_value_of_a_sweep_is_checked(words: list[str], message: str, tmp_path: Path) -> None:
    done = commands.run(["-m", *words, "debug=tiny"], {"NEUROSEARCH_OUTPUTS": str(tmp_path)})
    assert done.returncode == 1 and "Launching" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith(f"error: {message}")


@pytest.mark.parametrize("words, times", [(["experiment=fusion"], 0), ([FUSION], 1)])
def test_hydra_composes_no_grid_again(
    words: list[str], times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed_again: list[object] = []
    monkeypatch.setattr(Sweeper, "validate_batch_is_legal", lambda _, b: composed_again.append(b))
    config = composed(HERE.format(tmp_path), *words, "debug=tiny")
    with initialize_config_module("neurosearch.conf", version_base="1.3"):
        preflight(config)
    Sweeper.validate_batch_is_legal(None, [["seed=0"]])
    assert len(composed_again) == times  # what a search will try is not known before


def test_what_can_run_passes(tmp_path: Path) -> None:
    grid = composed(HERE.format(tmp_path), "experiment=fusion", "debug=tiny")
    with initialize_config_module("neurosearch.conf", version_base="1.3"):
        preflight(grid)  # it composes the jobs
    assert study_of(grid) == ""
    pytest.importorskip("optuna")
    search = composed(HERE.format(tmp_path), FUSION, "debug=tiny")
    with initialize_config_module("neurosearch.conf", version_base="1.3"):
        preflight(search)  # it composes the job that the search begins with
    elsewhere = composed("paths.outputs=/elsewhere", FUSION)
    alone = composed(FUSION, "hydra.sweeper.storage=null")
    assert study_of(search).startswith("search_fusion-shop-hybrid-")
    assert study_of(search) != study_of(elsewhere) and study_of(alone) == ""
    larger = composed(HERE.format(tmp_path), FUSION, "debug=tiny", "data.n_products=700")
    named = search.hydra.sweeper.study_name, larger.hydra.sweeper.study_name
    assert named[0] != named[1]  # trials on other data are of another study
    assert search.evaluation.latency.queries == 0  # a search times nothing, debug or not


def test_a_search_that_cant_begin_has_no_trial(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    done = run(tmp_path, "-m", FUSION, "data.n_products=300")
    assert done.returncode == 1
    assert done.stderr.startswith("error: data.n_products must be 500 to"), done.stderr
    assert done.stderr.count("\n") == 1
    assert optuna.get_all_study_summaries(f"sqlite:///{tmp_path}/studies.db") == []
    assert not (tmp_path / "jobs").exists()


@pytest.mark.parametrize(
    "swept, faults",
    [
        ({"retriever.fusion.k": "choice(60, -1, -2)"}, ["k=-1", "k=-2"]),
        ({"retriever.fusion.k": "tag(log, int(interval(-3, 10)))"}, ["k=-3"]),
        ({"retriever.fusion.k": "interval(1, 10)"}, ["k=1.0", "k=10.0"]),
        ({"evaluation.depth": "range(50, 250, 50)"}, ["depth=50"]),
        ({"seed": "choice(0, abc)", "retriever.k9": "choice(1, 2)"}, ["abc", "retriever.k9"]),
        ({"query": "choice(nosuch)"}, ["query=nosuch: no such choice"]),
        ({"retriever.fusion.k": "tag(log, int(interval(1, 200)))"}, []),
    ],
)
def test_each_value_that_a_search_may_try_is_checked(
    swept: dict[str, str],
    faults: list[str],
    tmp_path: Path,
    toy_outputs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NEUROSEARCH_OUTPUTS", str(toy_outputs))
    words = ["retriever=hybrid", "debug=tiny"]
    with initialize_config_module("neurosearch.conf", version_base="1.3"):
        hydra = compose("config", overrides=words, return_hydra_config=True).hydra
        hydra.overrides.task = words
        hydra.sweeper = {"params": swept}
        if not faults:
            return check_search(hydra, tmp_path)
        with pytest.raises(InputError) as caught:
            check_search(hydra, tmp_path)
    told = str(caught.value).split("; the search may try ")
    assert len(told) == len(faults), told
    assert all(fault in line for fault, line in zip(faults, told, strict=True)), told


def test_all_faults_of_a_grid_are_told_at_once(
    tmp_path: Path, toy_outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A choice that does not exist, a key that does not, and a value out of bounds."""
    monkeypatch.setenv("NEUROSEARCH_OUTPUTS", str(toy_outputs))
    words = ["retriever=random,nosuch,bm25", "retriever.k1=-1", "debug=tiny"]
    with initialize_config_module("neurosearch.conf", version_base="1.3"):
        hydra = compose("config", overrides=["debug=tiny"], return_hydra_config=True).hydra
        hydra.overrides.task = words
        with pytest.raises(InputError) as caught:
            check_jobs(hydra, tmp_path)
    first, second, third = str(caught.value).split("; retriever")
    assert first.startswith("retriever.k1: Random has no key 'k1'")
    assert second.startswith("=nosuch: no such choice") and third.startswith(".k1 must be at least")


def test_the_root_config_may_be_the_user_s(tmp_path: Path) -> None:
    """Its jobs are checked, not those of ours: a hybrid has no seed of its own."""
    (tmp_path / "mine.yaml").write_text("defaults: [config, override retriever: random]\n")
    words = ["--config-dir", str(tmp_path), "--config-name", "mine", "-m", "retriever.seed=1,2"]
    tiny = ["debug=tiny", "evaluation.resamples=10"]
    done = commands.run([*words, *tiny], {"NEUROSEARCH_OUTPUTS": str(tmp_path / "outputs")})
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("outputs/jobs/*/*/record.json"))) == 2


def test_no_job_runs(tmp_path: Path) -> None:
    done = run(tmp_path, "-m", "experiment=fusion", "report.columns=[Foo@3]")
    assert done.returncode == 1
    assert done.stderr.startswith("error: report.columns has ['Foo@3']"), done.stderr
    assert not (tmp_path / "jobs").exists() and not (tmp_path / "artifacts").exists()


def test_an_override_that_changes_nothing_is_refused(tmp_path: Path) -> None:
    tiny = ["debug=tiny", "evaluation.latency.queries=0"]
    done = run(tmp_path, "-m", "retriever=random", "precision=fp32,bf16", *tiny)
    assert done.returncode == 1
    assert "precision=bf16 changes nothing: no part of this system reads precision" in done.stderr
    done = run(tmp_path, "-m", "retriever=random", "data.name=a,b", *tiny)
    assert done.returncode == 1 and "changes nothing" in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert not (tmp_path / "tables").exists()


def test_a_key_that_nothing_reads_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "retriever=random", "+foo=1", "debug=tiny")
    assert done.returncode == 1
    assert done.stderr == "error: +foo=1 changes nothing: no part reads foo\n"
    done = run(tmp_path, "~evaluation", "retriever=random", "debug=tiny")
    assert done.returncode == 1 and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words, message",
    [
        (["-m", "retriever=bm25,bm25"], "the sweep has the job of retriever=bm25 debug=tiny twice"),
        (["retriever=bm25", "retriever.k1=1", "retriever.k1=2"], "retriever.k1 is given twice"),
        (["retriever=hybrid", "retriever.members={}"], "retriever.members={} changes nothing"),
        (["retriever=bm25", "encoder@retriever.encoder=hashing"], "retriever=bm25 has no encoder"),
        (["task=search", "query=red mixer"], "say task.text='red mixer'"),
        (["retriever", "bm25"], "retriever: an override is a key and its value"),
    ],
)
def test_what_changes_nothing_is_one_line(words: list[str], message: str, tmp_path: Path) -> None:
    done = commands.run([*words, "debug=tiny"], {"NEUROSEARCH_OUTPUTS": str(tmp_path)})
    assert done.returncode == 1 and message in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.glob("artifacts/*")} <= {"data"}


def test_a_policy_may_be_no_news_to_a_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BM25 learns nothing, so whatever becomes of models its rows are one; other keys are told."""
    monkeypatch.setenv("NEUROSEARCH_OUTPUTS", str(tmp_path))
    words = ["experiment=changing", "debug=tiny", "seed=0", "retriever=bm25"]
    with initialize_config_module("neurosearch.conf", version_base="1.3"):
        hydra = compose("config", overrides=words, return_hydra_config=True).hydra
        hydra.overrides.task = [*words, "data.models=kept,indexed,replayed,retrained"]
        check_jobs(hydra, tmp_path)
        hydra.overrides.task = [*words, "data.models=kept,indexed", "data.step=null,1"]
        with pytest.raises(InputError, match=r"data\.step=1 changes nothing: the job of"):
            check_jobs(hydra, tmp_path)
