"""BM25 in Lucene, through Anserini's jar, in processes of their own.

The JVM never meets this process's threads or forks. Anserini's `IndexCollection` writes the index;
workers that keep it open answer (`lucene_search.py`), one a CPU thread for a batch. Tokens are ours
(`Analyzer`), Lucene only splits at white space, so both engines score the same terms. Scores: idf
ln(1 + (N - n + .5)/(n + .5)), tf f/(f + K), summed over fields with their boosts; lengths are
stored in one byte.

Scores are Lucene's own float32: Anserini's searchers round them and lower ties by 1e-6. A document
is named by its product's place in descending order of product ids, and equal scores come in
ascending order of these names, so ties are broken as trec_eval breaks them, at any depth.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import TEXT_FIELDS, Catalogue, Dataset
from neurosearch.query.analyzer import Analyzer, Tokenizer
from neurosearch.query.java import run_java
from neurosearch.retriever.lucene_search import CONTENTS, EXPANSION, ROWS, LuceneWorker


@dataclass(frozen=True)
class LuceneIndex(Artifact[Path]):
    """A Lucene index of `contents` and of any single `fields`; documents are row numbers.

    `added`: one text a product, for the field `expansion`.
    """

    kind: ClassVar[str] = "lucene"
    data: Artifact[Dataset]
    analyzer: Analyzer
    fields: tuple[str, ...]
    added: Artifact[list[str]] | None = None

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        catalogue = runtime.get(self.data).catalogue
        tokenizer = self.analyzer.tokenizer()
        names = [f"{place:09d}" for place in descending_places(catalogue)]
        added = None if self.added is None else runtime.get(self.added)
        empty, row = 0, 0
        scratch = folder / "documents"
        scratch.mkdir()
        # Many files, so that every indexing thread has one.
        with runtime.progressing("tokens for Lucene", len(catalogue)) as done:
            for number, frame in enumerate(catalogue.batches(TEXT_FIELDS)):
                with (scratch / f"{number:06d}.jsonl").open("w") as out:
                    for texts in frame.iter_rows(named=True):
                        document = document_tokens(texts, self.fields, tokenizer)
                        if added is not None:
                            document[EXPANSION] = " ".join(tokenizer.tokens(added[row]))
                        empty += not any(document.values())
                        out.write(json.dumps({"id": names[row], **document}) + "\n")
                        row += 1
                done(frame.height)
        fields = [*self.fields, *([] if added is None else [EXPANSION])]
        extra = ["-fields", *fields] if fields else []
        run_java(
            "io.anserini.index.IndexCollection",
            *("-collection", "JsonCollection", "-input", str(scratch)),
            *("-index", str(folder / "index"), "-pretokenized", "-optimize"),
            *("-generator", "DefaultLuceneDocumentGenerator", "-memoryBuffer", "512"),
            *("-threads", str(runtime.cpu_threads), *extra),
            memory=runtime.java_memory,
        )
        shutil.rmtree(scratch)
        np.save(folder / ROWS, catalogue.rows_by_id[::-1])
        if row > empty:
            _check_count(folder / "index", row - empty, runtime)
        return {"products": row, "without any token": empty}

    def load(self, folder: Path) -> Path:
        return folder / "index"


def descending_places(catalogue: Catalogue) -> np.ndarray:
    """N int64: each row's place in descending order of product ids."""
    places: np.ndarray = len(catalogue) - 1 - catalogue.id_order
    return places


def _check_count(index: Path, wanted: int, runtime: Runtime) -> None:
    """Raise InputError where the index can't be opened or has not all documents.

    Anserini ends well where a disk is full, and where it can't read a document.
    """
    try:
        with LuceneWorker(index, runtime.java_memory) as worker:
            count = worker.count()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"{index.parent}: Lucene's index can't be opened ({reason})") from None
    if count != wanted:
        message = f"Lucene's index holds {count:,} of {wanted:,} products: is the disk full?"
        raise InputError(f"{index.parent}: {message}")


def document_tokens(
    texts: Mapping[str, str | None], fields: Sequence[str], tokenizer: Tokenizer
) -> dict[str, str]:
    """Space-separated tokens of each field and of `contents`."""
    everything = " ".join(text for text in texts.values() if text)
    document = {CONTENTS: " ".join(tokenizer.tokens(everything))}
    for name in fields:
        document[name] = " ".join(tokenizer.tokens(texts[name] or ""))
    return document
