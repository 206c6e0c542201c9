"""`task=export retriever=dense/finetuned`: a part of a system as a folder for other libraries.

Bi-encoders become folders of sentence-transformers (one, or one for each side where the towers
differ), cross-encoders its `CrossEncoder`, ColBERT a folder of PyLate, a generator a T5 of
transformers, an index a FAISS file with the ids of its vectors. A model card (README.md) is written
from what was recorded: the base model, the data, the recipe, the command, and the row of the table
where a job measured this very system.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from neurosearch.core.bounds import setting
from neurosearch.core.command import command_line, masked
from neurosearch.core.digests import files_below
from neurosearch.core.errors import InputError
from neurosearch.core.exportable import Exportable
from neurosearch.core.machine import git_commit, log
from neurosearch.core.store import write_whole
from neurosearch.nn.pretrained import local_folder
from neurosearch.report import markdown
from neurosearch.report.table import make_tables
from neurosearch.task.base import RECORD, Job, Task, build

ONNX = ("fp32", "fp16", "int8")  # of `task.onnx`
FILES = ".exported"  # lists what an export wrote
TAGS = "product-search, neurosearch"  # of a model card: by them an earlier export is known


@dataclass(frozen=True)
class Export(Task):
    """Attributes:
    part: its address in the retriever, such as `encoder` or `members.dense.encoder`; None for the
        only one, or the first that was trained.
    folder: where to; None for outputs/exports/<name>. What is there is replaced.
    """

    part: str | None = None
    folder: str | None = None
    onnx: str | None = setting(None, choices=ONNX)

    def run(self, job: Job) -> None:
        place = Path(self.folder or job.runtime.outputs / "exports" / job.name).resolve()
        _check_place(place)
        request = job.evaluation.request(job.processing)
        part, address = self._chosen(job, job.retriever.exports(job.dataset, request))
        partly = place.with_name(f".{place.name}.partly")
        shutil.rmtree(partly, ignore_errors=True)
        try:
            partly.mkdir(parents=True)
        except OSError as error:
            raise InputError(f"task.folder: {place} can't be made ({error.strerror})") from None
        try:
            part.write(partly, job.runtime)
            if self.onnx is not None:
                self._write_onnx(part, partly, job)
            write_whole(partly / "README.md", _card(job, part, address).encode())
            names = sorted(f.relative_to(partly).as_posix() for f in files_below(partly))
            write_whole(partly / FILES, "".join(f"{name}\n" for name in names).encode())
            shutil.rmtree(place, ignore_errors=True)
            partly.rename(place)
        finally:
            shutil.rmtree(partly, ignore_errors=True)
        log.info("exported: %s (%s, for %s)", place, part.label, part.library)

    def _write_onnx(self, part: Exportable, folder: Path, job: Job) -> None:
        from neurosearch.nn import exchange

        if part.networks is None:
            raise InputError(f"task.onnx={self.onnx}: {part.label} has no network for ONNX")
        assert self.onnx is not None
        for name, network in part.networks(job.runtime).items():
            path, whole = folder / f"{name}.onnx", folder / f"{name}.whole.onnx"
            exchange.write_onnx(network.cpu().float(), whole)
            exchange.check_parity(network, whole)
            if self.onnx == "fp32":
                whole.rename(path)
                continue
            exchange.quantised(whole, path, self.onnx, iter(()))
            whole.unlink()

    def _chosen(self, job: Job, parts: Mapping[str, Exportable]) -> tuple[Exportable, str]:
        """The part that `part` names, and its address. Raises InputError where there is none."""
        if not parts:
            raise InputError(
                f"{job.retriever.label()} can't be exported: bi-encoders, ColBERT, cross-encoders "
                "and T5s that were trained can, and indexes; such as retriever=dense/finetuned"
            )
        if self.part is not None and self.part not in parts:
            raise InputError(f"task.part={self.part!r} is none of {', '.join(parts)}")
        trained = [name for name, part in parts.items() if part.is_trained]
        address = self.part or next(iter(trained or parts))
        others = [name for name in parts if name != address]
        if self.part is None and others:
            log.info("exporting retriever.%s; task.part=… chooses: %s", address, ", ".join(others))
        return parts[address], address


def _check_place(place: Path) -> None:
    """Raise InputError for a folder that holds something else than an earlier export."""
    if place.exists() and not place.is_dir():
        raise InputError(f"task.folder: {place} is a file")
    card = place / "README.md"
    is_ours = card.is_file() and TAGS in card.read_text(encoding="utf-8", errors="replace")
    if place.is_dir() and any(place.iterdir()) and not is_ours:
        raise InputError(f"task.folder: {place} holds other files; name an empty or new folder")
    if is_ours and (place / FILES).is_file():
        known = {*(place / FILES).read_text(encoding="utf-8").splitlines(), FILES}
        there = (file.relative_to(place).as_posix() for file in files_below(place))
        strange = sorted(set(there) - known)
        if strange:
            message = f"{place / strange[0]} is not of the earlier export; move it away"
            raise InputError(f"task.folder: {message}")


def _card(job: Job, part: Exportable, address: str) -> str:
    config = OmegaConf.select(job.config.retriever, address)
    recipe = masked(OmegaConf.to_yaml(config, resolve=True))
    data = f"{job.data.label()}{' (simulated)' if job.data.simulated else ''}"
    lines = ["---", f"library_name: {part.library}"]
    licence = _licence_of(part.base) if part.base else ""
    lines += [f"license: {licence}"] if licence else []
    is_folder = bool(part.base) and Path(part.base).expanduser().is_dir()  # nobody else has it
    lines += [f"base_model: {part.base.partition('@')[0]}"] if part.base and not is_folder else []
    lines += [
        f"tags: [{part.library}, {TAGS}]",
        "---",
        f"# {part.label}",
        "",
        f"Made of {data} by NeuroSearch (commit {git_commit() or 'unknown'}).",
    ]
    base = Path(part.base).name if is_folder else part.base
    named = f" ({licence})" if licence else ""
    lines += [f"The licence of the base model, `{base}`, applies{named}."] if part.base else []
    lines += ["", "```python", *part.example, "```", ""]
    lines += [part.note, ""] if part.note else []
    lines += [
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


def _licence_of(model: str) -> str:
    """What the model card in a model's folder names; empty where it names none."""
    folder = local_folder(model)
    card = None if folder is None else folder / "README.md"
    text = card.read_text("utf-8", errors="replace") if card and card.is_file() else ""
    named = re.search(r"^license:[ \t]*(\S+)$", text, flags=re.M)
    return named.group(1) if named else ""


def _recorded(job: Job) -> dict[str, Any] | None:
    """The newest record of a job whose run is that of this system."""
    request = job.evaluation.request(job.processing)
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
