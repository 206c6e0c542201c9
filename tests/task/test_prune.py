"""Pruning keeps what a job's record names and all below it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from filelock import FileLock

from neurosearch.artifact import Artifact
from neurosearch.encoder.hashing import HashingEncoder
from neurosearch.retriever.base import Topics
from neurosearch.retriever.dense import Dense
from neurosearch.runtime import Runtime
from neurosearch.task.prune import remove, unreferenced
from neurosearch.types import Dataset


def test_what_a_record_names_stays(shop: Artifact[Dataset], runtime: Runtime) -> None:
    kept, gone = (Dense(HashingEncoder(dimensions=d)).run(shop, Topics(depth=10)) for d in (64, 32))
    for run in (kept, gone):
        runtime.get(run)
    job = runtime.outputs / "jobs" / "mine" / "one"
    job.mkdir(parents=True)
    record = {"artifacts": [{"kind": kept.kind, "fingerprint": kept.artifact_fingerprint}]}
    (job / "record.json").write_text(json.dumps(record))
    assert list(unreferenced(runtime.outputs, 1.0)) == []  # all of it is young
    found = set(unreferenced(runtime.outputs, 0.0))

    def below(artifact) -> set[Path]:
        own = {runtime.store.folder(artifact)}
        return own.union(*(below(source) for source in artifact.inputs()))

    assert found == below(gone) - below(kept)
    assert runtime.store.folder(shop) not in found  # both stand on it
    assert all(remove(path) for path in found)
    assert not any(path.exists() for path in found)
    again = Runtime(outputs=runtime.outputs, device="cpu", progress=False)
    assert again.get(kept).frame.height == again.get(gone).frame.height  # built anew
    built = [x["fingerprint"] for x in again.store.events if x["event"] == "built"]
    assert gone.artifact_fingerprint in built and kept.artifact_fingerprint not in built


def test_a_build_that_was_given_up_goes_and_one_in_progress_stays(tmp_path: Path) -> None:
    folder = tmp_path / "artifacts" / "run" / ".abc.building"
    folder.mkdir(parents=True)
    os.utime(folder, (0, 0))
    assert list(unreferenced(tmp_path, 24.0)) == [folder]
    with FileLock(str(folder.parent / ".abc.lock")):
        assert not remove(folder)
    assert folder.exists()
    assert remove(folder) and not folder.exists()
