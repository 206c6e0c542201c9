"""SIMULATED shoppers with tastes: what they ask, when, and which of the fitting products they buy.

Every shopper has a favourite brand in each department and two favourite colours. A product that
fits what is asked is bought with a chance proportional to popularity^fame, times e^(3 t) for a
favourite brand and e^(3 t) for a favourite colour, where t is the strength of taste. With t = 0 the
histories say nothing of the next purchase, and with fame = 0 nobody's do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from neurosearch.core.errors import InputError
from neurosearch.core.query import TURN
from neurosearch.data.simulation.products import Codes
from neurosearch.data.simulation.queries import Intent, label
from neurosearch.data.simulation.world import World

FACETS = ("colour", "material", "size", "pattern")
FEWEST = 4  # products that fit, for a query to leave a choice
PULL = 3.0  # of a favourite, at full strength of taste
DAYS_APART = 7.0  # mean between two searches of a shopper
LONGEST = 20  # searches of a shopper
AGAIN = 0.8  # chance of another search


@dataclass(frozen=True)
class Asked:
    """What can be asked.

    Attributes:
        text: of the query.
        kind: of the query.
        rows: products that fit it.
        before, after: the same in two turns; '' where it has no two.
    """

    text: str
    kind: str
    rows: np.ndarray
    before: str
    after: str


def askable(world: World, codes: Codes, frame: pl.DataFrame, intents: list[Intent]) -> list[Asked]:
    """The queries that leave a choice.

    Args:
        world: of the shop.
        codes: of its products.
        frame: of the shop's queries.
        intents: in the order of the queries.

    Returns:
        One entry a query with FEWEST fitting products or more.

    Raises:
        InputError: there are fewer than ten.
    """
    everything, found = np.arange(len(codes)), []
    for (text, kind), intent in zip(frame.select("text", "kind").iter_rows(), intents, strict=True):
        rows = np.flatnonzero(label(world, codes, everything, intent) == 3)
        if len(rows) >= FEWEST:
            found.append(Asked(text, kind, rows, *_in_turns(world, intent)))
    if len(found) < 10:
        raise InputError(
            f"data.n_products and data.n_queries: {len(found)} queries leave shoppers a choice, "
            "and 10 are needed"
        )
    return found


def _in_turns(world: World, intent: Intent) -> tuple[str, str]:
    """The type first, and its one constraint afterwards."""
    wants = [name for name in intent.wants if name in FACETS]
    if len(intent.wants) != 1 or len(wants) != 1 or intent.without >= 0:
        return "", ""
    groups = dict(zip(FACETS, (world.colours, world.materials, world.sizes, world.patterns),
                      strict=True))  # fmt: skip
    word = groups[wants[0]][intent.wants[wants[0]]].words[0].lower()
    joined = {"colour": f"in {word}", "material": f"made of {word}"}.get(wants[0], f"{word} one")
    return world.types[intent.type].concept.words[0].lower(), joined


def simulate(
    world: World,
    codes: Codes,
    asked: list[Asked],
    seed: int,
    users: int,
    taste: float,
    follow_ups: float,
    fame: float,
) -> pl.DataFrame:
    """Searches and purchases.

    Args:
        world: of the shop.
        codes: of its products.
        asked: what can be asked.
        seed: of all draws.
        users: how many shoppers.
        taste: t, its strength.
        follow_ups: share of the searches in two turns, where a query has two.
        fame: exponent of a product's popularity.

    Returns:
        `user`, `place` (from 0), `day`, `text`, `kind`, `follow_up`, `row` (bought); in the order
        of users and days.
    """
    rng = np.random.default_rng([seed, 7])
    brands = favourite_brands(world, users, rng)
    colours = rng.integers(len(world.colours), size=(users, 2))
    counts = np.minimum(rng.geometric(1 - AGAIN, size=users), LONGEST)
    department = np.array([world.departments.index(t.department) for t in world.types])
    known = fame * np.log(codes.popularity.astype(np.float64))
    in_department = department[codes.type]
    rows: list[tuple[Any, ...]] = []
    for user in range(users):
        day = float(rng.uniform(0, 60))
        likes = known + taste * PULL * (
            (codes.brand == brands[user][in_department]).astype(np.float64)
            + np.isin(codes.colour, colours[user])
        )
        for place in range(counts[user]):
            day += float(rng.exponential(DAYS_APART))
            one = asked[rng.integers(len(asked))]
            chances = np.exp(likes[one.rows] - likes[one.rows].max())
            bought = int(rng.choice(one.rows, p=chances / chances.sum()))
            follows = bool(one.before) and rng.random() < follow_ups
            text = f"{one.before} {TURN} {one.after}" if follows else one.text
            rows.append((user, place, day, text, one.kind, follows, bought))
    names = ("user", "place", "day", "text", "kind", "follow_up", "row")
    return pl.DataFrame(rows, names, orient="row")


def favourite_brands(world: World, users: int, rng: np.random.Generator) -> np.ndarray:
    """A brand of each department, among those at home in it.

    Args:
        world: of the shop.
        users: how many shoppers.
        rng: of the draws.

    Returns:
        U×departments int64.
    """
    found = np.zeros((users, len(world.departments)), dtype=np.int64)
    for number in range(len(world.departments)):
        home = np.flatnonzero(world.home == number)
        found[:, number] = rng.choice(home if len(home) else len(world.brands), size=users)
    return found
