"""What is said of overrides that Hydra refuses."""

from __future__ import annotations

from neurosearch.task.hints import plain
from tests.commands import run


def test_a_part_beside_a_sweep_over_its_holders() -> None:
    """Hydra composes without the swept groups first; the message says how to put it."""
    done = run(["-m", "retriever=engine/words,engine/vectors", "engine@retriever.engine=postgres"])
    assert done.returncode == 1
    assert "say 'engine@retriever.engine=choice(postgres)'" in done.stderr


def test_a_key_of_a_swept_group() -> None:
    """The first of its choices has the key, so it is the sweep that is in the way."""
    swept = "retriever=dense/finetuned,dense/combined"
    done = run(["-m", swept, "retriever.encoder.fields=[title]"])
    assert done.returncode == 1
    wanted = "say 'retriever.encoder.fields=choice([title])' where all of them have it"
    assert f"beside a sweep over {swept}, {wanted}" in done.stderr


def test_a_choice_like_none_is_not_told_all_variants() -> None:
    message = "Could not find 'retriever/qqqq'\n\nAvailable options in 'retriever':"
    told = plain(message, ["retriever=qqqq"])
    assert told.startswith("retriever=qqqq: no such choice; there are bm25, bm25_tuned, by_locale")
    assert told.endswith(", and variants of some") and "/" not in told


def test_members_are_added_by_name() -> None:
    done = run(["retriever=hybrid", "retriever.members={third: 1}"])
    assert done.returncode == 1
    assert "retriever.members has sparse, dense: +retriever.members.name=… adds" in done.stderr
