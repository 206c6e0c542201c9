"""Rule 2: one word names a role, its config group and its package; everything composes."""

from __future__ import annotations

import importlib
import re
import tomllib
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_module
from omegaconf import DictConfig

from neurosearch import app
from neurosearch.core.errors import InputError
from neurosearch.sweep.checks import _check_columns
from neurosearch.task.base import build

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
CONFIG_ONLY = {"runtime", "experiment", "debug", "search", "hydra", "schedule", "thresholds"}
ROLES = sorted(p.name for p in CONF.iterdir() if p.is_dir() and p.name != "__pycache__")
NESTED = (
    "evaluation/gain",
    "debug/of",
    "hydra/help",
    "hydra/launcher",
    "hydra/sweeper",
)  # groups in groups


# What a user must say.
NEEDED = {
    "data=tables": ["data.products=p.csv", "data.judgments=j.csv"],
    "retriever=run_file": ["retriever.path=x.trec"],
    "query=synonyms": [f"query.path={Path(__file__).parents[1] / 'neurosearch/py.typed'}"],
    "task=explain": ["task.text=mug"],
    "task=table": ["task.jobs=[main]"],
    "task=annotate": ["task.folder=judging"],
    "logs=ubi": [f"logs.path={Path(__file__).parent}"],
}


def group_and_choice(path: Path) -> tuple[str, str]:
    """`retriever`, `dense/finetuned` of conf/retriever/dense/finetuned.yaml."""
    name = path.relative_to(CONF).with_suffix("").as_posix()
    group = next((g for g in NESTED if name.startswith(f"{g}/")), name.split("/")[0])
    return group, name.removeprefix(f"{group}/")


CHOICES = sorted(group_and_choice(path) for path in CONF.glob("*/**/*.yaml"))
TOP = {
    "logs",
    "tokenizer",
    "data",
    "query",
    "retriever",
    "evaluation",
    "report",
    "tracking",
    "runtime",
    "task",
}


@lru_cache(maxsize=8)  # a test that asks for one config twice composes it once
def composed(*overrides: str) -> DictConfig:
    with initialize_config_module("neurosearch.conf", version_base="1.3"):
        return compose("config", overrides=list(overrides), return_hydra_config=True)


def node_of(group: str, choice: str) -> DictConfig:
    """The composed config of one choice, wherever it sits."""
    where = {
        "encoder": "retriever.encoder",
        "index": "retriever.index",
        "fusion": "retriever.fusion",
        "loss": "retriever.encoder.loss",
        "negatives": "retriever.encoder.negatives",
        "generator": "retriever.generator",
        "reranker": "retriever.reranker",
        "schedule": "retriever.encoder.schedule",
        "writer": "retriever.writer",
    }.get(group)
    if where is not None:
        finetuned = dict.fromkeys(("loss", "negatives", "schedule"), "dense/finetuned")
        others = {"fusion": "hybrid", "generator": "generative", "reranker": "reranked"}
        others["writer"] = "hyde"
        holder = {**others, **finetuned}.get(group, "dense")
        config = composed(f"retriever={holder}", f"{group}@{where}={choice}")
        node = config
        for part in where.split("."):
            node = node[part]
        return node
    if group in ("collisions", "thresholds"):
        named = f"{group}@tokenizer.{group}={choice}"
        return composed("tokenizer=rqkmeans", named)["tokenizer"][group]
    if group in ("users", "propensity"):
        held = ["retriever=dense/finetuned", "implicit@retriever.encoder.implicit=ips"]
        where = {"users": "logs.users", "propensity": "retriever.encoder.implicit.propensity"}[
            group
        ]
        node = composed("logs=simulated", *held, f"{group}@{where}={choice}")
        for part in where.split("."):
            node = node[part]
        return node
    if group == "implicit":
        held = ["logs=simulated", "retriever=dense/finetuned"]
        named = f"implicit@retriever.encoder.implicit={choice}"
        return composed(*held, named)["retriever"]["encoder"]["implicit"]
    if group == "clicks":
        return composed("task=clicks", f"clicks@task.models.pbm={choice}")["task"]["models"]["pbm"]
    if group == "profile":
        named = f"profile@retriever.profile={choice}"
        return composed("retriever=personalised", named)["retriever"]["profile"]
    if group == "annotation":
        named = f"annotation@task.annotation={choice}"
        return composed("task=annotate", "task.folder=x", named)["task"]["annotation"]
    if group in ("interleaving", "stopping"):
        return composed("task=trial", f"{group}@task.{group}={choice}")["task"][group]
    if group == "trial":
        named = f"+trial@task.server.trial={choice}"
        return composed("task=serve", named)["task"]["server"]["trial"]
    if group == "judge":
        return composed("task=judge", f"{group}@task.judge={choice}")["task"]["judge"]
    if group == "classifier":
        named = f"classifier@retriever.classifier={choice}"
        return composed("evaluation=labels", "retriever=classified", named)["retriever"][
            "classifier"
        ]
    if group == "detector":
        power = composed("task=drift_power", f"{group}@task.detector={choice}")
        return power["task"]["detector"]
    if group == "engine":
        held = composed("retriever=engine/words", f"engine@retriever.engine={choice}")
        return held["retriever"]["engine"]
    if group == "explainer":
        return composed("task=explain", f"{group}@task.explainer={choice}")["task"]["explainer"]
    config = composed(f"{group}={choice}")
    node = config
    for part in group.split("/"):
        node = node[part]
    return node


