"""Own CSV files from Python and from the command line: edited files, columns, names of tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import neurosearch as ns
from tests.commands import run

PRODUCTS = "sku,name\n1,red mixer\n2,blue mug\n3,red mug\n"


def judged(good: int, bad: int) -> str:
    rows = [f"red mixer {n},{sku},{g}\n" for n in range(10) for sku, g in ((1, good), (2, bad))]
    return "query,sku,grade\n" + "".join(rows)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    products, judgments = tmp_path / "products.csv", tmp_path / "judged.csv"
    products.write_text(PRODUCTS)
    judgments.write_text(judged(1, 0))
    return products, judgments


COLUMNS = {"product_id": "sku", "title": "name"}


def test_an_edited_file_is_read_again(files: tuple[Path, Path], tmp_path: Path) -> None:
    """In one process, as in a notebook, with one recipe that is kept."""
    products, judgments = files
    data = ns.TableFiles(products=str(products), judgments=str(judgments), columns=COLUMNS)
    options = {"runtime": ns.Runtime(tmp_path / "out", progress=False), "progress": False}

    def score() -> float:
        table = ns.compare([ns.BM25(engine="bm25s")], data, **options)
        return float(table.frame.filter(table.frame["metric"] == "nDCG@10")["mean"][0])

    assert score() == 1.0
    judgments.write_text(judged(0, 1))  # now the mug is what is wanted: second, or not found
    worse = score()
    assert worse < 0.7
    judgments.write_text(judged(0, 1).replace(",2,1", ",2,nan", 1))
    with pytest.raises(ns.InputError, match=r"judged\.csv row \d+: grade 'nan' is no finite"):
        score()
    judgments.write_text(judged(1, 0))
    assert score() == 1.0
    judgments.write_text(judged(0, 1))
    assert score() == worse


def test_a_sweep_over_own_files_gives_a_table(files: tuple[Path, Path], tmp_path: Path) -> None:
    products, judgments = files
    words = [f"data.products={products}", f"data.judgments={judgments}", "data=tables", "name=own"]
    words += ["data.columns={product_id: sku, title: name}", "evaluation.resamples=50"]
    words += ["data.splits={train: 0.2, dev: 0.2, test: 0.6}", "evaluation.latency.queries=0"]
    done = run(
        ["-m", "retriever=random,bm25", "retriever.engine=bm25s", *words],
        {"NEUROSEARCH_OUTPUTS": str(tmp_path / "o")},
    )
    assert "retriever.engine: Random has no key 'engine'" in done.stderr
    done = run(["-m", "retriever=random", *words], {"NEUROSEARCH_OUTPUTS": str(tmp_path / "o")})
    assert done.returncode == 0, done.stderr
    (table,) = (tmp_path / "o" / "tables" / "own").glob("*.md")
    assert str(tmp_path) not in table.read_text().split("Command:")[0]
    assert "splits=train:0.2+dev:0.2+test:0.6" in table.name


@pytest.mark.parametrize(
    "words, message",
    [
        ("retriever=bm25 retriever.k=1", "retriever.k: BM25 has no key 'k'; is it k1?"),
        ("retriver=bm25", "retriver: the config has no key 'retriver'; is it retriever?"),
        ("retriever.k1=1", "k1 is a key of retriever.members.sparse.k1"),
        ("retriever=bm26", "retriever=bm26: no such choice; there are bm25"),
        ("retriever=hybrid/convx", "no such choice; there are hybrid/convex"),
    ],
)
def test_a_typo_names_what_there_is(words: str, message: str, tmp_path: Path) -> None:
    done = run(words.split(), {"NEUROSEARCH_OUTPUTS": str(tmp_path)})
    assert done.returncode == 1 and message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"products": PRODUCTS + "4,\n5\n"}, r"products\.csv row 6: 1 columns, the header has 2"),
        ({"products": "sku,name,name\n1,a,b\n"}, r"row 1: the column 'name' is there twice"),
        ({"grades": {"good": "high"}}, r"grades gives 'good' 'high', which is no number"),
        ({"grades": {"good": float("inf"), 0: 1}}, r"grades gives 'good' inf, which is no number"),
    ],
)
def test_a_bad_row_or_grade_is_one_line(
    changed: dict[str, Any], message: str, files: tuple[Path, Path], tmp_path: Path
) -> None:
    products, judgments = files
    products.write_text(changed.get("products", PRODUCTS))
    runtime = ns.Runtime(tmp_path / "out", progress=False)
    with pytest.raises(ns.InputError, match=message):
        grades = changed.get("grades")
        data = ns.TableFiles(
            products=str(products), judgments=str(judgments), columns=COLUMNS, grades=grades
        )
        runtime.get(data.dataset())


def test_names_of_grades_may_be_mixed_and_columns_of_one_file(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    """`columns` maps the products' ids; the judgments already have our name."""
    products, judgments = files
    text = judged(1, 0).replace("sku", "product_id", 1).replace(",1\n", ",best\n")
    judgments.write_text(text)
    data = ns.TableFiles(
        products=str(products),
        judgments=str(judgments),
        columns=COLUMNS,
        grades={"best": 2, 0: 0},
    )
    got = ns.Runtime(tmp_path / "out", progress=False).get(data.dataset())
    labels = got.judgments("train").frame["label"].unique().sort().to_list()
    assert labels == ["0", "2"]
