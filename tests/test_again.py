"""experiments/again.py: a table made again is compared number by number."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest

COMMAND = (
    "Command: python -m neurosearch -m experiment=baselines data=shop report.publish=there  \n"
)
TABLE = pl.DataFrame(
    {
        "system": ["BM25", "BM25", "BM25", "dense"],
        "metric": ["nDCG@10", "Recall@10", "p50 ms", "nDCG@10"],
        "mean": [0.5, 0.25, 3.0, 0.75],
        "ci_low": [0.25, None, None, 0.5],
        "ci_high": [0.75, None, None, 1.0],
        "sd_seeds": [None, None, None, 0.125],
        "n_seeds": [1, 1, 1, 3],
        "n_queries": [9, 9, 9, 9],
        "p_holm": [None, None, None, 0.0625],
        "commit": ["c"] * 4,
        "hardware": ["m"] * 4,
    }
)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "experiments"))
    import again

    return again


def test_numbers_by_hand(module: ModuleType) -> None:
    # Without the cost: three means, two intervals, a deviation, twice three counts, a p value.
    assert module.compared(TABLE, TABLE) == module.Outcome(15, 15, 0.0, "")
    slower = TABLE.with_columns(
        mean=pl.when(pl.col("metric") == "p50 ms").then(9).otherwise("mean")
    )
    assert module.compared(TABLE, slower).same == 15
    newer = TABLE.with_columns(metric=pl.lit("a later metric"))
    assert module.compared(TABLE, pl.concat([TABLE, newer])).same == 15
    assert module.compared(pl.concat([TABLE, newer]), TABLE).same == 15
    assert module.compared(pl.concat([TABLE, newer]), TABLE).numbers > 15
    other = TABLE.with_columns(
        mean=pl.when(pl.col("metric") == "Recall@10").then(0.375).otherwise("mean"),
        p_holm=pl.lit(None, pl.Float64),
    )
    assert module.compared(TABLE, other) == module.Outcome(15, 13, 0.125, "Recall@10 of BM25")
    assert module.compared(TABLE, TABLE.head(3)).same == 8  # a row that is gone is not the same
    assert module.compared(TABLE.head(3), TABLE) == module.Outcome(15, 8, 0.0, "")


def test_a_table_is_made_again(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(module, "PAGE", tmp_path / "AGAIN.md")
    ran: list[list[str]] = []

    def run(words: list[str]) -> None:
        ran.append(words)
        folder = Path(next(w for w in words if w.startswith("report.publish=")).partition("=")[2])
        assert folder.is_dir()
        shutil.copy(table.with_suffix(".csv"), folder)

    monkeypatch.setattr(module, "run", run)
    table = tmp_path / "baselines" / "results" / "shop.md"
    table.parent.mkdir(parents=True)
    table.write_text("## baselines\n\n" + COMMAND)
    TABLE.write_csv(table.with_suffix(".csv"))
    for _ in range(2):  # one line a table, however often
        module.main([str(table)])
    page = (tmp_path / "AGAIN.md").read_text()
    assert page.count("| [baselines/shop](baselines/results/shop.md) | c | m |") == 1
    assert "| 15 | 15 | 0 |  |" in page
    assert ran[0][1:5] == ["-m", "neurosearch", "-m", "experiment=baselines"]
    assert "report.publish=there" not in ran[0] and "evaluation.latency.queries=0" in ran[0]


def test_what_cannot_be_made_again(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HERE", tmp_path)
    joined, silent, alone = (tmp_path / f"{name}.md" for name in ("joined", "silent", "alone"))
    joined.write_text("Command: python -m neurosearch task=table name=main  \n")
    silent.write_text("## no command\n")
    alone.write_text(COMMAND)
    for path in (joined, silent):
        TABLE.write_csv(path.with_suffix(".csv"))
    for words, message in (
        ([], "say which tables"),
        ([tmp_path / "absent.md"], "is no published table"),
        ([tmp_path], "is no published table"),
        ([joined.with_suffix(".csv")], "is no published table"),
        ([alone], "has no CSV file"),
        ([silent], "does not say what command"),
        ([joined], "no sweep that can be run again: python -m neurosearch task=table"),
    ):
        with pytest.raises(SystemExit, match=message):
            module.main([str(word) for word in words])


def test_a_difference_is_told_and_fails(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(module, "PAGE", tmp_path / "AGAIN.md")
    monkeypatch.setattr(
        module, "made_again", lambda table, words: module.Outcome(9, 8, 0.25, "nDCG@10 of A")
    )
    table = tmp_path / "shop.md"
    table.write_text(COMMAND)
    TABLE.write_csv(table.with_suffix(".csv"))
    with pytest.raises(SystemExit, match=r"numbers differ in shop\.md"):
        module.main([str(table)])
    assert "| 9 | 8 | 0.25 | nDCG@10 of A |" in (tmp_path / "AGAIN.md").read_text()
