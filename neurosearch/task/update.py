"""`task=update task.folder=…`: an exported index follows its catalogue, without a new build.

The folder is one of `task=export` with an index. Products of the job's data that are not in it are
encoded and added; those that are gone, or whose text changed, are removed. An index that forgets
nothing (graphs, refined candidates) is refused before anything is encoded. The folder is replaced
whole or not at all.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurosearch.core.errors import InputError
from neurosearch.core.store import write_whole
from neurosearch.index.export import FACTS, FILE, IDS, digests_of
from neurosearch.index.updates import UNEVEN, update
from neurosearch.retriever.dense import Dense
from neurosearch.task.base import Job, Task


@dataclass(frozen=True)
class Update(Task):
    """`folder`: of `task=export`, with an index; None for outputs/exports/<name>."""

    folder: str | None = None

    def run(self, job: Job) -> None:
        import faiss

        place = Path(self.folder or job.runtime.outputs / "exports" / job.name).resolve()
        dense = job.retriever
        if not isinstance(dense, Dense):
            raise InputError(f"task=update needs retriever=dense, not {dense.label()}")
        facts, ids = _read(place)
        identity = dense.encoder.identity(job.dataset)
        if facts["encoder"] != identity:
            raise InputError(
                f"{place}: its vectors are of encoder {facts['encoder'][:8]}, and the job's is "
                f"{identity[:8]} (one that is trained is another one on other data)"
            )
        catalogue = job.runtime.get(job.dataset).catalogue
        encoder = dense.encoder
        texts = catalogue.all_texts(encoder.fields, encoder.separator)
        now = dict(zip(catalogue.ids.to_list(), digests_of(texts), strict=True))
        before = facts["texts"]
        gone = {name for name, digest in before.items() if now.get(name) != digest}
        rows = [n for n, name in enumerate(now) if before.get(name) != now[name]]
        names = list(now)
        index = faiss.read_index(str(place / FILE))
        if gone:  # refused before anything is encoded
            update(faiss.clone_index(index), ids, gone, np.empty((0, index.d), np.float32), [])
        weights = encoder.trained(job.dataset)
        loaded = None if weights is None else job.runtime.get(weights)
        live = encoder.prefixed(encoder.live(job.runtime, loaded)).for_products()
        vectors = live.encode([texts[row] for row in rows])
        updated = update(index, ids, gone, vectors, [names[row] for row in rows])
        facts |= {"texts": now}
        _replaced(place, index, updated.ids, facts)
        grown = updated.imbalance / max(1e-9, facts["imbalance"])
        print(
            f"{place}: {len(rows):,} products added, {len(gone):,} removed, {index.ntotal:,} there"
        )
        if grown > UNEVEN:
            print(f"its lists are {grown:.1f} times as uneven as when it was built: build it anew")


def _read(place: Path) -> tuple[dict[str, Any], list[str | None]]:
    """What an export says of its index. Raises InputError for another folder."""
    for name in (FILE, IDS, FACTS):
        if not (place / name).is_file():
            raise InputError(
                f"task.folder: {place / name}: no such file; export an index there first "
                "(task=export task.part=index)"
            )
    try:
        facts = json.loads((place / FACTS).read_text("utf-8"))
        ids = json.loads((place / IDS).read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"task.folder: {place}: damaged ({error})") from None
    return facts, ids


def _replaced(place: Path, index: Any, ids: list[str | None], facts: dict[str, Any]) -> None:
    """The folder with another index in it, whole or not at all."""
    import faiss

    partly, old = (place.with_name(f".{place.name}.{word}") for word in ("partly", "old"))
    for folder in (partly, old):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        shutil.copytree(place, partly, ignore=shutil.ignore_patterns(FILE))
        faiss.write_index(index, str(partly / FILE))
        write_whole(partly / IDS, json.dumps(ids).encode())
        write_whole(partly / FACTS, json.dumps(facts).encode())
        place.rename(old)
        partly.rename(place)
    finally:
        shutil.rmtree(partly, ignore_errors=True)
        if old.exists() and not place.exists():
            old.rename(place)
        shutil.rmtree(old, ignore_errors=True)
