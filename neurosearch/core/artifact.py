"""Artifacts: lazy, content-addressed results (see `store` for how they are kept).

An artifact is a frozen dataclass of recipes and input artifacts with a way to build itself
into a folder and to load itself from it. Its address is the fingerprint of its code, its
recipes and its inputs' fingerprints, so nothing stale can be found under it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from neurosearch.core.digests import digest
from neurosearch.core.fingerprint import code_digest
from neurosearch.core.recipe import describe

if TYPE_CHECKING:
    from neurosearch.core.runtime import Runtime

T = TypeVar("T")
MANIFEST = "manifest.json"  # of a complete artifact's folder
NO_IDENTITY = {"identity": False}  # metadata of a field that an artifact's result doesn't depend on


@dataclass(frozen=True)
class Artifact(Generic[T]):
    """A node of the build graph. Subclasses add fields (recipes, artifacts, scalars).

    Class attributes:
        kind: folder under outputs/artifacts.
        resumable: `build` continues from what an earlier, killed attempt left in its folder.
        spreads: several processes may run `build` together, each doing its share (`processes`).
    """

    kind: ClassVar[str]
    resumable: ClassVar[bool] = False
    spreads: ClassVar[bool] = False

    @property
    def sealed(self) -> bool:
        """Whether its value holds the judgments of the test split."""
        return False

    def stored(self) -> Artifact[Any]:
        """The artifact whose folder this one is loaded from: itself, unless it is a view.

        Returns:
            The artifact that the store keeps.
        """
        return self

    def check(self, runtime: Runtime) -> None:
        """Raise InputError where the data or the machine lack what `build` needs.

        Asked of all that is to be built before any of it is; may build the data, nothing else.

        Args:
            runtime: devices, threads, progress and the store of artifacts.
        """

    def check_view(self, user: Artifact[Any]) -> None:
        """Raise InputError where this, as an input of `user`, can't give what it promises.

        Args:
            user: the artifact that has this one as an input.
        """

    def missing(self, folder: Path, runtime: Runtime) -> str:
        """What is not there any more of what lies outside the artifact's folder, as on a server.

        Args:
            folder: a complete one.
            runtime: devices, threads, progress and the store of artifacts.

        Returns:
            One line; '' where nothing is missing: it is built again otherwise.
        """
        return ""

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any] | None:
        """Write the result into `folder`; may return details for the manifest.

        Args:
            folder: an empty one, or what a killed attempt left where the artifact is `resumable`.
            runtime: devices, threads, progress and the store of artifacts.

        Returns:
            Details for the manifest (JSON-able), or None.

        Raises:
            InputError: the input is not what can be built from.
        """
        raise TypeError(f"{type(self).__name__} does not say how it is built")

    def load(self, folder: Path) -> T:
        """The value, read from a complete `folder`.

        Args:
            folder: a complete one.

        Returns:
            The value.
        """
        raise TypeError(f"{type(self).__name__} does not say how it is loaded")

    @cached_property
    def artifact_fingerprint(self) -> str:
        """Hex digest of kind, code, fields and inputs."""
        return digest({"kind": self.kind, **self.description()})

    @property
    def address(self) -> str:
        """`kind/fingerprint`: its folder, relative to the store's."""
        return f"{self.kind}/{self.artifact_fingerprint}"

    def description(self) -> dict[str, Any]:
        """What the fingerprint is taken of; input artifacts appear by fingerprint.

        Returns:
            JSON-able: class, digest of its code, and its fields.
        """
        cls: Any = type(self)
        fields = {
            f.name: describe(getattr(self, f.name))
            for f in dataclasses.fields(self)
            if f.metadata.get("identity", True)
        }
        return {"class": f"{cls.__module__}.{cls.__qualname__}", "code": code_digest(cls), **fields}

    def inputs(self) -> list[Artifact[Any]]:
        """Input artifacts, in field order, those in tuples, mappings and dataclasses included.

        Returns:
            The artifacts that this one is made of.
        """
        values = (getattr(self, spec.name) for spec in dataclasses.fields(self))
        return [artifact for value in values for artifact in _artifacts_in(value)]


def _artifacts_in(value: Any) -> Iterator[Artifact[Any]]:
    if isinstance(value, Artifact):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _artifacts_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _artifacts_in(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for spec in dataclasses.fields(value):
            yield from _artifacts_in(getattr(value, spec.name))
