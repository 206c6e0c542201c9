"""Pruning keeps what a job's record names and all below it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from filelock import FileLock

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.encoder.hashing import Hashing
from neurosearch.retriever.dense import Dense
from neurosearch.task.prune import is_older, remove, unreferenced
from tests.requests import ask

NAME = "0123456789abcdef01234567"


def test_what_a_record_names_stays(shop: Artifact[Dataset], runtime: Runtime) -> None:
    kept, gone = (Dense(Hashing(dimensions=d)).run(shop, ask(depth=10)) for d in (64, 32))
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
    folder = tmp_path / "artifacts" / "run" / f".{NAME}.building"
    folder.mkdir(parents=True)
    os.utime(folder, (0, 0))
    (tmp_path / "jobs").mkdir()
    assert list(unreferenced(tmp_path, 24.0)) == [folder]
    with FileLock(str(folder.parent / f".{NAME}.lock")):
        assert not remove(folder)
    assert folder.exists()
    assert remove(folder) and not folder.exists()


def test_links_and_what_no_store_made_are_left_alone(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / NAME).mkdir(parents=True)
    kinds = tmp_path / "outputs" / "artifacts"
    (kinds / "run" / "notes").mkdir(parents=True)
    (tmp_path / "outputs" / "jobs").mkdir()
    (kinds / "linked").symlink_to(outside)
    (kinds / "run" / NAME).symlink_to(outside / NAME)
    assert list(unreferenced(tmp_path / "outputs", 0.0)) == []


def test_a_prune_that_was_killed_is_gone_on_with(tmp_path: Path) -> None:
    away = tmp_path / "artifacts" / "run" / f".{NAME}.pruned"
    away.mkdir(parents=True)
    with pytest.raises(InputError, match="jobs can't be read; nothing was deleted"):
        list(unreferenced(tmp_path, 0.0))  # not mounted, say
    (tmp_path / "jobs").mkdir()
    assert list(unreferenced(tmp_path, 0.0)) == [away]
    assert remove(away) and not away.exists()


@pytest.mark.parametrize("broken", ["record", "manifest", "sweep"])
def test_what_cannot_be_read_may_name_anything(
    broken: str, shop: Artifact[Dataset], runtime: Runtime
) -> None:
    run = Dense(Hashing(dimensions=8)).run(shop, ask(depth=10))
    runtime.get(run)
    job = runtime.outputs / "jobs" / "mine" / "one"
    job.mkdir(parents=True)
    named = {"artifacts": [{"kind": run.kind, "fingerprint": run.artifact_fingerprint}]}
    (job / "record.json").write_text(json.dumps(named))
    path = job / "record.json"
    if broken == "manifest":
        path = runtime.store.folder(run) / "manifest.json"
    elif broken == "sweep":
        path = job.parent / ".sweeps" / "ab" / "0001.json"
        path.parent.mkdir(parents=True)
        path.touch()
    path.write_text(path.read_text()[:20])
    with pytest.raises(InputError, match=f"{path} can't be read: .* nothing was deleted"):
        list(unreferenced(runtime.outputs, 0.0))


def test_jobs_behind_a_link_keep_theirs_and_deleted_trials_do_not(
    shop: Artifact[Dataset], runtime: Runtime, tmp_path: Path
) -> None:
    runtime.get(shop)
    named = {"artifacts": [{"kind": shop.kind, "fingerprint": shop.artifact_fingerprint}]}
    away = tmp_path / "away" / "one"
    away.mkdir(parents=True)
    (away / "record.json").write_text(json.dumps(named))
    (away / "round").symlink_to(tmp_path / "away")  # a link that leads back
    jobs = runtime.outputs / "jobs"
    trial = jobs / "search" / ".sweeps" / "study" / "0000-ab" / "0000.json"
    trial.parent.mkdir(parents=True)
    trial.write_text(json.dumps({**named, "folder": str(jobs / "search" / "deleted")}))
    assert list(unreferenced(runtime.outputs, 0.0)) == [runtime.store.folder(shop)]
    (jobs / "mine").symlink_to(tmp_path / "away")
    assert list(unreferenced(runtime.outputs, 0.0)) == []


def test_what_is_reused_is_young(shop: Artifact[Dataset], runtime: Runtime) -> None:
    folder = runtime.store.ensure(shop)
    os.utime(folder, (0, 0))
    assert is_older(folder, 24.0)
    Runtime(outputs=runtime.outputs, device="cpu", progress=False).get(shop)
    assert not is_older(folder, 24.0)


def test_outputs_that_are_not_there_are_said_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"paths\.outputs=.*nowhere: there are no artifacts"):
        list(unreferenced(tmp_path / "nowhere", 0.0))
