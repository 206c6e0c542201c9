"""The profile's counts, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurosearch.core.runtime import Runtime
from neurosearch.data.beir import Beir
from neurosearch.data.profile import profile
from neurosearch.evaluation.opened import opened


def test_counts_by_hand(tmp_path: Path, runtime: Runtime) -> None:
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text(
        '{"_id": "a", "title": "Red mug", "text": ""}\n'
        '{"_id": "b", "title": "Blue travel mug", "text": "steel"}\n'
    )
    (folder / "queries.jsonl").write_text(
        '{"_id": "q", "text": "red cup"}\n{"_id": "r", "text": "blue mug"}\n'
    )
    (folder / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\nq\ta\t2\nq\tb\t0\nr\tb\t2\n"
    )
    found = profile(opened(runtime.get(Beir(path=str(folder)).dataset())))
    assert found["products"] == 2 and found["title_words"] == {2: 1, 3: 1}
    (split,) = found["splits"].values()
    assert split["queries"] == 2 and split["judgments"] == 3
    assert split["labels"] == {"0": 1, "2": 2}
    assert split["query_words"] == {2: 2} and split["judged"] == {1: 1, 2: 1}
    assert split["gap"] == pytest.approx(1 / 4)  # of red, cup, blue, mug only cup is nowhere
    assert found["fields"]["title"] == 1 and found["fields"]["description"] == 0.5
