"""`task=export retriever=dense/finetuned`: the trained encoder as a folder for other libraries.

Bi-encoders become folders of sentence-transformers, one, or one for each side where the towers
differ. A model card (README.md) is written from what was recorded: the base model, the data, the
recipe, the command, and the row of the table where a job measured this very system.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from neurosearch.core.command import command_line, masked
from neurosearch.core.errors import InputError
from neurosearch.core.machine import git_commit, log
from neurosearch.core.store import write_whole
from neurosearch.report import markdown
from neurosearch.report.table import make_tables
from neurosearch.task.base import RECORD, Job, Task, build


@dataclass(frozen=True)
class Export(Task):
    """`folder`: where to; None for outputs/exports/<name>. What is there is replaced."""

    folder: str | None = None

    def run(self, job: Job) -> None:
        encoder: Any = getattr(job.retriever, "encoder", None)
        if encoder is None or not hasattr(encoder, "export"):
            raise InputError(
                f"{job.retriever.label()} can't be exported: bi-encoders can, such as "
                "retriever=dense/finetuned"
            )
        place = Path(self.folder or job.runtime.outputs / "exports" / job.name)
        _check_place(place)
        partly = place.with_name(f".{place.name}.partly")
        shutil.rmtree(partly, ignore_errors=True)
        partly.mkdir(parents=True)
        try:
            encoder.export(partly, job.dataset, job.runtime)
            write_whole(partly / "README.md", _card(job, encoder).encode())
            shutil.rmtree(place, ignore_errors=True)
            partly.rename(place)
        finally:
            shutil.rmtree(partly, ignore_errors=True)
        log.info("exported: %s", place)


def _check_place(place: Path) -> None:
    """Raise InputError for a folder that holds something else than an earlier export."""
    if place.is_dir() and any(place.iterdir()) and not (place / "README.md").is_file():
        raise InputError(f"task.folder: {place} holds other files; name an empty or new folder")
    if place.exists() and not place.is_dir():
        raise InputError(f"task.folder: {place} is a file")


def _card(job: Job, encoder: Any) -> str:
    recipe = masked(OmegaConf.to_yaml(job.config.retriever.encoder, resolve=True))
    base = getattr(encoder, "model", "")
    data = f"{job.data.label()}{' (simulated)' if job.data.simulated else ''}"
    lines = [
        "---",
        "library_name: sentence-transformers",
        f"base_model: {base}",
        "tags: [sentence-transformers, product-search, neurosearch]",
        "---",
        f"# {encoder.label()}",
        "",
        f"Trained on {data} by NeuroSearch "
        f"(commit {git_commit() or 'unknown'}). The licence of the base model, `{base}`, applies.",
        "",
        "```python",
        "from sentence_transformers import SentenceTransformer",
        "",
        'model = SentenceTransformer("this/folder")',
        "queries = model.encode_query([...])",
        "products = model.encode_document([...])",
        "```",
        "",
        f"Command: `{command_line()}`",
        "",
        "## Recipe",
        "",
        "```yaml",
        recipe.rstrip(),
        "```",
        "",
        "## Measured",
        "",
    ]
    record = _recorded(job)
    if record is None:
        lines.append("No job has measured this system yet; run the command with `task=evaluate`.")
    else:
        (table,) = make_tables([record], "")
        lines.append(markdown.write(table, build(job.config, "report").columns))
    return "\n".join(lines) + "\n"


def _recorded(job: Job) -> dict[str, Any] | None:
    """The newest record of a job whose run is that of this system."""
    request = job.evaluation.request(job.query)
    run = job.retriever.run(job.dataset, request).artifact_fingerprint
    found: list[tuple[float, dict[str, Any]]] = []
    for path in (job.runtime.outputs / "jobs").glob(f"*/*/{RECORD}"):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(record, dict) and record.get("run") == run and record.get("means"):
            found.append((path.stat().st_mtime, {**record, "folder": str(path.parent)}))
    return max(found, key=lambda pair: pair[0])[1] if found else None
