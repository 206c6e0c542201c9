"""The simulated shop's sessions: position-biased clicks and co-purchases.

A shopper asks a train query (dev and test queries never appear, so behaviour leaks nothing),
sees ten products ranked by a noisy engine, looks at position p with chance 1/p^0.7 and clicks
by label: E .8, S .3, C .1, I .02. Half of the clicks on E end in a purchase, and
a third of the purchases bring an accessory along.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from neurosearch.data.simulation.products import Codes
from neurosearch.data.simulation.queries import LABELS
from neurosearch.data.simulation.world import World

CLICK = {"E": 0.8, "S": 0.3, "C": 0.1, "I": 0.02}
SHOWN = 10


def simulate(
    world: World,
    codes: Codes,
    by_type: list[np.ndarray],
    judged: dict[str, tuple[np.ndarray, np.ndarray]],
    ids: pl.Series,
    seed: int,
    count: int,
) -> pl.DataFrame:
    """Events of `count` sessions: session, step, query_id, product_id, event, position.

    `judged` maps train query ids to product rows and label numbers.
    """
    rng = np.random.default_rng([seed, 6])
    chance = np.array([CLICK[name] for name in LABELS])
    query_ids = list(judged)
    weights = 1 / np.arange(1, len(query_ids) + 1)
    queries = rng.choice(len(query_ids), count, p=weights / weights.sum())
    accessories = [
        np.concatenate([by_type[n] for n, t in enumerate(world.types) if t.accessory_of == number])
        if any(t.accessory_of == number for t in world.types)
        else np.empty(0, np.int64)
        for number in range(len(world.types))
    ]
    rows: list[tuple[int, int, str | None, int, str, int | None]] = []
    for session, query in enumerate(queries):
        query_id = query_ids[query]
        products, labels = judged[query_id]
        order = np.argsort(-(labels + rng.normal(0, 1.0, len(labels))), kind="stable")[:SHOWN]
        looked = rng.random(len(order)) < 1 / np.arange(1, len(order) + 1) ** 0.7
        clicked = looked & (rng.random(len(order)) < chance[labels[order]])
        step = 0
        for position, at in enumerate(order, 1):
            row, events = int(products[at]), ["impression"]
            if clicked[position - 1]:
                events.append("click")
                if LABELS[labels[at]] == "E" and rng.random() < 0.5:
                    events.append("purchase")
            for event in events:
                rows.append((session, step, query_id, row, event, position))
                step += 1
            extras = accessories[codes.type[row]]
            if "purchase" in events and len(extras) and rng.random() < 1 / 3:
                rows.append((session, step, None, int(rng.choice(extras)), "purchase", None))
                step += 1
    schema = {
        "session": pl.Int64,
        "step": pl.Int64,
        "query_id": pl.String,
        "row": pl.Int64,
        "event": pl.String,
        "position": pl.Int64,
    }
    frame = pl.DataFrame(rows, schema, orient="row")
    return frame.with_columns(ids.gather(frame["row"]).alias("product_id")).drop("row")
