"""experiments/changed.py: what it says is behind a table, and what of it an edit changes."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    import changed

    return changed


def test_each_value_of_a_sweep_is_composed(changed: ModuleType) -> None:
    from behind import jobs_of

    jobs = jobs_of({"retriever": "bm25,dense,codes", "evaluation.by": "past,day", "seed": "0,1,2"})
    assert [job[0] for job in jobs] == ["retriever=bm25", "retriever=dense", "retriever=codes"]
    assert {job[1] for job in jobs} == {"evaluation.by=past", "evaluation.by=day"}
    assert {job[2] for job in jobs} == {"seed=0"}


def test_a_script_rests_on_the_systems_that_it_composes(changed: ModuleType) -> None:
    behind = changed.of_script("experiments/holes/robustness.py")
    assert "neurosearch.evaluation.holes:hole_metrics" in behind.roots  # imported
    assert "neurosearch.retriever.multiphase:Multiphase" in behind.roots  # composed
    assert "conf/retriever/multiphase.yaml" in behind.files
    assert "experiments/holes/robustness.py" in behind.files


def test_an_edit_is_told_for_the_tables_that_rest_on_it(
    changed: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fused = changed.of_command(["-m", "experiment=fusion", "data=chorus"], "fusion", "")
    assert "conf/fusion/rrf.yaml" in fused.files and "conf/data/chorus.yaml" in fused.files
    words = changed.Behind({"neurosearch.retriever.bm25:BM25"}, {"conf/retriever/bm25.yaml"})
    tables = [
        changed.Published(Path("fused.md"), ("c",), fused),
        changed.Published(Path("words.md"), ("c",), words),
    ]

    def as_was(commit: str, tree: Path) -> bool:
        """An older tree: another sum, another config; other words of a docstring and a comment."""
        for name in ("neurosearch", "conf"):
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("*.pyc"))
        shutil.copy(ROOT / "constraints.txt", tree)
        rrf = tree / "neurosearch" / "fusion" / "rrf.py"
        summed = "weight / (self.k"
        assert summed in rrf.read_text()
        rrf.write_text(rrf.read_text().replace(summed, "2 * " + summed))
        bm25 = tree / "neurosearch" / "retriever" / "bm25.py"
        bm25.write_text(bm25.read_text().replace('"""', '"""Other words. ', 1))
        config = tree / "conf" / "fusion" / "rrf.yaml"
        config.write_text(config.read_text() + "\n# other words\n")
        (tree / "conf" / "data" / "chorus.yaml").write_text("other: 1\n")
        return True

    monkeypatch.setattr(changed, "as_was", as_was)
    now = changed.followed(ROOT, {*fused.roots, *words.roots})
    first, second = changed.compared("c", tables, now)
    assert first.changed == ["neurosearch.fusion.rrf:RRF", "conf/data/chorus.yaml"]
    assert second.changed == [] and second.reached > 10
    monkeypatch.setattr(changed, "HERE", Path())
    page = changed.page(changed.all_compared(tables))
    assert "Of 2 tables 1 have no part that changed." in page
    assert "| conf/data/chorus.yaml | 1 |" in page and "| fusion.rrf:RRF | 1 |" in page


def test_what_is_typed_counts_and_choices_in_the_names_of_joined_rows(changed: ModuleType) -> None:
    typed = ["-m", "name=clicks_dense", "data=shop", "retriever=dense,late_interaction", "seed=0,1"]
    behind = changed.of_command(typed, "clicks", "")
    assert "neurosearch.encoder.colbert.recipe:ColBERT" in behind.roots
    assert not any("lambdamart" in root for root in behind.roots)
    rows = ["BM25 (Lucene) + RM3 · retriever=feedback", "BM25"]
    joined = changed.of_command(["task=table", "name=x"], "intent", "", rows)
    assert "conf/retriever/feedback.yaml" in joined.files
    with pytest.raises(SystemExit, match="can't be composed today: retriever=absent"):
        changed.of_command(["-m", "retriever=absent"], "clicks", "")


def test_a_module_that_a_script_imports_counts_by_what_is_used_of_it(changed: ModuleType) -> None:
    roots = changed.of_script("experiments/ann/peers.py").roots
    assert "neurosearch.index.tuning:efforts" in roots  # tuning.efforts(…)
    assert "experiments/ann/vectors.py" in changed.of_script("experiments/ann/peers.py").files
    taste = changed.of_script("experiments/personalised/taste.py").roots
    assert "neurosearch.retriever.personalised:Personalised" in taste  # [*overrides, "retriever=…"]


def test_the_rows_of_a_sweep_are_part_of_an_experiment(changed: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "experiment" / "x.yaml"
    path.parent.mkdir()
    meanings = []
    for bits, column in (("4,2", "a"), ("4,8", "a"), ("4,2", "b")):
        text = (
            f"report: {{columns: [{column}]}}\nhydra: {{sweeper: {{params: {{bits: '{bits}'}}}}}}"
        )
        path.write_text(text)
        meanings.append(changed.meaning(path))
    assert meanings[0] != meanings[1] and meanings[0] == meanings[2]


def test_a_commit_that_is_not_there(changed: ModuleType) -> None:
    tables = [changed.Published(Path("t.md"), ("f" * 10,), changed.Behind())]
    (one,) = changed.compared("f" * 10, tables, changed.followed(ROOT, changed.Behind().roots))
    assert one.changed is None
