"""Recipes: what is in a fingerprint, what is refused."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest

from neurosearch.core.bounds import setting
from neurosearch.core.digests import content_digest
from neurosearch.core.errors import InputError
from neurosearch.core.recipe import FieldError, Recipe, look_again, remembered
from neurosearch.data.beir import Beir
from neurosearch.encoder.hashing import Hashing
from neurosearch.fusion.rrf import RRF
from neurosearch.retriever.bm25 import BM25
from neurosearch.retriever.dense import Dense


def test_the_same_config_has_the_same_fingerprint() -> None:
    assert BM25().fingerprint == BM25().fingerprint
    assert BM25(k1=1).fingerprint == BM25(k1=1.0).fingerprint


@pytest.mark.parametrize(
    "recipe, changes",
    [
        (BM25(), {"k1": 1.2, "b": 0.5, "engine": "bm25s", "boosts": {"title": 1.0}}),
        (RRF(), {"k": 10, "weights": {"a": 1.0, "b": 2.0}}),
        (
            Hashing(),
            {"dimensions": 64, "trigrams": 0.1, "fields": ("title", "brand"), "query_prefix": "q"},
        ),
    ],
)
def test_every_field_changes_the_fingerprint(recipe, changes) -> None:
    seen = {recipe.fingerprint}
    for name, value in changes.items():
        seen.add(dataclasses.replace(recipe, **{name: value}).fingerprint)
    assert len(seen) == len(changes) + 1


def test_a_nested_field_changes_the_fingerprint() -> None:
    one = Dense(encoder=Hashing(dimensions=64))
    other = Dense(encoder=Hashing(dimensions=65))
    assert one.fingerprint != other.fingerprint


def test_lists_become_tuples_so_that_hydra_and_python_agree() -> None:
    assert Hashing(fields=["title"]).fields == ("title",)
    assert Hashing(fields=["title"]).fingerprint == Hashing().fingerprint


def test_files_count_by_content_not_by_place(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "corpus.jsonl").write_text("{}")
    assert Beir(str(tmp_path / "a")).fingerprint == Beir(str(tmp_path / "b")).fingerprint
    (tmp_path / "b" / "corpus.jsonl").write_text("{ }")
    assert Beir(str(tmp_path / "a")).fingerprint != Beir(str(tmp_path / "b")).fingerprint


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        _ = Beir(str(tmp_path / "nowhere")).fingerprint


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: BM25(k1="a"), r"BM25\.k1 must be float, not 'a'"),
        (lambda: BM25(k1=True), r"BM25\.k1 must be float, not True"),
        (lambda: RRF(k=1.5), r"RRF\.k must be int, not 1\.5"),
        (lambda: BM25(b=1.5), "b must be at least 0 and at most 1"),
        (lambda: BM25(boosts={"titel": 1}), "titel"),
        (lambda: BM25(engine="elastic"), "must be one of lucene, bm25s"),
    ],
)
def test_wrong_values_are_refused_with_the_key(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("parent", [".data", "plain/.cache/x", "plain"])
@pytest.mark.parametrize("relative", [False, True])
def test_only_what_lies_below_a_folder_can_be_hidden(
    parent: str, relative: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dot in the path to the folder, `..` included, hides none of its files."""
    folders = [tmp_path / parent / name for name in ("a", "b")]
    for folder in folders:
        (folder / ".git").mkdir(parents=True)
        (folder / "qrels").mkdir()
        (folder / "corpus.jsonl").write_text(folder.name)
        (folder / "qrels" / "test.tsv").write_text("same")
        (folder / ".git" / "index").write_text(folder.name)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    named = [
        Path("..") / folder.relative_to(tmp_path) if relative else folder for folder in folders
    ]
    assert content_digest(named[0]) != content_digest(named[1])
    (folders[1] / "corpus.jsonl").write_text("a")
    assert content_digest(named[0]) == content_digest(named[1])  # what is hidden below is left out
    (folders[1] / "qrels" / "test.tsv").write_text("other")
    assert content_digest(named[0]) != content_digest(named[1])


def test_linked_folders_count(tmp_path: Path) -> None:
    """Loaders read through links, so their content is part of the digest."""
    for name in ("one", "two"):
        (tmp_path / f"target-{name}").mkdir()
        (tmp_path / f"target-{name}" / "test.tsv").write_text(name)
        (tmp_path / name).mkdir()
        (tmp_path / name / "qrels").symlink_to(tmp_path / f"target-{name}")
        (tmp_path / name / "self").symlink_to(tmp_path / name)  # a circle
    assert content_digest(tmp_path / "one") != content_digest(tmp_path / "two")


@dataclass(frozen=True)
class Bounded(Recipe):
    count: int = setting(3, least=1, most=9)
    share: float = setting(0.5, above=0, below=1)
    kind: str = setting("a", choices=("a", "b"))


@dataclass(frozen=True)
class Wider(Bounded):
    count: int = 5  # another default, the same bounds
    share: float = setting(2.0, above=1)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Bounded(count=0), "Bounded.count must be at least 1 and at most 9, not 0"),
        (lambda: Bounded(share=1.0), "Bounded.share must be above 0 and below 1, not 1.0"),
        (lambda: Bounded(kind="c"), "Bounded.kind must be one of a, b, not 'c'"),
        (lambda: Wider(count=10), "Wider.count must be at least 1 and at most 9, not 10"),
        (lambda: Wider(share=0.5), "Wider.share must be above 1, not 0.5"),
    ],
)
def test_bounds_are_checked_and_inherited(make, message: str) -> None:
    with pytest.raises(FieldError) as error:
        make()
    assert str(error.value) == message
    assert Bounded(count=9, share=0.999, kind="b") and Wider()


@dataclass(frozen=True)
class Asked(Recipe):
    """Counts how often its method is really called."""

    depth: int = 1

    @remembered
    def of(self, other: Recipe, split: str = "train") -> list[object]:
        return [self.depth, other, split]


def test_a_remembered_method_is_called_once_for_equal_arguments() -> None:
    asked = Asked()
    first = asked.of(BM25(k1=1.0), split="dev")
    assert asked.of(BM25(k1=1), split="dev") is first
    assert asked.of(BM25(k1=1.1), split="dev") is not first
    assert asked.of(BM25(k1=1.0)) == [1, BM25(k1=1.0), "train"]
    # What is remembered belongs to one recipe, and is no part of it.
    assert dataclasses.replace(asked, depth=2).of(BM25(k1=1.0), split="dev")[0] == 2
    assert asked == Asked() and asked.fingerprint == Asked().fingerprint


def test_what_is_remembered_ends_when_files_may_have_changed() -> None:
    asked = Asked()
    first = asked.of(BM25())
    look_again()
    assert asked.of(BM25()) is not first


def test_a_changed_file_is_another_argument_after_looking_again(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text("{}")
    asked, data = Asked(), Beir(str(tmp_path))
    first = asked.of(data)
    (tmp_path / "corpus.jsonl").write_text('{"_id": "1"}')
    look_again()
    assert asked.of(data) is not first
