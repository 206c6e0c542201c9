"""The numbers of a table: one row a system, seeds and folds combined, paired tests beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from neurosearch.core.errors import InputError
from neurosearch.evaluation.holm import holm
from neurosearch.evaluation.statistics import (
    crossed_intervals,
    crossed_test,
    effect_size,
    nan_mean,
    randomisation_test,
    resampled_means,
)

# Overrides that make repetitions of a system, or name its experiment; none makes another system.
REPEATS = ("seed", "data.fold", "name")
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Cell:
    """A metric of a system. NaN where a number does not apply (one seed has no standard deviation).

    `queries`: for how many the metric is defined.
    """

    mean: float
    queries: int = 0
    low: float = float("nan")
    high: float = float("nan")
    sd_seeds: float = float("nan")
    p_holm: float = float("nan")
    effect: float = float("nan")
    wins: int = 0
    losses: int = 0

    @property
    def significant(self) -> bool:
        return self.p_holm < SIGNIFICANT


@dataclass(frozen=True)
class Row:
    """A system. `failed` says why where its job did not finish; then there are no cells.

    `pruned`: stopped early by the search. `seeded`: it draws random numbers, which depend on the
    seed.
    """

    system: str
    is_reference: bool = False
    seeds: int = 0
    queries: int = 0
    cells: dict[str, Cell] = field(default_factory=dict)
    hardware: str = ""
    commit: str = ""
    failed: str = ""
    pruned: bool = False
    seeded: bool = False
    flags: tuple[str, ...] = ()  # such as `collapsed`, of a tokenizer that it stands on
    records: tuple[dict[str, Any], ...] = field(default=(), repr=False)  # of its jobs

    @property
    def caption(self) -> str:
        """The system, with its flags."""
        alone = self.seeded and self.seeds == 1 and not self.is_reference
        facts = [*self.flags, *(["1 seed"] if alone else [])]
        return self.system + (f" ({', '.join(facts)})" if facts else "")

    @property
    def chosen(self) -> dict[str, Any]:
        """What tuning chose on dev, by what was tuned.

        Of jobs that chose alike, what all chose. Else of each seed, and of the system alone,
        without what its parts' folds chose (whose names end in a fingerprint).
        """
        ordered = sorted(self.records, key=lambda record: int(record["seed"]))
        found = [(record["seed"], record.get("chosen", {})) for record in ordered]
        if all(chosen == found[0][1] for _, chosen in found):
            return dict(found[0][1]) if found else {}
        own = [(seed, {n: v for n, v in c.items() if " " not in n}) for seed, c in found]
        if all(chosen == own[0][1] for _, chosen in own):
            return own[0][1]
        names = dict.fromkeys(name for _, chosen in own for name in chosen)
        return {f"{n} of seed {seed}": c[n] for n in names for seed, c in own if n in c}


def baseline_of(records: list[dict[str, Any]]) -> str:
    """The system that the others are tested against; '' where only reference rows are there.

    Among the jobs whose overrides and choices hold every `key=value` of `evaluation.baseline`, the
    one with the fewest overrides; where there is none, the first that is no reference row.
    """
    ranked = [
        (name, record)
        for name, group in _by_system(records).items()
        for record in group
        if not record["is_reference"]
    ]
    named = [(name, r) for name, r in ranked if is_named(r, records[0]["baseline"])]
    if named:  # the plainest of them: that of fewest overrides
        return min(named, key=lambda pair: len(pair[1]["overrides"]))[0]
    return ranked[0][0] if ranked else ""


def is_named(record: dict[str, Any], terms: str) -> bool:
    """Whether a job's overrides and choices hold every `key=value` of `evaluation.baseline`."""
    known = {
        word.lstrip("+").lower() for word in (*record["overrides"], *record.get("choices", ()))
    }
    return bool(terms) and set(terms.lower().split()) <= known


