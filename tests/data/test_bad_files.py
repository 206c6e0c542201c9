"""Whatever a file holds: one line that names it, at once, and nothing left behind."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.data import reading
from neurosearch.data.amazon_reviews import AmazonReviews
from neurosearch.data.base import Data
from neurosearch.data.beir import Beir
from neurosearch.data.esci import STEM, Esci
from neurosearch.data.home_depot import HomeDepot
from neurosearch.data.pictures import Pictures
from neurosearch.data.wands import PRODUCT, Wands


def refused(data: Data, runtime: Runtime, message: str) -> None:
    with pytest.raises(InputError) as told:
        runtime.get(data.dataset())
    text = str(told.value)
    assert message in text and "\n" not in text, text
    left = [p for p in runtime.outputs.rglob("*") if p.is_file() and not p.name.endswith(".lock")]
    assert left == []


def png() -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (20, 20), (9, 9, 9)).save(stream, "PNG")
    return stream.getvalue()


def beir(folder: Path, **changes: bytes | str) -> Beir:
    files: dict[str, Any] = {
        "corpus.jsonl": '{"_id": "d", "title": "mug"}\n{"_id": "e", "title": "cup"}\n',
        "queries.jsonl": '{"_id": "q", "text": "mug"}\n',
        "qrels/test.tsv": "query-id\tcorpus-id\tscore\nq\td\t1\n",
    }
    (folder / "qrels").mkdir()
    for name, content in {**files, **changes}.items():
        raw = content if isinstance(content, bytes) else content.encode()
        (folder / name).write_bytes(raw)
    return Beir(str(folder))


DEEP = '{"_id": "d", "metadata": ' + "[" * 100_000 + "]" * 100_000 + "}\n"


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("corpus.jsonl", b'{"_id": "d", "title": "caf\xe9"}\n', "corpus.jsonl row 1: not JSON"),
        ("corpus.jsonl", '{"_id": "d", "title": "\\ud800"}\n', "corpus.jsonl row 1: not JSON"),
        ("corpus.jsonl", DEEP, "corpus.jsonl row 1: not JSON"),
        ("corpus.jsonl", '{"_id": NaN, "title": "a"}\n', "row 1: not JSON (NaN is no JSON)"),
        ("corpus.jsonl", '{"_id": [1], "title": "a"}\n', "row 1: column '_id' is '[1]', which is"),
        ("corpus.jsonl", '{"_id": true, "title": "a"}\n', "row 1: column '_id' is 'True'"),
        ("corpus.jsonl", '{"_id": 1.5, "title": "a"}\n', "row 1: column '_id' is '1.5'"),
        ("corpus.jsonl", '{"_id": "  ", "title": "a"}\n', "row 1: column '_id' is '  '"),
        ("corpus.jsonl", f'{{"_id": "{"x" * 600}", "title": "a"}}\n', "row 1: column '_id' is 'xx"),
        ("corpus.jsonl", '{"_id": null, "title": "a"}\n', "row 1: column '_id' is empty"),
        ("corpus.jsonl", '{"_id": "d", "title": {"a": 1}}\n', "row 1: column 'title' is {'a': 1}"),
        ("corpus.jsonl", "[1]\n", "corpus.jsonl row 1: not a JSON object"),
        ("corpus.jsonl", b"\x00\x01\x02", "corpus.jsonl row 1: not JSON"),
        ("corpus.jsonl", "", "corpus.jsonl: no products"),
        ("corpus.jsonl", f'{{"_id": "d", "title": "{"y" * 1_000_001}"}}\n', "(LONGEST_TEXT)"),
        ("queries.jsonl", '{"_id": "q", "text": null}\n', "queries.jsonl row 1: column 'text'"),
        ("queries.jsonl", '{"_id": "q", "text": 3}\n', "row 1: column 'text' is 3, not a text"),
        (
            "queries.jsonl",
            '{"_id": "q", "text": "a"}\n{"_id": "q", "text": "b"}\n',
            "queries.jsonl row 2: duplicate query_id 'q'",
        ),
        ("queries.jsonl", f'{{"_id": "q", "text": "{"a " * 9999}"}}\n', "(LONGEST_QUERY)"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq\td\tnan\n", "row 2, column 'score'"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq\td\tinf\n", "row 2, column 'score'"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq\td\t1e308\n", "row 2, column 'score'"),
        (
            "qrels/test.tsv",
            "query-id\tcorpus-id\tscore\nq\td\t\n",
            "row 2: column 'score' is empty",
        ),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n\td\t1\n", "row 2: column 'query-id'"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq\t\t1\n", "row 2: column 'corpus-id'"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq\tz\t1\n", "row 2: product_id 'z' is not"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq\td\n", "row 2: column 'score' is empty"),
        (
            "qrels/test.tsv",
            "query-id\tcorpus-id\tscore\nq\td\t1\t2\t3\n",
            "test.tsv row 2: 5 columns, the header has 3",
        ),
        ("qrels/test.tsv", "q\td\t1\n", "test.tsv: missing column 'query-id'"),
        ("qrels/test.tsv", b"query-id\tcorpus-id\tscore\nq\xff\td\t1\n", "row 2: not utf-8"),
        ("qrels/test.tsv", "", "test.tsv: not readable as a table"),
        ("qrels/test.tsv", "\n" * 3_000_000, "test.tsv: "),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n" + "\n" * 3_000_000, "lines are empty"),
    ],
)
def test_beir(name: str, content: bytes | str, message: str, runtime, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    refused(beir(folder, **{name: content}), runtime, message)


def test_a_line_that_never_ends(runtime, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(reading, "LONGEST_LINE", 1000)
    folder = tmp_path / "data"
    folder.mkdir()
    long = f'{{"_id": "d", "title": "{"z" * 2000}"}}'
    refused(beir(folder, **{"corpus.jsonl": long}), runtime, "row 1: longer than 1,000 bytes")


HEADER = '"id","product_uid","product_title","search_term","relevance"\n'
ROW = '1,2,"mug","cup",3\n'


def zipped(content: bytes, name: str = "train.csv") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        # A ZipInfo has a fixed date: bytes, and names of tests, that do not depend on the clock.
        info = zipfile.ZipInfo(name)
        info.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(info, content)
    return stream.getvalue()


def damaged(content: bytes) -> bytes:
    half = len(content) // 2
    return (
        content[:half] + bytes(b ^ 0x55 for b in content[half : half + 20]) + content[half + 20 :]
    )


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("train.csv.zip", b"PK\x03\x04 no archive", "train.csv.zip: not the published archive"),
        ("train.csv.zip", zipped(HEADER.encode(), "other.csv"), "not the published archive"),
        ("train.csv.zip", damaged(zipped((HEADER + ROW * 500).encode())), "train.csv.zip: "),
        ("train.csv.zip", zipped(b"\n" * 30_000_000), "(MOST_PACKING)"),
        ("train.csv", "", "train.csv: not readable as a table"),
        ("train.csv", HEADER, "has no products"),
        ("train.csv", HEADER + '1,2,"mug","cup",nan\n', "row 2, column 'relevance'"),
        ("train.csv", HEADER + '1,2,"mug","cup",4\n', "row 2, column 'relevance'"),
        ("train.csv", HEADER + '1,2,"mug","cup",\n', "row 2: column 'relevance' is empty"),
        ("train.csv", HEADER + '1,,"mug","cup",3\n', "row 2: column 'product_uid' is empty"),
        ("train.csv", HEADER + '1,2,"mug"," ",3\n', "row 2: column 'search_term' is empty"),
        ("train.csv", HEADER + ROW + ROW, "row 3: duplicate text/product_id"),
        ("train.csv", HEADER + '1,2,"mug', "train.csv"),
    ],
)
def test_home_depot(name: str, content: bytes | str, message: str, runtime, tmp_path: Path) -> None:
    raw = content if isinstance(content, bytes) else content.encode("latin-1")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / name).write_bytes(raw)
    refused(HomeDepot(str(tmp_path / "d")), runtime, message)


EXAMPLES: dict[str, list[Any]] = {
    "query": ["mug", "mug"],
    "query_id": [1, 1],
    "product_id": ["A", "B"],
    "product_locale": ["us", "us"],
    "esci_label": ["E", "I"],
    "small_version": [1, 1],
    "large_version": [1, 1],
    "split": ["train", "train"],
}
PRODUCTS: dict[str, list[Any]] = {
    "product_id": ["A", "B"],
    "product_locale": ["us", "us"],
    **{f"product_{x}": ["a", "b"] for x in ("title", "brand", "bullet_point", "description")},
    "product_color": ["red", None],
}


def set_to(table: dict[str, list[Any]], column: str, value: Any) -> dict[str, list[Any]]:
    return {**table, column: [table[column][0], value]}


@pytest.mark.parametrize(
    "examples, products, message",
    [
        (set_to(EXAMPLES, "query", None), PRODUCTS, "row 2: column 'query' is empty"),
        (set_to(EXAMPLES, "query", "cup"), PRODUCTS, "row 1: query_id 1 has two texts"),
        (set_to(EXAMPLES, "query_id", None), PRODUCTS, "row 2: column 'query_id' is empty"),
        (set_to(EXAMPLES, "product_id", None), PRODUCTS, "row 2: column 'product_id' is empty"),
        (set_to(EXAMPLES, "esci_label", None), PRODUCTS, "row 2: column 'esci_label' is empty"),
        (set_to(EXAMPLES, "split", None), PRODUCTS, "row 2: column 'split' is empty"),
        (set_to(EXAMPLES, "product_locale", None), PRODUCTS, "row 2: column 'product_locale'"),
        (set_to(EXAMPLES, "small_version", None), PRODUCTS, "row 2: column 'small_version'"),
        (set_to(EXAMPLES, "esci_label", "Z"), PRODUCTS, "row 2: esci_label 'Z' is not in E, S"),
        (EXAMPLES, set_to(PRODUCTS, "product_id", None), "row 2: column 'product_id' is empty"),
        (EXAMPLES, set_to(PRODUCTS, "product_id", "A"), "row 2: duplicate"),
    ],
)
def test_esci(examples: dict, products: dict, message: str, runtime, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    pl.DataFrame(examples).write_parquet(folder / f"{STEM}_examples.parquet")
    pl.DataFrame(products).write_parquet(folder / f"{STEM}_products.parquet")
    refused(Esci(str(folder)), runtime, message)


@pytest.mark.parametrize("which", ["examples", "products"])
@pytest.mark.parametrize("how", ["cut", "flipped", "empty", "text"])
def test_damaged_parquet(which: str, how: str, runtime, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    for name, table in (("examples", EXAMPLES), ("products", PRODUCTS)):
        pl.DataFrame(table).write_parquet(folder / f"{STEM}_{name}.parquet")
    path = folder / f"{STEM}_{which}.parquet"
    raw = path.read_bytes()
    changed = {"cut": raw[:-40], "empty": b"", "text": b"hello"}
    path.write_bytes(changed.get(how, raw[:4] + b"\xff" * 200 + raw[204:]))
    refused(Esci(str(folder)), runtime, "d")


@pytest.mark.parametrize(
    "product, query, label, message",
    [
        ("1\tmug\tm\tc\td\tf", "1\tmug", "1\t1\t1\t", "row 2: column 'label' is empty"),
        ("1\tmug\tm\tc\td\tf", "1\tmug", "1\t\t1\tExact", "row 2: column 'query_id' is empty"),
        ("1\tmug\tm\tc\td\tf", "1\tmug", "1\t1\t\tExact", "row 2: column 'product_id' is empty"),
        ("\tmug\tm\tc\td\tf", "1\tmug", "1\t1\t1\tExact", "row 2: column 'product_id' is empty"),
        ("1\tmug\tm\tc\td\tf", "\tmug", "1\t1\t1\tExact", "row 2: column 'query_id' is empty"),
        ("1\tmug\tm\tc\td\tf", "1\t", "1\t1\t1\tExact", "row 2: column 'query' is empty"),
        ("1\tmug\tm\tc\td\tf", "1\tmug", "1\t1\t1\tMaybe", "row 2: label 'Maybe' is not in"),
    ],
)
def test_wands(product: str, query: str, label: str, message: str, runtime, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "product.csv").write_text("\t".join(PRODUCT) + f"\n{product}\n")
    (folder / "query.csv").write_text(f"query_id\tquery\n{query}\n")
    (folder / "label.csv").write_text(f"id\tquery_id\tproduct_id\tlabel\n{label}\n")
    refused(Wands(str(folder)), runtime, message)


META = json.dumps({"asin": "a", "title": "mug"})
REVIEW = json.dumps({"reviewerID": "u", "asin": "a", "unixReviewTime": 1})


@pytest.mark.parametrize(
    "meta, review, message",
    [
        (gzip.compress(META.encode(), mtime=0)[:-9], REVIEW, "meta.json.gz row 1: not JSON"),
        (damaged(gzip.compress(META.encode() * 200, mtime=0)), REVIEW, "meta.json.gz row"),
        (b"no gzip", REVIEW, "meta.json.gz row 1: not JSON"),
        (gzip.compress(b'{"asin": ["a"]}', mtime=0), REVIEW, "row 1: column 'asin' is"),
        (
            gzip.compress(META.encode(), mtime=0),
            '{"reviewerID": "u", "asin": "a"}',
            "'unixReviewTime'",
        ),
        (
            gzip.compress(META.encode(), mtime=0),
            '{"reviewerID": "u", "asin": "a", "unixReviewTime": 1e400}',
            "R.json row 1: ",
        ),
        (
            gzip.compress(META.encode(), mtime=0),
            f'{{"reviewerID": "u", "asin": "a", "unixReviewTime": {10**30}}}',
            "is no time",
        ),
    ],
)
def test_amazon(meta: bytes, review: str, message: str, runtime, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "meta.json.gz").write_bytes(meta)
    (folder / "R.json").write_text(review)
    refused(AmazonReviews(path=str(folder)), runtime, message)


def as_folder(content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "mugs").mkdir()
        (folder / "mugs" / "a.png").write_bytes(content)
        return folder

    return write


def as_parquet(**columns: list[Any]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        pl.DataFrame(columns).write_parquet(folder / "p.parquet")
        return folder

    return write


@pytest.mark.parametrize(
    "write, message",
    [
        (as_folder(b"no picture"), "row 1, column 'image': no picture"),
        (as_folder(png()[:-30]), "row 1, column 'image': no picture"),
        (as_folder(damaged(png())), "row 1, column 'image': no picture"),
        (as_folder(b""), "row 1, column 'image': no picture"),
        (as_parquet(product_id=["a"], image=[b"GIF89a"], type=["t"]), "row 1, column 'image'"),
        (as_parquet(product_id=["a"], image=["nowhere.png"], type=["t"]), "no such file"),
        (as_parquet(product_id=[None], image=[png()], type=["t"]), "row 1: column 'product_id'"),
        (as_parquet(product_id=["a"], image=[3], type=["t"]), "column 'image' holds Int64"),
        (as_parquet(product_id=["a"], image=[png()]), "missing column 'type'"),
    ],
)
def test_pictures(write: Callable[[Path], Path], message: str, runtime, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    refused(Pictures(path=str(write(tmp_path / "d"))), runtime, message)


def test_a_picture_that_is_too_large(runtime, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(reading, "MOST_PIXELS", 100)
    (tmp_path / "d").mkdir()
    data = Pictures(path=str(as_folder(png())(tmp_path / "d")))
    refused(data, runtime, "20×20 pixels, at most 100 (MOST_PIXELS)")


@pytest.mark.parametrize(
    "label, least, message",
    [
        (["1", "2", "4"], None, "the labels are 1 to 4, and the lowest would gain 1: say"),
        (["0", "1"], None, ""),
        (["1", "1"], None, ""),
        (["1", "4"], 1.0, ""),
        (["1", "4"], 0.0, ""),
        (["1", "nan"], None, "is no finite number"),
        (["1", "1e9"], 0.0, "is worth more than"),
    ],
)
def test_scales_that_begin_at_one_are_asked_about(
    label: list[str], least: float | None, message: str
) -> None:
    from neurosearch.evaluation.gain import NumericGain

    gain = NumericGain("graded", offset=least)
    if not message:
        gain.check(pl.Series(label))
        return
    with pytest.raises(InputError, match=message):
        gain.check(pl.Series(label))


def small_beir(folder: Path, **files: str) -> Path:
    """A small BEIR folder, with other content for the named files."""
    content = {
        "corpus.jsonl": '{"_id": "d1", "title": "red mug"}\n{"_id": "d2", "title": "blue mug"}\n',
        "queries.jsonl": '{"_id": "q1", "text": "mug"}\n',
        "qrels/test.tsv": "query-id\tcorpus-id\tscore\nq1\td1\t1\n",
    }
    for name, text in {**content, **{k.replace("__", "/"): v for k, v in files.items()}}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    "files, message",
    [
        (
            {"queries.jsonl": '{"_id": "q1", "text": "a", "text": "b"}\n'},
            r"queries\.jsonl row 1: not JSON \(the key 'text' is there twice\)",
        ),
        ({"queries.jsonl": '{"_id": "q1", "text": "\u200b"}\n'}, "query 'q1' has no text"),
        ({"corpus.jsonl": ""}, r"corpus\.jsonl: no products"),
        ({"queries.jsonl": "\n"}, r"queries\.jsonl: no queries"),
        (
            {"qrels/test.tsv": "query-id\tcorpus-id\tscore\tscore\nq1\td1\t1\t2\n"},
            r"row 1: the column 'score' is there twice",
        ),
        (
            {"qrels/test.tsv": "query-id\tcorpus-id\tscore\rq1\td1\t1\r"},
            r"missing column 'score' \(it has query-id, corpus-id, score\\rq1",
        ),
    ],
)
def test_a_beir_folder_that_says_two_things_is_refused(
    files: dict[str, str], message: str, tmp_path: Path
) -> None:
    data = Beir(str(small_beir(tmp_path / "b", **files)))
    runtime = Runtime(tmp_path / "o", progress=False)
    with pytest.raises(InputError, match=message) as error:
        runtime.get(data.dataset())
    assert "\n" not in str(error.value)


def test_a_broken_link_is_no_missing_split(tmp_path: Path) -> None:
    folder = small_beir(tmp_path / "b")
    (folder / "qrels" / "dev.tsv").symlink_to(folder / "gone.tsv")
    with pytest.raises(InputError, match=r"dev\.tsv: a link to a file that does not exist"):
        Runtime(tmp_path / "o", progress=False).get(Beir(str(folder)).dataset())


def test_a_file_of_empty_lines_is_refused_soon(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(reading, "MOST_BLANK", 10)
    folder = small_beir(tmp_path / "b", **{"queries.jsonl": "\n" * 12})
    with pytest.raises(InputError, match=r"queries\.jsonl row 11: more than 10 empty lines"):
        Runtime(tmp_path / "o", progress=False).get(Beir(str(folder)).dataset())


@pytest.mark.parametrize(
    "text, message",
    [
        ("query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t1\t9\n", "row 3: 4 columns, the header"),
        ("query-id\tcorpus-id\tscore\nq1\td1\t1\n", ""),
    ],
)
def test_a_row_that_is_too_wide_is_named(text: str, message: str, tmp_path: Path) -> None:
    data = Beir(str(small_beir(tmp_path / "b", **{"qrels/test.tsv": text})))
    runtime = Runtime(tmp_path / "o", progress=False)
    if not message:
        assert runtime.get(data.dataset()).catalogue
        return
    with pytest.raises(InputError, match=message):
        runtime.get(data.dataset())
