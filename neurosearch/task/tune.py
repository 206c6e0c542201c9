"""`task=tune`: the cheapest index that finds enough of the nearest products, within a budget.

Dev queries choose (text queries are not distributed as products are, so products never do); the
test queries are asked once, at the end. Recipes are screened on an eighth of the catalogue, the
best three and exact search are built whole, and what is accurate enough is timed in turns. What was
built is an artifact: a run that was stopped resumes.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.machine import git_commit, hardware, log
from neurosearch.core.store import write_whole
from neurosearch.core.types import SPLITS
from neurosearch.index import tuning
from neurosearch.index.base import Index
from neurosearch.index.exact import Exact
from neurosearch.index.flat import Flat
from neurosearch.index.live import LiveIndex
from neurosearch.index.tuning import Seen
from neurosearch.report import charts as vega
from neurosearch.report.charts import library
from neurosearch.report.pages import rendered
from neurosearch.retriever.dense import Dense
from neurosearch.task.base import Job, Task

TEMPLATE = Path(vega.__file__).with_name("tune.html.j2")
SCREENED = 8  # of so many products, one is in the catalogue that families are screened on
KEPT = 3  # recipes that are built whole
NEAR = 1.6  # times the cheapest's cost there, up to which a recipe is
FLAT_QUERIES = 210
MINIMISED = ("p50 ms", "bytes", "build s")
FINALISTS = 8


@dataclass(frozen=True)
class Tuned:
    """Attributes:
    chosen: the point that was taken; `index` composes it.
    live: the chosen index.
    points: all that were tried.
    seconds: that it took.
    """

    chosen: dict[str, Any]
    live: LiveIndex
    points: list[dict[str, Any]]
    seconds: float


@dataclass(frozen=True)
class Tune(Task):
    """Attributes:
    target: recall@k that the lower bound (95 %, one-sided) over dev queries must reach.
    k: nearest products.
    minimise: `p50 ms`, `bytes` (a product) or `build s`.
    p99_ms, bytes_per_product: limits of what may be chosen; None for none.
    families: that are tried.
    budget_seconds: after which no further index is built.
    queries: of dev, at most.
    seed: of k-means, bootstrap and turns.
    """

    target: float = setting(0.95, above=0, most=1)
    k: int = setting(10, least=1)
    minimise: str = setting("p50 ms", choices=MINIMISED)
    p99_ms: float | None = setting(None, above=0)
    bytes_per_product: float | None = setting(None, above=0)
    families: tuple[str, ...] = tuning.FAMILIES
    budget_seconds: float = setting(900.0, above=0)
    queries: int = setting(2_000, least=20)
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        strange = [name for name in self.families if name not in tuning.FAMILIES]
        if strange:
            known = ", ".join(tuning.FAMILIES)
            raise self.error("families", f"has {strange[0]!r}; known are {known}")

    def run(self, job: Job) -> None:
        self._report(job, self.tuned(job))

    def tuned(self, job: Job) -> Tuned:
        """Find the index.

        Args:
            job: with `retriever=dense`, whose encoder's vectors are indexed.

        Returns:
            What was tried, and what was chosen.

        Raises:
            InputError: another retriever, no dev queries, or no index within the limits.
        """
        dense = job.retriever
        if not isinstance(dense, Dense):
            raise InputError(f"task=tune needs retriever=dense, not {dense.label()}")
        start = time.monotonic()
        exact, test = self._asked(job, dense)
        points: list[dict[str, Any]] = []
        finalists: list[tuple[Seen, LiveIndex]] = []
        embeddings = dense.encoder.product_embeddings(job.dataset)
        for family, recipe in [("flat", Flat()), *self._screened(exact)]:
            if time.monotonic() - start > self.budget_seconds and family != "flat":
                spent = f"the budget of {self.budget_seconds:.0f} s is spent"
                log.info("%s: %s is left out", spent, overrides_of(recipe))
                continue
            artifact = recipe.build(embeddings)
            live = job.runtime.get(artifact)
            manifest = job.runtime.store.manifest(artifact)
            assert manifest is not None
            size = sum(entry[0] for entry in manifest["files"].values()) / len(exact.products)
            facts = {"family": family, "bytes": size, "build s": manifest["seconds"]}
            least = tuning.least_of(recipe, live, exact, self.target, self.seed)
            points += [{**facts, **_described(one)} for one in least.tried]
            for best in least.found:
                searched = best.recipe.live(live.index, live.encoder, live.rows)
                finalists.append((best, searched))
        chosen = self._chosen(exact, test, points, finalists)
        live = next(
            live for best, live in finalists if overrides_of(best.recipe) == chosen["index"]
        )
        return Tuned(chosen, live, points, time.monotonic() - start)

    def _asked(self, job: Job, dense: Dense) -> tuple[Exact, Exact | None]:
        """Exact answers of dev queries, and of test queries where there are any."""
        data = job.runtime.get(job.dataset)
        products = job.runtime.get(dense.encoder.product_embeddings(job.dataset)).vectors
        found: list[Exact | None] = []
        for split in SPLITS[1:]:
            if not data.has(split):
                found.append(None)
                continue
            embedded = dense.encoder.query_embeddings(job.dataset, split, job.processing)
            vectors = np.asarray(job.runtime.get(embedded).vectors, dtype=np.float32)
            some = vectors[:: max(1, -(-len(vectors) // self.queries))]
            found.append(Exact.of(some, products, min(self.k, len(products))))
        if found[0] is None:
            raise InputError("task=tune chooses by dev queries, and the data has none")
        return found[0], found[1]

    def _screened(self, exact: Exact) -> list[tuple[str, Index]]:
        """The recipes to build, by what they cost on an eighth of the catalogue.

        All variants of all families are built there, but for OPQ, whose training takes as long on
        an eighth: a random rotation stands in for it. What costs less than NEAR times the cheapest
        is built whole, KEPT at most.
        """
        rows = np.random.default_rng(self.seed).permutation(len(exact.products))
        some = np.sort(rows[: max(1_000, len(rows) // SCREENED)])
        small = Exact.of(exact.queries[::4], exact.products[some], exact.k)
        shape, best = exact.products.shape, {}
        for family in (name for name in self.families if name != "flat"):
            pairs = zip(
                tuning.variants(family, len(some), shape[1], self.seed),
                tuning.variants(family, shape[0], shape[1], self.seed),
                strict=True,
            )
            for recipe, whole in pairs:
                size = whole.bytes_a_vector(*shape)
                if self.bytes_per_product is not None and size > self.bytes_per_product:
                    told = f"{size:.0f} bytes a product, {self.bytes_per_product:.0f} are allowed"
                    log.info("left out: %s (%s)", overrides_of(whole), told)
                    continue
                start = time.perf_counter()
                quick = tuning.quick(recipe)
                live = quick.live(quick.filled(small.products), "screen")
                built = time.perf_counter() - start
                found = tuning.least_of(quick, live, small, self.target, self.seed).found
                if not found:
                    log.info("screened %s: misses the target", overrides_of(recipe))
                    continue
                cheap = min(found, key=lambda one: one.compared)
                one = cheap.recipe.live(live.index, "screen")
                timed = tuning.timings([one], small.queries[:210], exact.k, self.seed)[0]
                # What it would be on the whole catalogue: graphs grow slower than lists and scans.
                growth = tuning.growth(recipe, len(some), shape[0])
                cost = {"p50 ms": growth * timed["p50 ms"], "build s": built}
                cost["bytes"] = size
                best[family, whole] = cost[self.minimise]
                log.info("screened %s: %.3g", overrides_of(whole), cost[self.minimise])
        # An eighth does not tell variants of one family apart: all of the cheapest family's are
        # built, and of another family its cheapest alone.
        order = sorted(best, key=lambda key: best[key])
        seen_families: set[str] = set()
        for key in list(order):
            if key[0] in seen_families and key[0] != order[0][0]:
                order.remove(key)
            seen_families.add(key[0])
        near = [key for key in order if best[key] <= NEAR * best[order[0]]]
        return near[:KEPT] if self.minimise != "bytes" else order[:KEPT]

    def _chosen(
        self,
        exact: Exact,
        test: Exact | None,
        points: list[dict[str, Any]],
        finalists: list[tuple[Seen, LiveIndex]],
    ) -> dict[str, Any]:
        """Time the finalists, take the cheapest within the limits, ask the test queries once."""
        within = [
            pair
            for pair in finalists[1:]
            if self.bytes_per_product is None
            or pair[0].recipe.bytes_a_vector(*exact.products.shape) <= self.bytes_per_product
        ]
        cheap = sorted(within, key=lambda pair: pair[0].compared)[: FINALISTS - 1]
        taken = [*finalists[:1], *cheap]
        # Exact search is timed on fewer queries: it takes most of the time, and varies least.
        few = exact.queries[:: max(1, len(exact.queries) // FLAT_QUERIES)]
        timed = tuning.timings([taken[0][1]], few, exact.k, self.seed)
        timed += tuning.timings([live for _, live in cheap], exact.queries, exact.k, self.seed)
        for times in timed:
            times["times flat"] = timed[0]["p50 ms"] / times["p50 ms"]
        rows = []
        for (best, live), times in zip(taken, timed, strict=True):
            place = next(p for p in points if p["index"] == overrides_of(best.recipe))
            place |= times
            held = None
            if test is not None:
                found, _ = live.nearest(test.queries, test.k)
                held = float(test.recall(found).mean())
            place["test recall"] = held
            rows.append(place)
        good = [
            row
            for row in rows
            if (self.p99_ms is None or row["p99 ms"] <= self.p99_ms)
            and (self.bytes_per_product is None or row["bytes"] <= self.bytes_per_product)
        ]
        if not good:
            least = min(rows, key=lambda row: row["p99 ms"])
            limits = f"task.p99_ms={self.p99_ms}, task.bytes_per_product={self.bytes_per_product}"
            raise InputError(
                f"no index that was built within task.budget_seconds={self.budget_seconds:g} "
                f"reaches the target and keeps {limits}: the fastest has p99 "
                f"{least['p99 ms']:.3g} ms and {least['bytes']:.0f} bytes a product"
            )
        return min(good, key=lambda row: (row[self.minimise], row["bytes"]))

    def _report(self, job: Job, tuned: Tuned) -> None:
        chosen, points, seconds = tuned.chosen, tuned.points, tuned.seconds
        # Settings of tasks are no part of a job's folder: two targets must not share a page.
        own = [(s.name, getattr(self, s.name)) for s in fields(self) if s.name != "seed"]
        words = [f"{name}={value}" for name, value in own if value != _usual(name)]
        name = re.sub(r"[^\w.,=+-]", "_", ",".join(words)) or "default"
        folder = job.folder / "tune" / name[:120]
        folder.mkdir(parents=True, exist_ok=True)
        frame = pl.DataFrame(points, infer_schema_length=None).sort("recall", descending=True)
        write_whole(folder / "points.csv", frame.write_csv(float_precision=4).encode())
        report = {"chosen": chosen, "target": self.target, "seconds": round(seconds, 1)}
        report |= {"hardware": hardware(), "commit": git_commit(), "points": points}
        write_whole(folder / "report.json", json.dumps(report, indent=1).encode())
        write_whole(folder / "index.html", page(report, job.data.label(), self.k).encode())
        timed = [row for row in points if "p50 ms" in row]
        for row in sorted(timed, key=lambda row: row["p50 ms"]):
            held = "" if row["test recall"] is None else f"  test {row['test recall']:.3f}"
            print(
                f"{row['p50 ms']:8.3f} ms  p99 {row['p99 ms']:7.3f}  recall {row['recall']:.3f} "
                f"(at least {row['low']:.3f}){held}  {row['bytes']:7.0f} B  {row['index']}"
            )
        print(f"chosen: {chosen['index']}")
        faster = f"{chosen['times flat']:.1f} times as fast as exact search"
        print(f"{len(points)} points in {seconds:.0f} s; {faster}")
        job.runtime.say(f"to look at: {folder / 'index.html'}")


def _usual(name: str) -> Any:
    return next(spec.default for spec in fields(Tune) if spec.name == name)


def _described(one: Seen) -> dict[str, Any]:
    found = {"index": overrides_of(one.recipe), "recall": one.recall, "low": one.low}
    return {**found, "compared": one.compared}


def overrides_of(recipe: Index, place: str = "retriever.index") -> str:
    """The words that compose an index on the command line.

    Args:
        recipe: of the index.
        place: where it goes.

    Returns:
        Overrides; fields with their default values are left out.
    """
    name = type(recipe).__module__.rpartition(".")[2]
    words = [f"index@{place}={name}"]
    for spec in fields(recipe):
        value = getattr(recipe, spec.name)
        if isinstance(value, Index):
            words.append(overrides_of(value, f"{place}.{spec.name}"))
        elif value != spec.default:
            words.append(f"{place}.{spec.name}={value}")
    return " ".join(words)


def page(report: Mapping[str, Any], data: str, k: int) -> str:
    """The points as a page with charts.

    Args:
        report: see `Tune`.
        data: its name.
        k: of the recall.

    Returns:
        HTML that needs no network.
    """
    points = report["points"]
    timed = [row for row in points if "p50 ms" in row]
    charts = [
        chart(points, "compared", "vectors compared", k),
        chart(timed, "p50 ms", "milliseconds of a query (one thread)", k),
        chart(points, "bytes", "bytes a product", k),
    ]
    # Nothing in a script element may look like a tag.
    drawn = json.dumps(charts).replace("<", "\\u003c")
    facts = {"chosen": report["chosen"], "hardware": report["hardware"]}
    return rendered(TEMPLATE, **facts, data=data, k=k, charts=drawn, library=library())


def chart(values: list[dict[str, Any]], field: str, title: str, k: int) -> dict[str, Any]:
    """Recall against a cost, as a Vega-Lite specification.

    Args:
        values: points.
        field: of the cost.
        title: of its axis.
        k: of the recall.

    Returns:
        The specification.
    """
    family = {"field": "family", "type": "nominal"}
    cost = {"field": field, "type": "quantitative", "title": title, "scale": {"type": "log"}}
    recall = {"field": "recall", "type": "quantitative", "title": f"recall@{k}"}
    shown = ("index", "recall", field, "bytes", "build s")
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": "container",
        "height": 300,
        "description": f"recall@{k} against {title}",
        "data": {"values": values},
        "mark": {"type": "point", "filled": True, "size": 70, "tooltip": True},
        "encoding": {
            "x": cost,
            "y": {**recall, "scale": {"zero": False}},
            "color": family,
            "shape": family,
            "tooltip": [{"field": name, "type": "nominal"} for name in dict.fromkeys(shown)],
        },
    }
