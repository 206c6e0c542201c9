"""kill -9 during loads and searches: nothing half-written is left, and answers are right."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "engines" / "kills.py"


@pytest.fixture(scope="module")
def kills() -> Any:
    spec = importlib.util.spec_from_file_location("kills", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kills"] = module  # processes that it starts find their function there
    sys.path.insert(0, str(SCRIPT.parent))
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(SCRIPT.parent))


@pytest.mark.parametrize("title", ["Qdrant Edge", "PostgreSQL"])
def test_killed(title: str, kills: Any, tmp_path: Path) -> None:
    """Four kills, of PostgreSQL two with its server."""
    rng = np.random.default_rng(1)
    rows = [kills.killed(title, tmp_path, number, rng, 0.4) for number in range(4)]
    assert any(row["killed"] for row in rows)
    assert sum(row["server killed"] for row in rows) == (2 if title == "PostgreSQL" else 0)
    assert all(row["wrong lists"] == row["counted wrongly"] == 0 for row in rows), rows


def test_wrong_lists_are_counted(kills: Any) -> None:
    """A search that gives other products is noticed."""
    world = kills.World.drawn()

    class Wrong:
        def search(self, asked: Any) -> Any:
            count = len(world.queries)
            return np.tile(np.arange(10), (count, 1)), np.ones((count, 10), np.float32)

    there = np.ones(kills.PRODUCTS, dtype=bool)
    assert kills.wrong(Wrong(), world, there) == 4 * len(world.queries)