def rows_of(records: list[dict[str, Any]], baseline: str = "") -> list[Row]:
    """Rows of one table, in the order of its jobs; `baseline`: see `baseline_of`."""
    systems = _by_system(records)
    if records[0]["metrics"] is None:
        return [_measured(name, group) for name, group in systems.items()]
    # A system may have metrics of its own.
    metrics = list(dict.fromkeys(name for record in records for name in record["means"]))
    queries, stacks = _aligned({name: _scores(group, metrics) for name, group in systems.items()})
    resamples, seed = records[0]["resamples"], records[0]["statistics_seed"]
    means = dict(zip(stacks, resampled_means(list(stacks.values()), resamples, seed), strict=True))
    intervals = crossed_intervals(list(stacks.values()), list(means.values()), seed)
    tests = _tests(systems, stacks, means, baseline, resamples, seed)
    rows = []
    for (name, group), (low, high) in zip(systems.items(), intervals, strict=True):
        by_seed = nan_mean(stacks[name], axis=1)
        defined = np.isfinite(stacks[name][0]).sum(axis=0)
        spread = by_seed.std(axis=0, ddof=1) if len(by_seed) > 1 else np.full(len(metrics), np.nan)
        cells = {}
        for m, metric in enumerate(metrics):
            if not defined[m]:
                continue
            p, effect, wins, losses = tests.get(name, {}).get(m, (np.nan, np.nan, 0, 0))
            mean = float(by_seed[:, m].mean())
            ends = float(low[m]), float(high[m])
            counts = int(defined[m]), *ends
            cells[metric] = Cell(mean, *counts, float(spread[m]), p, effect, wins, losses)
        measured = [r["latency"] for r in group if r["latency"]]
        for metric in measured[0] if measured else ():
            values = [latency[metric] for latency in measured]
            cells[metric] = Cell(float(np.mean(values)))
        rows.append(
            Row(
                system=name,
                is_reference=group[0]["is_reference"],
                seeds=len(by_seed),
                queries=len(queries),
                cells=cells,
                **_provenance(group),
            )
        )
    return rows


def _measured(name: str, group: list[dict[str, Any]]) -> Row:
    """A row of numbers that are not means over queries."""
    by_run = list({record["run"]: record for record in group}.values())
    cells = {}
    for metric in by_run[0]["means"]:
        values = [record["means"][metric] for record in by_run]
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
        cells[metric] = Cell(float(np.mean(values)), sd_seeds=spread)
    is_reference = group[0]["is_reference"]
    return Row(name, is_reference, seeds=len(by_run), cells=cells, **_provenance(group))


def _provenance(group: list[dict[str, Any]]) -> dict[str, Any]:
    flags = sorted({flag for record in group for flag in record.get("flags", [])})
    records = tuple({record["run"]: record for record in group}.values())  # equal jobs are one
    said = {
        name: ", ".join(dict.fromkeys(record[name] for record in group))
        for name in ("hardware", "commit")
    }
    seeded = any(record.get("seeded") for record in group)
    return {**said, "flags": tuple(flags), "seeded": seeded, "records": records}


