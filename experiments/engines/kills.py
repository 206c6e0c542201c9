"""kill -9 during loads and searches: what is there afterwards, and are answers right?

Run: python experiments/engines/kills.py 100 (writes results/kills.md and .csv)

A process loads a planted catalogue in small batches, or searches it, and is killed at a random
moment of its work; of PostgreSQL, every second time the server is killed as well. Then the
generation is opened again: every product that it says it has must have its words, its vector and
its fields; the load is completed, and the answers are compared with exact ones. A wrong answer is a
list with a wrong score, a product twice, one that does not pass the filter, or without one of the
ten best.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from neurosearch.core.machine import git_commit, hardware
from neurosearch.core.runtime import Runtime
from neurosearch.engine.base import Asked, Collection, Engine, Shape
from neurosearch.engine.conformance.world import FIELDS, PRODUCTS, TERMS, WIDTH, World
from neurosearch.engine.files import folder_of, name_of, owner_of
from neurosearch.engine.generation import load
from neurosearch.engine.postgres import Postgres
from neurosearch.engine.qdrant_edge import QdrantEdge

ENGINES: dict[str, Engine] = {"Qdrant Edge": QdrantEdge(), "PostgreSQL": Postgres()}
BATCH = 20
LONGEST = {"Qdrant Edge": 1.0, "PostgreSQL": 0.5}  # seconds of work before a kill
SHAPE = Shape(TERMS, WIDTH, FIELDS)
RESULTS = Path(__file__).with_name("results")


def work(title: str, outputs: Path, name: str, phase: str, begun: Any) -> None:
    """What is killed: a load, or searches without end; `begun` is set when it is at work."""
    world = World.drawn()
    with ENGINES[title].session(Runtime(outputs, progress=False)) as session:
        collection = session.collection(name, SHAPE)
        while phase == "search":
            collection.search(Asked(10, world.asked, world.queries))
            begun.set()
        collection.create()
        begun.set()
        complete(collection, world)


def complete(collection: Collection, world: World) -> None:
    """Load what is missing, and build the indexes."""
    collection.create()
    for start in range(0, PRODUCTS, BATCH):
        load(collection, world.batch(np.arange(start, start + BATCH)))
    collection.finish()


def wrong(collection: Collection, world: World, there: np.ndarray) -> int:
    """Lists that are wrong, of the products that are there."""
    faults = 0
    red = world.passing(lambda one: one["colour"] == "red")
    words = Asked(10, words=world.asked)
    vectors = Asked(10, vectors=world.queries)
    filters = {"colour": ["red"]}
    for asked, exact in ((words, world.hits), (vectors, world.vector_scores)):
        for one, allowed in ((asked, there), (replace(asked, filters=filters), there & red)):
            best = np.where(allowed, exact, -np.inf)
            numbers, scores = collection.search(one)
            for place, found in enumerate(numbers):
                given = found[found >= 0]
                expected = np.sort(best[place])[::-1][:10]
                expected = expected[np.isfinite(expected)]
                right = len(given) == len(expected) == len(np.unique(given))
                right = right and bool(
                    np.allclose(scores[place, : len(given)], expected, rtol=1e-4)
                )
                right = right and bool(np.allclose(best[place, given], expected, rtol=1e-4))
                faults += not right
    return faults


def server_of(outputs: Path) -> int | None:
    """The process of PostgreSQL's server."""
    path = folder_of(Runtime(outputs), "postgres") / "postmaster.pid"
    return int(path.read_text(encoding="ascii").split()[0]) if path.exists() else None


def killed(title: str, outputs: Path, number: int, rng: Any, longest: float) -> dict[str, Any]:
    """One kill, and what was found after it."""
    world, runtime = World.drawn(), Runtime(outputs, progress=False)
    phase = ("load", "search")[number % 2]
    name = name_of(owner_of(runtime), f"{number - number % 2:024x}")  # searched after its load
    context = multiprocessing.get_context("forkserver")
    begun = context.Event()
    process = context.Process(target=work, args=(title, outputs, name, phase, begun))
    process.start()
    begun.wait(60)
    time.sleep(float(rng.uniform(0, longest)))
    server = server_of(outputs) if title == "PostgreSQL" and number % 4 > 1 else None
    assert process.pid is not None
    alive = process.is_alive()
    if alive:
        os.kill(process.pid, signal.SIGKILL)
    if server is not None:
        os.kill(server, signal.SIGKILL)
    process.join()
    with ENGINES[title].session(runtime) as session:
        collection = session.collection(name, SHAPE)
        numbers = np.arange(PRODUCTS)
        count = collection.count()
        there = collection.has(numbers) if count else np.zeros(PRODUCTS, dtype=bool)
        partly = wrong(collection, world, there) if count else 0
        lost = phase == "search" and count != PRODUCTS
        complete(collection, world)
        whole = wrong(collection, world, np.ones(PRODUCTS, dtype=bool))
        row = {
            "engine": title,
            "phase": phase,
            "killed": alive,
            "server killed": server is not None,
            "products found": count,
            "counted wrongly": int(count != there.sum()) + int(lost),
            "wrong lists": partly + whole,
            "lists": 4 * len(world.queries) * (1 + bool(count)),
        }
        if phase == "search":
            session.drop(name)
    return row


def main(arguments: Sequence[str]) -> None:
    """Kill, look, and write the table."""
    kills = int(arguments[0]) if arguments else 100
    rows = []
    for title in ENGINES:
        rng = np.random.default_rng(0)
        outputs = Path(tempfile.mkdtemp())
        for number in range(kills):
            rows.append(killed(title, outputs, number, rng, LONGEST[title]))
            print(number, rows[-1], flush=True)
    frame = pl.DataFrame(rows)
    table = frame.group_by("engine", "phase", maintain_order=True).agg(
        pl.len().alias("kills"),
        pl.col("killed").sum().alias("while it ran"),
        pl.col("server killed").sum().alias("with the server"),
        pl.col("products found").median().alias("products found, median"),
        pl.col("counted wrongly", "wrong lists", "lists").sum(),
    )
    RESULTS.mkdir(exist_ok=True)
    frame.write_csv(RESULTS / "kills.csv")
    text = f"## kill -9 during loads and searches\n\n| {' | '.join(table.columns)} |\n|:---|:---|"
    text += "---:|" * (len(table.columns) - 2) + "\n"
    text += "".join(f"| {' | '.join(map(str, row))} |\n" for row in table.iter_rows())
    text += f"\nA planted catalogue of {PRODUCTS:,} products in batches of {BATCH}. Hardware: "
    text += f"{hardware()}. Commit: {git_commit()}. Command: python experiments/engines/kills.py "
    text += f"{kills}\n"
    (RESULTS / "kills.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
