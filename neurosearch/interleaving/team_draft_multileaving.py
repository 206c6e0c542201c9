"""Team-draft multileaving (Schuth et al. 2014): several captains choose in turns.

In every round the systems choose in a new random order, each its best product that is not shown
yet. A click counts for the system whose product it is. With two systems it is team draft.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.interleaving.multileaving import Multileaving, check_several


@dataclass(frozen=True)
class TeamDraftMultileaving(Multileaving):
    def mixed(self, lists: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        check_several(lists)
        systems, length = lists.shape
        found = np.full((count, length, 2), -1, dtype=np.int64)
        for line in range(count):
            shown: set[int] = set()
            place = 0
            while place < length:
                before = place
                for system in rng.permutation(systems):
                    left = [int(p) for p in lists[system] if p >= 0 and int(p) not in shown]
                    if left and place < length:
                        found[line, place] = left[0], system
                        shown.add(left[0])
                        place += 1
                if place == before:  # nobody has any more
                    break
        return found

    def preference(self, lists: np.ndarray, shown: np.ndarray, clicks: np.ndarray) -> np.ndarray:
        teams = shown[:, :, 1]
        counts = np.stack(
            [((teams == system) & clicks).sum(axis=1) for system in range(len(lists))], axis=1
        )
        found: np.ndarray = np.sign(counts[:, None, :] - counts[:, :, None]).astype(np.float64)
        return found
