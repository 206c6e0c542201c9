"""Gains: the published presets, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from neurosearch.core.errors import InputError
from neurosearch.evaluation.gain import LabelGain, NumericGain

CONF = Path(__file__).resolve().parents[2] / "conf" / "evaluation" / "gain"
PRESETS = sorted(path.stem for path in CONF.glob("*.yaml"))


def preset(name: str):
    with initialize_config_module("neurosearch.conf", version_base="1.3"):
        config = compose("config", overrides=[f"evaluation/gain={name}"])
    return instantiate(config.evaluation.gain, _convert_="all")


@pytest.mark.parametrize("name", [n for n in PRESETS if "esci" in n or n == "shop"])
def test_a_substitute_is_worth_more_than_a_complement_but_in_the_bug(name: str) -> None:
    gain = preset(name)
    if name == "esci_official_swapped_bug":
        assert gain.gains["S"] < gain.gains["C"]
        assert gain.levels["S"] < gain.levels["C"]
    else:
        assert gain.gains["S"] > gain.gains["C"]
        assert gain.levels["S"] > gain.levels["C"]


def test_the_official_gains() -> None:
    values = preset("esci_official").values(pl.Series(["E", "S", "C", "I"]))
    assert values["gain"].to_list() == [1.0, 0.1, 0.01, 0.0]
    assert values["relevant"].to_list() == [True, False, False, False]


def test_home_depot_is_relevance_minus_one() -> None:
    values = preset("home_depot_linear").values(pl.Series(["1.0", "2.33", "2.67", "3.0"]))
    assert values["gain"].to_list() == pytest.approx([0.0, 1.33, 1.67, 2.0])
    assert values["relevant"].to_list() == [False, False, True, True]
    convex = preset("home_depot_convex").values(pl.Series(["1.0", "2.0", "3.0"]))
    assert convex["gain"].to_list() == pytest.approx([0.0, 9.0, 99.0])


def test_unknown_labels_are_refused() -> None:
    gain = LabelGain("esci", {"E": 1.0}, {"E": 1.0}, ("E",))
    with pytest.raises(InputError, match="gain esci has no label 'Exact'"):
        gain.values(pl.Series(["E", "Exact"]))
    with pytest.raises(InputError, match="needs numeric labels, not 'E'"):
        NumericGain("graded").values(pl.Series(["1", "E"]))
