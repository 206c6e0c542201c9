"""An index as files that FAISS reads, with what says whose vectors they are."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from neurosearch.core.artifact import Artifact
from neurosearch.core.exportable import Exportable
from neurosearch.core.runtime import Runtime
from neurosearch.core.store import write_whole
from neurosearch.core.types import Dataset
from neurosearch.core.vectors import Embeddings
from neurosearch.index.updates import imbalance

if TYPE_CHECKING:
    from neurosearch.index.live import LiveIndex

FILE, IDS, FACTS = "index.faiss", "ids.json", "index.json"


def exportable(
    artifact: Artifact[LiveIndex],
    label: str,
    embeddings: Artifact[Embeddings],
    data: Artifact[Dataset],
) -> Exportable:
    """The FAISS file, the ids of its vectors, and digests of the texts they are of.

    Args:
        artifact: the index.
        label: of its recipe.
        embeddings: that it holds.
        data: whose products they are.

    Returns:
        What `task=export` writes.
    """

    def write(folder: Path, runtime: Runtime) -> None:
        source = runtime.store.ensure(artifact)
        for path in source.iterdir():
            if path.is_dir():  # an index of another library
                shutil.copytree(path, folder / path.name)
            elif path.name == FILE:
                shutil.copyfile(path, folder / FILE)
        rows, ids = runtime.get(artifact).rows, runtime.get(data).catalogue.ids
        shown = ids if rows is None else ids.gather(rows)
        write_whole(folder / IDS, json.dumps(shown.to_list()).encode())
        encoder = getattr(embeddings, "encoder", None)
        if encoder is not None:  # what `task=update` compares a later catalogue with
            catalogue = runtime.get(data).catalogue
            texts = catalogue.all_texts(encoder.fields, encoder.separator)
            known = dict(zip(catalogue.ids.to_list(), digests_of(texts), strict=True))
            live = runtime.get(artifact)
            facts = {"encoder": live.encoder, "imbalance": imbalance(live.index)}
            content = {**facts, "texts": {name: known[name] for name in shown.to_list()}}
            write_whole(folder / FACTS, json.dumps(content).encode())

    lines = (
        "import faiss, json",
        "",
        f'index = faiss.read_index("this/folder/{FILE}")',
        'ids = json.load(open("this/folder/ids.json"))',
        "scores, rows = index.search(query_vectors, 10)  # vectors of the encoder",
        "products = [[ids[row] for row in best if row >= 0] for best in rows]",
    )
    return Exportable(f"Index: {label}", "faiss", "", lines, write, is_trained=False)


def digests_of(texts: list[str]) -> list[str]:
    """Short digests, by which a changed text is known.

    Args:
        texts: N texts.

    Returns:
        N hex digests of 8 bytes.
    """
    return [hashlib.blake2b(text.encode(), digest_size=8).hexdigest() for text in texts]
