"""Parts of a data set: what an artifact reads of it, and nothing else.

An artifact that takes a whole data set would have to be built again when any judgment changes. So
it takes a view: the products, the queries of a split, the judgments of a split… A view's
fingerprint is that of its parts' content, and a part that was not asked for can't be read through
it, so a fingerprint never misses what a result depends on.

The judgments of the test split are sealed: only artifacts of `evaluation/` may take a view with
them (the store refuses others, `artifact.check_seal`).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from neurosearch.core.artifact import Artifact
from neurosearch.core.digests import digest
from neurosearch.core.errors import InputError
from neurosearch.core.types import PRODUCTS, Dataset, judgments_of, pool_of, queries_of


@dataclass(frozen=True)
class DataSource(Artifact[Dataset]):
    """Base of stored data sets."""

    kind: ClassVar[str] = "data"

    def part_digest(self, part: str) -> str:
        """Digest of a part's content; here of all that the data set is made of.

        Args:
            part: such as `queries/train`.

        Returns:
            A hex digest.
        """
        return digest([self.artifact_fingerprint, part])

    def before(self) -> DataSource | None:
        """What models are trained on, where that is an earlier state of a catalogue that grew.

        Returns:
            The earlier state, or None.
        """
        return None

    def states(self) -> tuple[DataSource, ...]:
        """What the catalogue was before, whatever models are trained on.

        Returns:
            Its earlier states, the oldest first; none for a catalogue that never grew.
        """
        return ()

    def passes(self) -> float:
        """Passes over the catalogue, of decoders that continue training.

        Returns:
            0 where they don't.
        """
        return 0.0

    def replays(self) -> bool:
        """Whether decoders continue training on the catalogue before it grew.

        Returns:
            False where new products are learnt too.
        """
        return False


@dataclass(frozen=True)
class View(Artifact[Dataset]):
    """Some parts of a stored data set (names as in `types.Dataset`)."""

    kind: ClassVar[str] = "data"
    whole: DataSource
    parts: tuple[str, ...]

    def stored(self) -> Artifact[Dataset]:
        return self.whole

    def description(self) -> dict[str, Any]:
        return {"view": [[part, self.whole.part_digest(part)] for part in self.parts]}

    @property
    def sealed(self) -> bool:
        return judgments_of("test") in self.parts

    def check_view(self, user: Artifact[Any]) -> None:
        for part in self.parts:
            kind, _, split = part.partition("/")
            if split and kind != "pool" and not self.whole.part_digest(part):
                message = f"the data has no {split} queries"
                raise InputError(f"{message}, which {user.kind} ({type(user).__name__}) needs")

    def load(self, folder: Path) -> Dataset:
        return replace(self.whole.load(folder), parts=frozenset(self.parts))


def write_derived(folder: Path, data: Dataset) -> None:
    """Products and name of a data set that is made of another one; the products are linked.

    Args:
        folder: of the new one.
        data: with the products.
    """
    products = folder / "products.parquet"
    try:
        os.link(data.folder / "products.parquet", products)
    except OSError:  # another file system, or none that links
        products.write_bytes((data.folder / "products.parquet").read_bytes())
    (folder / "data.json").write_text(json.dumps({"name": data.name}), encoding="utf-8")


def load_derived(folder: Path) -> Dataset:
    """A data set that `write_derived` began.

    Args:
        folder: complete.

    Returns:
        The data set.
    """
    return Dataset(folder, json.loads((folder / "data.json").read_text("utf-8"))["name"])


def only(data: Artifact[Dataset], *parts: str) -> Artifact[Dataset]:
    """The view of `data`, a stored data set or a view of one, that has these parts."""
    whole = data.stored()
    assert isinstance(whole, DataSource), "a view is of a stored data set"
    return View(whole, tuple(sorted(set(parts))))


def before(data: Artifact[Dataset]) -> Artifact[Dataset]:
    """What models are trained on.

    Args:
        data: the data set, or a view of it.

    Returns:
        A grown catalogue's earlier state, or `data` itself.
    """
    whole = data.stored()
    assert isinstance(whole, DataSource), "a view is of a stored data set"
    return whole.before() or data


def states(data: Artifact[Dataset]) -> tuple[DataSource, ...]:
    """What the catalogue was before.

    Args:
        data: the data set, or a view of it.

    Returns:
        Its earlier states, the oldest first; none for a catalogue that never grew.
    """
    whole = data.stored()
    assert isinstance(whole, DataSource), "a view is of a stored data set"
    return whole.states()


def products(data: Artifact[Dataset]) -> Artifact[Dataset]:
    """The products alone."""
    return only(data, PRODUCTS)


def with_queries(data: Artifact[Dataset], split: str, pool: bool = False) -> Artifact[Dataset]:
    """What answers to a split's queries are made of; `pool`: which products were judged, too."""
    return only(data, PRODUCTS, queries_of(split), *([pool_of(split)] if pool else []))


def learning(data: Artifact[Dataset], *splits: str) -> Artifact[Dataset]:
    """What is learnt from: products, and queries and judgments of these splits (train and dev)."""
    kept = splits or ("train", "dev")
    judged = [part for split in kept for part in (queries_of(split), judgments_of(split))]
    return only(data, PRODUCTS, *judged)