@pytest.mark.parametrize(
    "group, choice",
    [c for c in CHOICES if c[0].split("/")[0] not in CONFIG_ONLY or c[0].split("/")[0] in TOP],
)
def test_every_choice_lies_where_the_rule_says_and_instantiates(
    group: str, choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = group.split("/")[0]
    if root not in CONFIG_ONLY:
        lies_where_the_rule_says(group, choice)
    if root not in TOP:
        return
    for name in ("DATA", "OUTPUTS"):
        monkeypatch.setenv(f"NEUROSEARCH_{name}", str(tmp_path))
    given = NEEDED.get(f"{group}={choice}", [])
    if given:
        with pytest.raises(InputError, match=f"{group}.* has no value: add {group}"):
            build(composed(f"{group}={choice}"), group)
    assert build(composed(f"{group}={choice}", *given), root) is not None


def lies_where_the_rule_says(group: str, choice: str) -> None:
    target = node_of(group, choice)._target_
    module, _, name = target.rpartition(".")
    assert is_dataclass(getattr(importlib.import_module(module), name))
    elsewhere = {
        "evaluation/gain": "neurosearch.evaluation.gain",
        "schedule": "neurosearch.training.schedule",
        "thresholds": "neurosearch.tokenizer.thresholds",
    }
    if choice.startswith("zoo/"):  # models of others, by any recipe of the role
        assert module.startswith(f"neurosearch.{group}.")
        return
    if group in elsewhere:
        assert module == elsewhere[group]
        return
    # A choice is a file, a file of a method's folder, or a folder with a recipe; a variant is its.
    where = f"neurosearch.{group}.{choice.replace('/', '.')}"
    variant = where.rpartition(".")[0] if "/" in choice else where
    assert module in (where, f"{where}.recipe", variant, f"{variant}.recipe")


@pytest.mark.parametrize("choice", [name for group, name in CHOICES if group == "experiment"])
def test_experiments_are_short_and_open_with_their_claim(choice: str) -> None:
    text = (CONF / "experiment" / f"{choice}.yaml").read_text()
    lines = text.splitlines()
    assert len(lines) <= 25
    assert lines[0] == "# @package _global_"
    for word, line in zip(("claim", "command", "minutes", "data"), lines[1:5], strict=True):
        assert line.startswith(f"# {word}")
    assert f"experiment={choice}" in lines[2]
    config = composed(f"experiment={choice}")
    assert config.name == choice
    assert config.hydra.sweeper.params
    _check_columns(config, config.report.columns or ())  # of the command as the page has it


@pytest.mark.parametrize("choice", [name for group, name in CHOICES if group == "experiment"])
def test_the_baseline_of_an_experiment_is_one_of_its_rows(choice: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    config = composed(f"experiment={choice}")
    if not config.evaluation.baseline or "tokenizer" in config.hydra.sweeper.params:
        return  # tables of tokenizers have no tests
    parser = OverridesParser.create()
    swept = parser.parse_overrides([f"{k}={v}" for k, v in config.hydra.sweeper.params.items()])
    rows = {f"retriever={config.hydra.runtime.choices.retriever}"}
    for override in swept:
        values = (
            override.sweep_string_iterator()
            if override.is_sweep_override()
            else [override.get_value_element_as_str()]
        )
        rows |= {f"{override.get_key_element()}={value}".lower() for value in values}
    missing = set(config.evaluation.baseline.lower().split()) - rows
    # Where no row is BM25, the first stands in.
    assert not missing or missing == {"retriever=bm25"}


@pytest.mark.parametrize("choice", ["slurm", "joblib", "submitit_local"])
def test_launchers_compose(choice: str) -> None:
    launcher = composed(f"hydra/launcher={choice}").hydra.launcher
    assert launcher._target_.rpartition(".")[2].endswith("Launcher")
    if choice == "slurm":
        assert launcher.gpus_per_node == 1 and launcher.timeout_min == 240


@pytest.mark.parametrize("choice", [name for group, name in CHOICES if group == "search"])
def test_searches_go_by_dev_and_can_be_resumed(choice: str) -> None:
    config = composed(f"search={choice}")
    assert config.evaluation.split == "dev"
    sweeper = config.hydra.sweeper
    assert sweeper._target_.endswith("OptunaSweeper") and sweeper.direction == "maximize"
    assert sweeper.storage.startswith("sqlite:///") and config.name in sweeper.study_name


def test_a_yaml_says_what_its_dataclass_says() -> None:
    """One truth for defaults: `BM25()` and `retriever=bm25` are one system."""
    differing = [
        f"{group}={choice}: {told}"
        for group, choice in CHOICES
        if not (group.split("/")[0] in CONFIG_ONLY or "/" in choice or group == "evaluation/gain")
        for told in differences(yaml.safe_load((CONF / group / f"{choice}.yaml").read_text()))
    ]
    assert not differing, "\n".join(differing)


def differences(node: dict[str, Any], default: Any = None, where: str = "") -> list[str]:
    """Plain values of a YAML that are not its class's defaults, nested parts included.

    `default`: the instance that the part has by default, for parts whose class another group says.
    """
    if "_target_" in node:
        module, _, name = node["_target_"].rpartition(".")
        kind = getattr(importlib.import_module(module), name)
        values = {
            s.name: s.default if s.default_factory is MISSING else s.default_factory()
            for s in fields(kind)
        }
        if type(default) is kind:
            values = {s.name: getattr(default, s.name) for s in fields(default)}
    elif is_dataclass(default):
        values = {s.name: getattr(default, s.name) for s in fields(default)}
    else:
        return []
    found = []
    # Parts that other YAMLs are chosen for; schedules all have one class.
    words = " ".join(str(entry) for entry in node.get("defaults", ()))
    chosen = set(re.findall(r"@(\w+)'", words)) - {"schedule"}
    for key, value in node.items():
        if key in ("_target_", "defaults") or key in chosen:
            continue
        usual = values[key]  # a key that is no field is an error
        if isinstance(value, dict) and (is_dataclass(usual) or "_target_" in value):
            found += differences(value, usual, f"{where}{key}.")
        elif usual is MISSING or (isinstance(value, str) and ("${" in value or value == "???")):
            continue
        else:
            value = tuple(value) if isinstance(value, list) else value
            value = float(value) if isinstance(usual, float) and value is not None else value
            if value != usual:
                found.append(f"{where}{key} is {value!r}, by default {usual!r}")
    return found


def test_roles_are_packages() -> None:
    for role in ROLES:
        assert role in CONFIG_ONLY or (ROOT / "neurosearch" / role / "__init__.py").exists()


def test_every_package_is_listed_for_the_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(project["tool"]["setuptools"]["packages"])
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "neurosearch").rglob("__init__.py")
    }
    assert listed == found | {"neurosearch.conf"}