def _by_system(records: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Jobs by the system's name; where one name stands for several, what differs is added."""
    settings = [
        tuple(o for o in r["overrides"] if o.split("=")[0].lstrip("+~") not in REPEATS)
        for r in records
    ]
    named: dict[str, set[tuple[str, ...]]] = {}
    for record, setting in zip(records, settings, strict=True):
        named.setdefault(record["label"], set()).add(setting)
    systems: dict[str, list[dict[str, Any]]] = {}
    for record, setting in zip(records, settings, strict=True):
        name = record["label"]
        if len(named[name]) > 1:
            # What all the jobs of this name share does not tell them apart.
            common = set(setting).intersection(*named[name])
            message = [o for o in setting if o not in common]
            alike = [s for s in named[name] if shortened(s) == shortened(setting)]
            exact = len(alike) > 1
            name = " · ".join([name, shortened(message, exact)]) if message else name
        systems.setdefault(name, []).append(record)
    return systems


def shortened(overrides: Iterable[str], exact: bool = False) -> str:
    """Overrides as a reader would name them: last part of the key; four digits, or `exact`."""
    return ", ".join(_short(override, exact) for override in overrides)


def _short(override: str, exact: bool) -> str:
    key, _, value = override.partition("=")
    if value.startswith("{"):
        return ", ".join(value.strip("{}").replace(":", "=").split(","))
    if re.fullmatch(r"-?\d+\.\d{4,}(e-?\d+)?", value) and not exact:
        value = f"{float(value):.4g}"  # a value that a search sampled
    return f"{key.split('@')[0].split('.')[-1]}={value}"


def _scores(group: list[dict[str, Any]], metrics: list[str]) -> list[pl.DataFrame]:
    """One frame a seed (folds joined), of distinct runs only."""
    by_seed: dict[Any, list[dict[str, Any]]] = {}
    for record in group:
        by_seed.setdefault(record["seed"], []).append(record)
    frames, seen = [], set()
    for jobs in by_seed.values():
        members = list({job["run"]: job for job in jobs}.values())  # equal jobs are one
        runs = tuple(sorted(record["run"] for record in members))
        if runs in seen:  # the system draws no random numbers: another seed, the same run
            continue
        seen.add(runs)
        # From the artifacts: a job's folder may meanwhile be another sweep's.
        parts = [pl.read_parquet(r["metrics"], glob=False) for r in members]
        missing = [[m for m in metrics if m not in part.columns] for part in parts]
        whole = [
            part.with_columns(pl.lit(None, pl.Float64).alias(m) for m in names)
            for part, names in zip(parts, missing, strict=True)
        ]
        frames.append(_joined([part.select("query_id", *metrics) for part in whole], group[0]))
    return frames


def _joined(folds: list[pl.DataFrame], job: dict[str, Any]) -> pl.DataFrame:
    joined = pl.concat(folds)
    if joined["query_id"].is_duplicated().any():
        raise InputError(f"{job['label']!r}: two jobs of the same seed overlap in their queries")
    return joined


def _aligned(
    systems: dict[str, list[pl.DataFrame]],
) -> tuple[list[str], dict[str, np.ndarray]]:
    """S×Q×M arrays over the same queries. Raises InputError where the queries differ."""
    reference = next(iter(systems.values()))[0].select("query_id").sort("query_id")
    ids = reference["query_id"]
    stacks = {}
    for name, frames in systems.items():
        ordered = [frame.sort("query_id") for frame in frames]
        for frame in ordered:
            if not frame["query_id"].equals(ids):
                raise InputError(
                    f"{name!r} was evaluated on other queries than the rest of the table "
                    f"({frame.height} and {len(ids)}): a fold or a seed is missing"
                )
        stacks[name] = np.stack([frame.drop("query_id").to_numpy() for frame in ordered])
    return ids.to_list(), stacks


def _tests(
    systems: dict[str, list[dict[str, Any]]],
    stacks: dict[str, np.ndarray],
    means: dict[str, np.ndarray],
    baseline: str,
    resamples: int,
    seed: int,
) -> dict[str, dict[int, tuple[float, float, int, int]]]:
    """For each system and metric: Holm's p against the baseline, effect size, wins, losses.

    Two systems of one seed each are compared query by query (`randomisation_test`); where either
    has several, seeds count as well as queries (`crossed_test`). Reference rows are not tested
    and do not count among the comparisons that Holm corrects for.
    """
    names = [n for n, g in systems.items() if n != baseline and not g[0]["is_reference"]]
    if baseline not in stacks or not names:
        return {}
    base = stacks[baseline]
    reference = base.mean(axis=0)
    differences = [stacks[name].mean(axis=0) - reference for name in names]
    metrics = reference.shape[1]
    p = np.empty((len(names), metrics))
    seeded = np.array([len(base) > 1 or len(stacks[name]) > 1 for name in names])
    for i in np.flatnonzero(seeded):
        name = names[i]
        p[i] = crossed_test(stacks[name], base, (means[name], means[baseline]), seed)
    if not seeded.all():
        alone = [differences[i] for i in np.flatnonzero(~seeded)]
        paired = randomisation_test(np.concatenate(alone, axis=1), resamples, seed)
        p[~seeded] = paired.reshape(len(alone), metrics)
    compared = np.array([np.isfinite(d).any(axis=0) for d in differences])
    adjusted = np.full((len(names), metrics), np.nan)
    for m, (values, among) in enumerate(zip(p.T, compared.T, strict=True)):
        adjusted[among, m] = holm(values[among])
    return {
        name: {
            m: (
                float(adjusted[i, m]),
                float(effect_size(difference)[m]),
                int((difference[:, m] > 1e-12).sum()),
                int((difference[:, m] < -1e-12).sum()),
            )
            for m in range(metrics)
        }
        for i, (name, difference) in enumerate(zip(names, differences, strict=True))
    }
