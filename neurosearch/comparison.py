"""Comparing systems from Python: one call from recipes to a corrected table.

    import neurosearch as ns

    table = ns.compare([ns.BM25(), ns.Dense()], ns.Shop(), baseline="BM25 (Lucene)", seeds=1)
    print(table)

It builds the artifacts that the command line builds, writes the same records, and its table goes
through the same tests.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from neurosearch.core.bounds import check_name
from neurosearch.core.errors import InputError
from neurosearch.core.machine import log, peak_memory_mb
from neurosearch.core.query import QueryProcessor
from neurosearch.core.recipe import look_again
from neurosearch.core.retrieval import Retriever
from neurosearch.core.runtime import Runtime
from neurosearch.data.base import Data
from neurosearch.evaluation.base import Evaluation
from neurosearch.evaluation.catalogue import CatalogueProtocol
from neurosearch.evaluation.gain import Gain
from neurosearch.evaluation.latency import LatencyProtocol
from neurosearch.evaluation.opened import opened
from neurosearch.query.analyzer import check_stemmers
from neurosearch.query.none import NoProcessing
from neurosearch.report.comparison import Comparison

if TYPE_CHECKING:
    from collections.abc import Iterator


COLUMNS = ("nDCG@10", "condensed nDCG@10", "judged@10", "Recall@10", "Recall@100", "MRR@10")
COSTS = ("p50 ms", "index MB", "build s")


def gain(name: str) -> Gain:
    """A gain preset of conf/evaluation/gain, such as `esci_official` or `home_depot`.

    Args:
        name: of the preset.

    Returns:
        The preset as a recipe.

    Raises:
        InputError: there is no such preset; the message lists all of them.
    """
    from hydra import compose, initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import MissingConfigException
    from hydra.utils import instantiate

    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module("neurosearch.conf", version_base="1.3"):
            config = compose(f"evaluation/gain/{name}")
            return cast(Gain, instantiate(config.evaluation.gain, _convert_="all"))
    except MissingConfigException:
        from importlib.resources import files

        folder = files("neurosearch.conf").joinpath("evaluation/gain")
        known = sorted(p.name.removesuffix(".yaml") for p in folder.iterdir())
        presets = ", ".join(n for n in known if not n.startswith("_"))
        raise InputError(f"no gain preset {name!r}; there are {presets}") from None
    finally:
        GlobalHydra.instance().hydra = before


def compare(
    systems: Sequence[Retriever] | Mapping[str, Retriever],
    data: Data,
    *,
    baseline: str | Retriever | None = None,
    seeds: int | Sequence[int] = 1,
    gain: Gain | str | None = None,
    query: QueryProcessor | None = None,
    evaluation: Evaluation | None = None,
    latency: bool = False,
    runtime: Runtime | None = None,
    name: str = "compare",
    progress: bool = True,
) -> Comparison:
    """Run systems on a data set and test them against a baseline.

    Args:
        systems: retriever recipes; a mapping names the rows, a sequence takes their labels.
        data: the data set.
        baseline: a row's name or one of the systems; None for the first.
        seeds: how many (0, 1, …), or which; every `seed` field of a system is set to each.
        gain: what labels are worth, or a preset's name; None for the data's own preset.
        query: processing of the query texts; None for none.
        evaluation: the whole protocol; None for the test split and the whole catalogue. Its gain
            is used where `gain` is None.
        latency: measure milliseconds per query.
        runtime: outputs folder, device and threads; None for the defaults, with
            NEUROSEARCH_OUTPUTS (or `outputs`) as the folder.
        name: of the experiment: outputs/jobs/<name>.
        progress: log what is built to stderr.

    Returns:
        The table, in several forms.

    Raises:
        InputError: something can't work; nothing but the data has been built then, unless the
            fault shows itself only while a system is built.
    """
    from neurosearch.report.table import make_tables

    look_again()
    _check_arguments(systems, data, name)
    named = _named(systems)
    protocol = _protocol(evaluation, gain, data, latency)
    runtime = runtime or default_runtime(progress)
    numbers = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not numbers or not all(isinstance(number, int) for number in numbers):
        raise InputError(f"seeds must be a number of seeds, or some of them, not {seeds!r}")
    first = _baseline(named, baseline)
    records = []
    with logged(progress):
        dataset = data.bound(runtime)
        processing = (query or NoProcessing()).fitted(dataset)
        protocol.check(opened(runtime.get(dataset)))
        check_stemmers(data, processing, *named.values())
        jobs = [
            (row, seed, _seeded(system, seed)) for row, system in named.items() for seed in numbers
        ]
        _check(jobs, dataset, processing, protocol, runtime)
        for number, (row, seed, system) in enumerate(jobs):
            folder = runtime.outputs / "jobs" / name / f"{_plain(row)},seed={seed}"
            facts = {"experiment": name, "number": number, "seed": seed, "row": row}
            # A store of its own: what it notes of artifacts is this row's alone.
            own_runtime = dataclasses.replace(runtime)
            parts = (system, dataset, processing, protocol, own_runtime, folder)
            records.append(_record(facts, data, first, *parts))
    table = make_tables(records, "")[0]
    columns = (*COLUMNS, *(COSTS if latency else COSTS[1:]))
    return Comparison(table, columns, runtime.outputs / "tables" / name)


def _check_arguments(systems: Any, data: Any, name: str) -> None:
    """Raise InputError for arguments of another kind."""
    if isinstance(systems, Retriever) or not isinstance(systems, Sequence | Mapping):
        raise InputError("systems must be a list, or a mapping of names, of retrievers")
    for system in systems.values() if isinstance(systems, Mapping) else systems:
        if not isinstance(system, Retriever):
            raise InputError(f"systems: {system!r} is no retriever, such as ns.BM25()")
    check_data(data)
    check_name(name)


def check_data(data: Any) -> None:
    """Raise InputError for what is no data set.

    Args:
        data: as it was given.
    """
    if not isinstance(data, Data):
        raise InputError(f"data must be a data set, such as ns.Beir(path), not {data!r}")


def _record(
    facts: dict[str, Any],
    data: Data,
    baseline: str,
    system: Retriever,
    dataset: Any,
    query: QueryProcessor,
    protocol: Evaluation,
    runtime: Runtime,
    folder: Path,
) -> dict[str, Any]:
    """Run one job and write its record."""
    from omegaconf import OmegaConf

    from neurosearch.core.store import write_whole
    from neurosearch.task.base import write_record
    from neurosearch.task.measure import data_facts, measured, system_facts

    start = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    described = {"retriever": _tree(system), "query": _tree(query), "evaluation": _tree(protocol)}
    config = OmegaConf.to_yaml({**described, "data": _tree(data), "seed": facts["seed"]})
    write_whole(folder / "config.yaml", config.encode())
    outcome = measured(system, dataset, query, protocol, runtime, folder, trec=True)
    record = {
        **facts,
        **data_facts(data, runtime),
        **system_facts(system, protocol),
        "label": facts["row"],
        "overrides": [],
        "choices": [f"row={_plain(facts['row'])}"],
        "baseline": f"row={_plain(baseline)}",
        "gain_choice": data.choice,
        "status": "done",
        "seconds": round(time.perf_counter() - start, 2),
        "peak_memory_mb": round(peak_memory_mb(), 1),
        **outcome,
    }
    write_record(folder, record)
    log.info("%s: nDCG@10 %.3f", facts["row"], outcome["means"].get("nDCG@10", float("nan")))
    return {**record, "folder": str(folder)}


def _named(systems: Sequence[Retriever] | Mapping[str, Retriever]) -> dict[str, Retriever]:
    """Systems by their row's name. Equal labels are told apart by the fields that differ."""
    pairs = (
        list(systems.items())
        if isinstance(systems, Mapping)
        else [("", system) for system in systems]
    )
    if not pairs:
        raise InputError("systems: none given")
    for _, system in pairs:
        if not isinstance(system, Retriever):
            raise InputError(f"systems: {system!r} is no retriever, such as BM25() or Dense()")
    labels = [name or system.label() for name, system in pairs]
    fields = [dict(_flat(system, "")) for _, system in pairs]
    named: dict[str, Retriever] = {}
    for number, (_, system) in enumerate(pairs):
        label = labels[number]
        alike = [fields[i] for i, other in enumerate(labels) if other == label]
        differs = [
            f"{key.rpartition('.')[2]}={value}"
            for key, value in fields[number].items()
            if any(other.get(key) != value for other in alike)
        ]
        row = " · ".join([label, ", ".join(differs)]) if differs else label
        if row in named:
            raise InputError(f"systems: {row!r} is there twice")
        named[row] = system
    return named


