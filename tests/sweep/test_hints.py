"""What is said of overrides that Hydra refuses."""

from __future__ import annotations

from tests.commands import run


def test_a_part_beside_a_sweep_over_its_holders() -> None:
    """Hydra composes without the swept groups first; the message says how to put it."""
    done = run(["-m", "retriever=engine/words,engine/vectors", "engine@retriever.engine=postgres"])
    assert done.returncode == 1
    assert "say 'engine@retriever.engine=choice(postgres)'" in done.stderr
