"""A trial on served systems: who sees which system, or both of them mixed, and what is logged.

Callers are assigned by a salted hash of their `client_id`; without one, or with `system`, a request
is not part of the trial. The query log keeps the trial's name, and the arm (`ab`) or the credit of
every shown product (`interleaving`), which is all that `task=trial task.log=…` needs. The same
caller gets the same mixed list for the same words. A mixed answer has one page.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.recipe import Recipe
from neurosearch.interleaving.base import Interleaving
from neurosearch.interleaving.optimized import Optimized
from neurosearch.interleaving.probabilistic import Probabilistic
from neurosearch.interleaving.team_draft import TeamDraft
from neurosearch.trial.assignment import arm

KINDS = ("ab", "interleaving")
LONGEST = 10  # products of a mixed list


@dataclass(frozen=True)
class ServedTrial(Recipe):
    """Attributes:
    salt: of the assignment, and the trial's name in the log.
    kind: `ab`: each caller sees one system; `interleaving`: all see both, mixed.
    systems: two names, the control first; None for the first two that are served.
    shares: of the callers in each arm; the rest sees the control and is not part of the trial.
    interleaving: the method, of those whose clicks have credits.
    """

    salt: str
    kind: str = setting("ab", choices=KINDS)
    systems: tuple[str, ...] | None = None
    shares: tuple[float, ...] = (0.5, 0.5)
    interleaving: Interleaving = field(default_factory=TeamDraft)

    def __post_init__(self) -> None:
        super().__post_init__()
        arm(self.salt, "a caller", self.shares)  # names what is wrong with either
        if len(self.shares) != 2:
            raise self.error("shares", f"must be two numbers, not {list(self.shares)}")
        if not isinstance(self.interleaving, TeamDraft | Probabilistic | Optimized):
            raise self.error("interleaving", "must be team_draft, probabilistic or optimized here")

    def names(self, served: Mapping[str, Any]) -> tuple[str, str]:
        """The two systems.

        Args:
            served: systems by name.

        Returns:
            Control and treatment.

        Raises:
            InputError: there are not two of these names.
        """
        names = tuple(served)[:2] if self.systems is None else self.systems
        missing = [name for name in names if name not in served]
        if len(names) != 2 or missing or names[0] == names[1]:
            known = ", ".join(served)
            raise InputError(
                f"task.server.trial.systems must name two of the served systems ({known}), not "
                f"{list(names)}"
            )
        return names[0], names[1]

    def facts(self, names: tuple[str, str]) -> dict[str, Any]:
        """What the log says of the trial itself, so that its score needs nothing else.

        Args:
            names: control and treatment.

        Returns:
            Name, systems, shares, and whether clicks have shares of credit.
        """
        return {
            "trial": self.salt,
            "systems": list(names),
            "shares": list(self.shares),
            "shares_credit": self.interleaving.shares_credit,
        }

    def arm_of(self, client: str) -> int:
        """The arm of a caller: 0, 1, or -1 for none.

        Args:
            client: as it names itself.

        Returns:
            The arm's number.
        """
        return arm(self.salt, client, self.shares)

    def mixed(
        self, client: str, text: str, first: list[str], second: list[str], k: int
    ) -> tuple[list[str], list[float]]:
        """One list of two.

        Args:
            client: who asks.
            text: of the query.
            first: product ids of the control, best first.
            second: of the other system.
            k: products that are shown.

        Returns:
            Product ids, and what a click on each is worth: above 0 for the second system.
        """
        numbers = {name: number for number, name in enumerate(dict.fromkeys([*first, *second]))}
        names = list(numbers)
        lists = np.full((2, min(k, LONGEST)), -1, dtype=np.int64)
        for side, products in enumerate((first, second)):
            own = [numbers[name] for name in products[: lists.shape[1]]]
            lists[side, : len(own)] = own
        seed = hashlib.blake2b(json.dumps([self.salt, client, text]).encode(), digest_size=8)
        rng = np.random.default_rng(int.from_bytes(seed.digest(), "big"))
        drawn = self.interleaving.mixed(lists[0], lists[1], 1, rng)
        there = drawn.lists[0] >= 0
        shown = [names[number] for number in drawn.lists[0][there]]
        return shown, [round(float(x), 9) for x in drawn.credits[0][there]]