def _flat(value: Any, prefix: str) -> Iterator[tuple[str, str]]:
    """Dotted keys and values of a recipe's fields."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield prefix, type(value).__name__
        for spec in dataclasses.fields(value):
            yield from _flat(getattr(value, spec.name), f"{prefix}.{spec.name}".lstrip("."))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}")
    else:
        yield prefix, str(value)


def _tree(value: Any) -> Any:
    """A recipe as nested plain values, its class under `_target_`: the config it stands for."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        name = f"{type(value).__module__}.{type(value).__qualname__}"
        fields = {spec.name: _tree(getattr(value, spec.name)) for spec in dataclasses.fields(value)}
        return {"_target_": name, **fields}
    if isinstance(value, Mapping):
        return {str(key): _tree(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_tree(item) for item in value]
    return value


def _seeded(value: Any, seed: int) -> Any:
    """A recipe whose `seed` fields, at any depth, are `seed`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {
            spec.name: seed if spec.name == "seed" else _seeded(getattr(value, spec.name), seed)
            for spec in dataclasses.fields(value)
            if spec.init
        }
        return dataclasses.replace(value, **changed)
    if isinstance(value, Mapping):
        return {key: _seeded(item, seed) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_seeded(item, seed) for item in value)
    return value


def _baseline(named: Mapping[str, Retriever], baseline: str | Retriever | None) -> str:
    if baseline is None:
        return next(iter(named))
    matches = [row for row, system in named.items() if baseline in (row, system)]
    if not matches:
        raise InputError(f"baseline: {baseline!r} is none of the rows {', '.join(named)}")
    return matches[0]


def _protocol(
    evaluation: Evaluation | None, gain_given: Gain | str | None, data: Data, latency: bool
) -> Evaluation:
    chosen = gain(gain_given) if isinstance(gain_given, str) else gain_given
    if evaluation is not None:
        return evaluation if chosen is None else dataclasses.replace(evaluation, gain=chosen)
    timing = LatencyProtocol() if latency else LatencyProtocol(queries=0)
    return CatalogueProtocol(gain=chosen or gain(data.choice), latency=timing)


def _check(
    jobs: Sequence[tuple[str, int, Retriever]],
    dataset: Any,
    query: QueryProcessor,
    protocol: Evaluation,
    runtime: Runtime,
) -> None:
    """Raise InputError naming every row that can't work, before any is built."""
    from neurosearch.task.measure import targets

    faults: dict[str, None] = {}
    for row, _, system in jobs:
        try:
            for target in targets(system, dataset, query, protocol):
                runtime.store.check(target)
        except InputError as error:
            faults[f"{row}: {error}"] = None
    if faults:
        raise InputError("; ".join(faults))


def default_runtime(progress: bool = True) -> Runtime:
    """Outputs in NEUROSEARCH_OUTPUTS, or in `outputs`; every core, or OMP_NUM_THREADS of them;
    a GPU where there is one.

    Args:
        progress: show progress bars.

    Returns:
        A runtime for this machine.
    """
    return Runtime(Path(os.environ.get("NEUROSEARCH_OUTPUTS", "outputs")), progress=progress)


@contextmanager
def logged(progress: bool) -> Iterator[None]:
    """Log to stderr while work is done, where the program has set up no logging itself.

    Args:
        progress: log at all.

    Returns:
        A context; the handler is removed at its end.
    """
    if not progress or log.handlers or logging.getLogger().handlers:
        yield
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def _plain(row: str) -> str:
    """A row's name as a word without blanks, for folders and the baseline's term."""
    return "".join(c if c.isalnum() or c in "=.-" else "_" for c in row)[:120]