def test_the_root_config_fits_one_screen() -> None:
    assert len((CONF / "config.yaml").read_text().splitlines()) <= 50


def test_the_gain_follows_the_data() -> None:
    assert composed("data=home_depot").evaluation.gain.name == "home_depot_linear"
    assert composed("data=esci").evaluation.gain.name == "esci_official"
    swapped = composed("data=esci", "evaluation/gain=esci_official_swapped_bug")
    assert swapped.evaluation.gain.gains == {"E": 1, "S": 0.01, "C": 0.1, "I": 0}


def test_nested_overrides_of_the_design_work() -> None:
    config = composed(
        "retriever=hybrid", "fusion@retriever.fusion=convex", "retriever.fusion.step=0.1"
    )
    assert config.retriever.fusion.step == 0.1
    config = composed("retriever=hybrid", "encoder@retriever.members.dense.encoder=hashing")
    recipe = build(config, "retriever")
    assert recipe.members["dense"].encoder.dimensions == 256
    assert recipe.gain.name == "esci_official"


@pytest.mark.parametrize(
    "dirname, expected",
    [
        ("", "default"),
        ("experiment=baselines,retriever=bm25", "retriever=bm25"),
        ("runtime.threads=1,retriever=bm25,task=plan", "retriever=bm25"),
        ("evaluation/gain=esci_exp", "evaluation_gain=esci_exp"),
    ],
)
def test_job_folders_are_named_by_what_matters(dirname: str, expected: str) -> None:
    assert app.job_folder_name(dirname) == expected


def test_long_names_are_cut_and_stay_apart() -> None:
    long = [f"retriever.boosts.{'x' * 300}={n}" for n in range(2)]
    names = [app.job_folder_name(name) for name in long]
    assert all(len(name.encode()) <= 150 for name in names)
    assert names[0] != names[1]


def test_help_imports_nothing_heavy() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from neurosearch import app; from neurosearch.task.evaluate import Evaluate;"
        "import neurosearch.retriever.hybrid, neurosearch.retriever.bm25_tuned;"
        "heavy = {'torch', 'transformers', 'faiss', 'ranx', 'numba', 'bm25s', 'wandb', 'jnius'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "holder, place",
    [
        ("retriever=hyde", "retriever.writer"),
        ("query=rewrite", "query.writer"),
        ("reranker@retriever.reranker=llm", "retriever.reranker.writer"),
    ],
)
def test_any_writer_fits_where_one_goes(holder: str, place: str, tmp_path: Path) -> None:
    """What one writer's config has must not be left over for another."""
    (tmp_path / "texts.jsonl").write_text("")
    base = ["retriever=reranked"] if "reranker" in holder else []
    for writer, more in (("template", ""), ("recorded", f"{place}.path={tmp_path}/texts.jsonl")):
        words = [*base, holder, f"writer@{place}={writer}", *([more] if more else [])]
        config = composed(*words, f"paths.outputs={tmp_path}")
        part = build(config, place.split(".", maxsplit=1)[0])
        for name in place.split(".")[1:]:
            part = getattr(part, name)
        assert type(part).__name__.lower() == writer
