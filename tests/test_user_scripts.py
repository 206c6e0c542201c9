"""The scripts about users run at toy size and write what their pages link to."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from neurosearch.annotation.uncertainty import Uncertainty
from neurosearch.annotation.whole_queries import WholeQueries

ROOT = Path(__file__).resolve().parents[1]
TOY = ["debug=tiny", "runtime.threads=1", "runtime.progress=false"]
WORDS = {"BM25": ["retriever=bm25"], "feedback": ["retriever=feedback"]}
HASHED = ["retriever=dense", "encoder@retriever.encoder=hashing"]


def script(name: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A script as a module that writes elsewhere."""
    path = ROOT / "experiments" / name / f"{file}.py"
    spec = importlib.util.spec_from_file_location(f"script_{file}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    return module


def written(module: Any, toy: dict[str, Any], arguments: list[str], name: str) -> pl.DataFrame:
    """Run a script with smaller constants; its table."""
    for key, value in toy.items():
        assert hasattr(module, key), key
        setattr(module, key, value)
    module.main(arguments)
    folder = module.RESULTS
    text = (folder / f"{name}.md").read_text()
    assert "Command: python experiments/" in text and "Hardware:" in text
    return pl.read_csv(folder / f"{name}.csv", infer_schema_length=None)


def test_judging_on_a_budget(
    tmp_path: Path, toy_outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEUROSEARCH_OUTPUTS", str(toy_outputs))
    module = script("annotation_budget", "annotation_budget", tmp_path, monkeypatch)
    toy = {
        "SYSTEMS": {**WORDS, "hashing": HASHED},
        "DESIGNS": {"whole queries": WholeQueries(), "two phases": Uncertainty()},
        "SHARES": (0.1, 0.3, 1.0),
        "HELD_OUT": 2,
    }
    frame = written(module, toy, ["20", *TOY], "shop")
    whole = frame.filter(pl.col("share") == 1.0)
    assert whole["tau"].to_list() == pytest.approx([1.0, 1.0])
    assert (whole["error"] < 1e-9).all() and (frame["error"] >= 0).all()
    some = frame.filter(pl.col("design") == "two phases").sort("share")
    assert some["error"].is_sorted(descending=True)


def test_position_bias(tmp_path: Path, toy_outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROSEARCH_OUTPUTS", str(toy_outputs))
    module = script("clicks", "position_bias", tmp_path, monkeypatch)
    frame = written(module, {"LISTS": (2_000,)}, [*TOY, "data.n_queries=60"], "position_bias")
    assert set(frame["users"]) == {"position", "no bias", "trust"}
    exact = frame.filter(pl.col("users") == "no bias")["planted"]
    assert (exact == 1.0).all()
    # Clicks as they are see bias where none is.
    naive = frame.filter(pl.col("by") == "clicks as they are", pl.col("users") == "no bias")
    assert naive["error"][0] > 0.2


def test_whose_gain_it_is(
    tmp_path: Path, toy_outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEUROSEARCH_OUTPUTS", str(toy_outputs))
    module = script("personalised", "taste", tmp_path, monkeypatch)
    toy = {"PROFILES": ("item2vec",), "TASTES": (0.0, 3.0)}
    frame = written(module, toy, ["150", *TOY], "taste")
    assert frame["taste"].to_list() == [0.0, 3.0]
    assert (frame["new users"] == 0).all()


def test_trials_without_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = script("click_models", "click_models", tmp_path, monkeypatch)
    frame = written(module, {"SESSIONS": (500,), "QUERIES": 10}, [], "simulated")
    assert (frame["conditional"] >= 1).all()


def test_online_agreement(
    tmp_path: Path, toy_outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEUROSEARCH_OUTPUTS", str(toy_outputs))
    module = script("online_agreement", "online_agreement", tmp_path, monkeypatch)
    toy = {"SYSTEMS": {**WORDS, "hashing": HASHED}, "SHOP": ["data=shop"]}
    for key, value in toy.items():
        monkeypatch.setattr(module, key, value)
    module.main(["2000", *TOY])
    frame = pl.read_csv(tmp_path / "pairs.csv")
    assert frame.height == 3 * 4  # pairs and kinds of users
    assert "SIMULATED" in (tmp_path / "shop.md").read_text()


@pytest.mark.parametrize(
    "name, toy",
    [
        ("peeking", {"USERS": 200, "TRIALS": 100, "PART": 50, "LOOKS": (1, 5)}),
        ("interleaving", {"QUERIES": 10, "SHOWN": 40, "TRIAL": 20}),
    ],
)
def test_simulations(
    name: str, toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = written(script(name, name, tmp_path, monkeypatch), toy, [], "simulated")
    assert frame.height > 3
