"""Pictures with attributes: queries made of them, labels by how much agrees."""

from __future__ import annotations

import io
import re
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.data.pictures import Pictures
from neurosearch.evaluation.opened import opened

NAMES = {
    name: name for name in ("product_id", "title", "image", "type", "colour", "usage", "category")
}


def picture(colour: tuple[int, int, int] = (200, 10, 10)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, format="PNG")
    return buffer.getvalue()


def written(path: Path, **columns: list) -> Path:
    count = len(columns["type"])
    frame = {
        "product_id": [f"p{i}" for i in range(count)],
        "title": [f"title {i}" for i in range(count)],
        "image": [picture()] * count,
        "category": ["Wear"] * count,
        **columns,
    }
    pl.DataFrame(frame).write_parquet(path)
    return path


def attributes(count: int = 120) -> dict[str, list[str]]:
    return {
        "type": [("Shirt", "Shoe", "Bag")[i % 3] for i in range(count)],
        "colour": [("Red", "Blue")[i // 3 % 2] for i in range(count)],
        "usage": [("Sports", "Casual")[i // 6 % 2] for i in range(count)],
    }


def test_labels_are_how_much_agrees(tmp_path: Path, runtime: Runtime) -> None:
    columns = attributes()
    path = written(tmp_path / "p.parquet", **columns)
    data = runtime.get(Pictures(path=str(path), columns=NAMES).dataset())
    facts = pl.read_parquet(path).select("product_id", "type", "colour", "usage")
    held = set(facts["product_id"]) - set(data.catalogue.ids)
    assert 5 < len(held) < 40
    by_id = {row[0]: row[1:] for row in facts.iter_rows()}
    queries = {}
    for split in ("train", "dev", "test"):
        frame = data.queries(split).frame
        queries |= {
            q: (text, kind) for q, text, kind in frame.select("query_id", "text", "kind").rows()
        }
        judged = opened(data).judgments(split).frame
        for query, product, label in judged.iter_rows():
            words, kind = queries[query][0].split(), queries[query][1]
            type_, colour, usage = (value.lower() for value in by_id[product])
            assert words[-1] == type_
            wanted = {"colour": [colour], "usage": [usage], "both": [usage, colour], "type": []}[
                kind
            ]
            met = sum(word == value for word, value in zip(words, wanted, strict=False))
            assert label == ("all" if met == len(wanted) else "some" if met else "type")
            assert product not in held
        pairs = {(q, p) for q, p in judged.select("query_id", "product_id").rows()}
        for query, (text, _) in queries.items():  # all products of the type are judged
            if query in set(frame["query_id"]):
                same = [p for p, v in by_id.items() if v[0].lower() == text.split()[-1]]
                assert {(query, p) for p in same if p not in held} <= pairs
    assert len({text for text, _ in queries.values()}) == len(queries)
    assert next(data.catalogue.batches(["category"]))["category"][0].startswith("Wear > ")


def test_files_named_in_a_column_are_read(tmp_path: Path, runtime: Runtime) -> None:
    columns = attributes()
    for i in range(120):
        (tmp_path / f"{i}.png").write_bytes(picture())
    names = [f"{i}.png" for i in range(119)] + [None]
    written(tmp_path / "p.parquet", image=names, **columns)
    data = runtime.get(Pictures(path=str(tmp_path), columns=NAMES).dataset())
    images = next(data.catalogue.batches(["image"]))["image"]
    assert images.drop_nulls()[0] == picture()


def test_a_folder_of_images_is_a_catalogue(tmp_path: Path, runtime: Runtime) -> None:
    for i in range(60):
        folder = tmp_path / ("shirt", "red_bag")[i % 2]
        folder.mkdir(exist_ok=True)
        (folder / f"nice_thing_{i}.png").write_bytes(picture())
    data = runtime.get(Pictures(path=str(tmp_path), held_out=0.3).dataset())
    row = next(data.catalogue.batches(["title", "category"])).sort("title").row(0)
    assert row[0].startswith("nice thing")
    assert row[1] in ("shirt", "red bag")


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda f: f.drop("type"), r"missing column 'type'"),
        (lambda f: pl.concat([f, f[:1]]), r"row 121: duplicate product_id 'p0', first at row 1"),
        (lambda f: f.with_columns(type=pl.lit("")), r"row 1: column 'type' is empty"),
        (lambda f: f.with_columns(image=pl.lit(b"no")), r"row 1, column 'image': no picture"),
        (
            lambda f: f.with_columns(image=pl.lit("no.png")),
            r"row 1, column 'image': .*no such file",
        ),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, runtime: Runtime, change, told: str) -> None:
    path = written(tmp_path / "p.parquet", **attributes())
    change(pl.read_parquet(path)).write_parquet(path)
    with pytest.raises(InputError, match=rf"{re.escape(str(path))}.*{told}"):
        runtime.get(Pictures(path=str(path), columns=NAMES).dataset())


def test_bad_settings_are_refused(tmp_path: Path, runtime: Runtime) -> None:
    with pytest.raises(InputError, match=r"held_out must be above 0"):
        Pictures(path=str(tmp_path), held_out=0.0)
    with pytest.raises(InputError, match=r"columns does not say which column is image, type"):
        Pictures(path=str(tmp_path), columns={"product_id": "id"})
    with pytest.raises(InputError, match="neither a parquet file nor images"):
        runtime.get(Pictures(path=str(tmp_path)).dataset())
