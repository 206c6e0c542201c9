"""`task=annotate task.folder=…`: which pairs to judge next, and what the labels say so far.

Every call reads the labels that are there, goes on with the design, and writes the next batch into
tasks.jsonl. With `task.port` it serves a small page until every pair has a label or Ctrl-C. When
the design is complete, it prints the systems' DCG@10 with intervals. The data's judgments are
neither read nor changed, so the test split may be judged.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from neurosearch.annotation.base import Annotation, Design, Pool
from neurosearch.annotation.estimate import Estimates, estimates
from neurosearch.annotation.files import Folder
from neurosearch.annotation.raters import agreement, worth
from neurosearch.annotation.uncertainty import Uncertainty
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.retrieval import RetrievalRequest, Retriever
from neurosearch.core.types import SPLITS, Dataset
from neurosearch.evaluation.gain import LabelGain
from neurosearch.task.base import Job, Task

TEXT = 600  # characters of a description that are shown
Z = 1.96


@dataclass(frozen=True)
class Annotate(Task):
    """Attributes:
    systems: by name, two or more.
    folder: of the files.
    annotation: the design.
    budget: pairs to judge.
    split: whose queries.
    depth: of the lists.
    grades: lowest first; None for those of the data's gain.
    repeats: share of the pairs that two judges label.
    seed: of the draws.
    port: of the page on this machine; None for files alone.
    """

    systems: Mapping[str, Retriever]
    folder: str = field(kw_only=True)
    annotation: Annotation = field(default_factory=Uncertainty)
    budget: int = setting(800, least=1)
    split: str = setting("test", choices=SPLITS)
    depth: int = setting(10, least=1, most=100)
    grades: tuple[str, ...] | None = None
    repeats: float = setting(0.05, least=0, most=1)
    seed: int = 0
    port: int | None = setting(None, least=0, most=65_535)

    def run(self, job: Job) -> None:
        gains = self._gains(job)
        folder = Folder(Path(self.folder))
        data = job.runtime.get(job.dataset)
        pool, runs = self._pool(job)
        plan = {
            "systems": dict(zip(self.systems, runs, strict=True)),
            "annotation": self.annotation.fingerprint,
            "budget": self.budget,
            "split": self.split,
            "depth": self.depth,
            "seed": self.seed,
            "grades": list(gains),
        }
        folder.opened(plan)
        while True:
            design, is_complete = self._advanced(pool, folder, gains)
            self._write(folder, pool, design, data)
            if is_complete or self.port is None:
                break
            self._served(folder, list(gains))
        self._report(job, folder, pool, design if is_complete else None, gains)

    def _gains(self, job: Job) -> dict[str, float]:
        """The grades, lowest first, and what they are worth, of 0 to 1."""
        import polars as pl

        gain = job.evaluation.gain
        names = self.grades
        if names is None:
            if not isinstance(gain, LabelGain):
                raise InputError(
                    f"task.grades: gain {gain.label()} does not name its labels: say them, lowest "
                    "first, such as task.grades=[1,2,3]"
                )
            names = tuple(sorted(gain.gains, key=lambda one: gain.gains[one]))
        if len(set(names)) < 2 or len(set(names)) != len(names) or len(names) > 9:
            raise InputError(f"task.grades must be 2 to 9 different labels, not {list(names)}")
        values = gain.values(pl.Series(list(names), dtype=pl.String))["gain"].to_numpy()
        if values.max() <= 0:
            raise InputError(f"task.grades: none is worth anything under gain {gain.label()}")
        return dict(zip(names, (values / values.max()).tolist(), strict=True))

    def _pool(self, job: Job) -> tuple[Pool, list[str]]:
        request = RetrievalRequest(job.processing, self.split, max(100, self.depth))
        runs = {name: one.run(job.dataset, request) for name, one in self.systems.items()}
        loaded = {name: job.runtime.get(run) for name, run in runs.items()}
        return Pool.of(loaded, self.depth), [run.artifact_fingerprint for run in runs.values()]

    def _advanced(
        self, pool: Pool, folder: Folder, gains: Mapping[str, float]
    ) -> tuple[Design, bool]:
        """The design as far as the labels carry it, and whether it is complete."""
        known = self._known(pool, folder, gains)
        names = [f"{query}\t{product}" for query, product in pool.pairs.iter_rows()]
        steps = self.annotation.steps(pool, self.budget, np.random.default_rng(self.seed))
        design = next(steps)
        before = folder.steps()
        for number in itertools.count():
            if number < len(before):  # a label that was corrected since then draws nothing anew
                gone = np.array([before[number].get(name, np.nan) for name in names])
            elif np.isnan(known[design.chosen]).any():
                return design, False
            else:
                gone = np.where(design.chosen, known, np.nan)
                folder.add_step({names[n]: float(gone[n]) for n in np.flatnonzero(design.chosen)})
            try:
                design = steps.send(gone)
            except StopIteration:
                return design, not np.isnan(known[design.chosen]).any()
        raise AssertionError("a design ends")

    def _known(self, pool: Pool, folder: Folder, gains: Mapping[str, float]) -> np.ndarray:
        """U float64: gains by the labels so far, NaN without one."""
        by_pair = worth(folder.labels(list(gains)), gains)
        pairs = pool.pairs.iter_rows()
        return np.array([by_pair.get((query, product), np.nan) for query, product in pairs])

    def _write(self, folder: Folder, pool: Pool, design: Design, data: Dataset) -> None:
        """Add the design's pairs that are no tasks yet."""
        there = {(task["query_id"], task["product_id"]) for task in folder.tasks()}
        queries = data.queries(self.split).frame.select("query_id", "text")
        texts = dict(queries.iter_rows())
        wanted = [
            (number, query, product)
            for number, (query, product) in enumerate(pool.pairs.iter_rows())
            if design.chosen[number] and (query, product) not in there
        ]
        if not wanted:
            return
        shown = _shown(data, {product for _, _, product in wanted})
        again = np.random.default_rng([self.seed, 1]).random(len(pool)) < self.repeats
        order = np.random.default_rng([self.seed, 2]).permutation(len(wanted))
        tasks = []
        for number, query, product in (wanted[place] for place in order):
            chance = float(design.chances[number])
            tasks.append(
                {
                    "query_id": query,
                    "product_id": product,
                    "query": texts[query],
                    **shown[product],
                    "chance": None if np.isnan(chance) else round(chance, 6),
                    "repeat": bool(again[number]),
                }
            )
        folder.add_tasks(tasks)
        print(f"{len(tasks)} pairs to judge: {folder.path / 'tasks.jsonl'}")

    def _served(self, folder: Folder, grades: list[str]) -> None:
        """The page, until every pair has a label."""
        import threading

        try:
            import uvicorn

            from neurosearch.annotation.service import Desk, application
        except ImportError:
            raise InputError(
                "task.port needs the page's server: install neurosearch[serve]"
            ) from None
        desk = Desk(folder, grades)
        config = uvicorn.Config(application(desk), "127.0.0.1", self.port or 0, log_level="warning")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            if not thread.is_alive():
                raise InputError(f"task.port={self.port}: the page can't be served there")
            time.sleep(0.02)
        place = server.servers[0].sockets[0].getsockname()[1]
        print(f"judge at http://127.0.0.1:{place}/ (Ctrl-C keeps all labels)", flush=True)
        try:
            while thread.is_alive() and not desk.is_done:
                time.sleep(0.2)
        finally:
            server.should_exit = True
            thread.join()
        if not desk.is_done:
            raise KeyboardInterrupt

    def _report(
        self,
        job: Job,
        folder: Folder,
        pool: Pool,
        design: Design | None,
        gains: Mapping[str, float],
    ) -> None:
        """Print, and write to the job's folder, what the labels say."""
        labels = folder.labels(list(gains))
        known = self._known(pool, folder, gains)
        done = int((~np.isnan(known)).sum())
        facts: dict[str, Any] = {"pool": len(pool), "labelled": done, "labels": len(labels)}
        print(f"{done} of {len(folder.tasks())} pairs have a label; the pool has {len(pool)} pairs")
        facts["agreement"] = agreement(labels, list(gains))
        for row in facts["agreement"]:
            print(f"  κ {row['kappa']:.3f} of {row['judges']} on {row['pairs']} pairs")
        if design is None:
            print("run it again when they are judged")
        else:
            found = estimates(pool, np.nan_to_num(known), design, self.annotation.is_assisted)
            facts["scores"] = self._scores(pool, found)
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / "annotation.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")

    def _scores(self, pool: Pool, found: Estimates) -> list[dict[str, Any]]:
        """The systems' scores and their differences, printed."""
        how = "DCG" if self.annotation.unbiased else "DCG, unjudged pairs worth nothing"
        print(f"  {how}@{self.depth}, gains of 0 to 1, {found.labels} labels:")
        rows: list[dict[str, Any]] = []
        for number, name in enumerate(pool.systems):
            wide = Z * float(np.sqrt(max(found.covariance[number, number], 0.0)))
            score = float(found.scores[number])
            rows.append({"system": name, "DCG": score, "wide": None if np.isnan(wide) else wide})
            told = "" if np.isnan(wide) else f" ± {wide:.3f}"
            print(f"  {name:>24}  {score:.3f}{told}")
        for a, b in itertools.combinations(range(len(pool.systems)), 2):
            gap, error = found.gap(a, b)
            if not np.isnan(error):
                print(f"  {pool.systems[b]} - {pool.systems[a]}: {gap:+.3f} ± {Z * error:.3f}")
        return rows


def _shown(data: Dataset, products: set[str]) -> dict[str, dict[str, str | None]]:
    """Title, brand and the beginning of a text of products."""
    found = {}
    for frame in data.catalogue.batches(("product_id", "title", "brand", "bullets", "description")):
        for row in frame.iter_rows(named=True):
            if row["product_id"] in products:
                text = row["bullets"] or row["description"] or ""
                found[row["product_id"]] = {
                    "title": row["title"],
                    "brand": row["brand"],
                    "text": text[:TEXT],
                }
    return found
