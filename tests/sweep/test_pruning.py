"""Searches by Optuna: resumable, ending what is behind, storing nothing that was ended."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from neurosearch.core.errors import InputError
from neurosearch.sweep.callback import _trials
from neurosearch.sweep.pruning import Pruned, Pruner
from tests.test_app import run

optuna = pytest.importorskip("optuna")

FUSION = ["-m", "search=fusion", "debug=tiny"]


def test_a_search_goes_on_where_it_was(tmp_path: Path) -> None:
    words = [*FUSION, "hydra.sweeper.n_trials=2", "evaluation.latency.queries=0"]
    storage = f"sqlite:///{tmp_path}/studies.db"
    for trials in (2, 4):
        done = run(tmp_path, *words)
        assert done.returncode == 0, done.stderr
        (name,) = [one.study_name for one in optuna.get_all_study_summaries(storage)]
        assert name.startswith("search_fusion-shop-hybrid-")
        study = optuna.load_study(study_name=name, storage=storage)
        assert len(study.trials) == trials
    # What the study goes by is the table's number, of dev. The table has all trials that the
    # study has, those of the first run too; equal ones are one row of it.
    (path,) = (tmp_path / "tables" / "search_fusion").glob("*.dev.csv")
    with path.open() as handle:
        found = {float(r["mean"]) for r in csv.DictReader(handle) if r["metric"] == "nDCG@10"}
    told = {t.value for t in study.trials}
    assert sorted(told) == pytest.approx(sorted(found))
    assert study.best_value == pytest.approx(max(t.value for t in study.trials))


def test_trials_that_were_deleted_have_no_rows(tmp_path: Path) -> None:
    """A job's folder, or the artifact that its numbers are read from."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "metrics").touch()
    kept = {"folder": str(tmp_path / "kept"), "metrics": str(tmp_path / "metrics")}
    pruned = {"folder": str(tmp_path / "kept"), "status": "pruned"}
    gone = [kept | {"folder": "/nowhere"}, kept | {"metrics": "/nowhere"}]
    assert _trials([gone[0], kept]) == [kept]
    assert _trials([kept, gone[1]]) == []  # of one folder, the last
    assert _trials([kept, pruned]) == [pruned]


def test_what_is_behind_the_median_is_ended(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/s.db"
    study = optuna.create_study(study_name="s", storage=storage, direction="maximize")
    for value in (0.4, 0.5, 0.6):
        trial = study.ask()
        trial.suggest_float("a.lr", 0, 1)
        trial.report(value, 10)
        study.tell(trial, value)
    running = study.ask()
    value = running.suggest_float("a.lr", 0, 1)
    pruner = Pruner(storage, "s", startup=3)
    overrides = {f"a.lr={value}", "search=x"}
    trial = pruner.trial(overrides)
    assert trial.number == running.number
    assert pruner.trial({"a.lr=7"}) is None  # another job's
    trial.report(0.49, 10)
    assert pruner.trial(overrides).should_prune()  # the median is .5
    patient = Pruner(storage, "s", startup=4)
    assert not patient.trial(overrides).should_prune()
    with pytest.raises(InputError, match=r"runtime\.pruner\.study='t' is not in"):
        Pruner(storage, "t").trial(overrides)
    assert Pruned(0.25, 8).value == 0.25
