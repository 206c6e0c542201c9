"""runtime=ddp: two processes on a CPU build what one builds, from the same data seen once."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil
import pytest
from transformers import BertConfig, BertModel

from neurosearch.core.artifact import Artifact
from neurosearch.core.distributed import world
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.hashing import Hashing
from neurosearch.encoder.sentence import Sentence
from neurosearch.generator.dense_prefix import DensePrefix
from neurosearch.generator.t5 import T5
from neurosearch.loss.infonce import InfoNCE
from neurosearch.query.none import NoProcessing
from neurosearch.tokenizer.rqkmeans import RQKMeans
from neurosearch.training.curves import curves_of
from neurosearch.training.schedule import Schedule
from tests.commands import START
from tests.encoder.test_biencoder import MINED, recipe
from tests.encoder.test_colbert import colbert
from tests.generator.test_training import COMMON, GAIN, SMALL
from tests.reranker.test_rerankers import FIRST, cross


@pytest.fixture(scope="module")
def steady_t5(tiny_t5: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny T5 without dropout."""
    folder = tmp_path_factory.mktemp("steady") / "tiny-t5"
    shutil.copytree(tiny_t5, folder)
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**told, "dropout_rate": 0.0}))
    return str(folder)


@pytest.fixture(scope="module")
def steady(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny model without dropout, which processes would draw differently."""
    folder = tmp_path_factory.mktemp("steady") / "tiny-bert"
    shutil.copytree(tiny_model, folder)
    config = BertConfig.from_pretrained(tiny_model)
    config.hidden_dropout_prob = 0.0
    BertModel.from_pretrained(tiny_model, config=config).save_pretrained(folder)
    return str(folder)


def test_two_processes_train_and_encode_as_one(steady: str, shop, tmp_path: Path) -> None:
    schedule = Schedule(epochs=1.0, lr=1e-3, validations=2)
    encoder = recipe(steady, schedule=schedule, loss=InfoNCE(0.1))
    found = []
    for devices in (1, 2):
        runtime = Runtime(
            tmp_path / str(devices), device="cpu", progress=False, threads=2, devices=devices
        )
        if devices == 2:
            runtime.pruner = object()  # of a search: it is asked nothing by several processes
        trained = encoder.trained(shop)
        curves = curves_of(runtime.get(trained) / "curves.csv")
        details = runtime.store.manifest(trained)["details"]
        vectors = np.asarray(runtime.get(encoder.product_embeddings(shop)).vectors)
        found.append((curves, details, vectors))
        assert not list(runtime.outputs.rglob("*.ckpt"))
    (one, alone, vectors), (two, together, spread) = found
    # The same batches, each text once: the losses are the same up to float32's order of sums.
    assert [step for step, _ in one["loss"]] == [step for step, _ in two["loss"]]
    assert [v for _, v in one["loss"]] == pytest.approx([v for _, v in two["loss"]], abs=1e-3)
    assert one["dev nDCG@10"][-1][1] == pytest.approx(two["dev nDCG@10"][-1][1], abs=0.02)
    assert alone["steps"] == together["steps"] and alone["pairs"] == together["pairs"]
    assert vectors.shape == spread.shape
    cosines = (vectors * spread).sum(axis=1)
    assert cosines.min() > 0.999


@dataclass(frozen=True)
class Together(Artifact[Path]):
    """Several trainings, each in a folder, built one after the other by the same processes."""

    kind: ClassVar[str] = "together"
    spreads: ClassVar[bool] = True
    parts: tuple[Artifact[Any], ...]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        for number, part in enumerate(self.parts):
            own = folder / str(number)
            own.mkdir(exist_ok=True)
            part.build(own, runtime)
        return {}

    def inputs(self) -> list[Artifact[Any]]:
        return [source for part in self.parts for source in part.inputs()]

    def load(self, folder: Path) -> Path:
        return folder


def test_other_trainings_are_shared_too(steady: str, steady_t5: str, shop, tmp_path: Path) -> None:
    """Texts with many vectors, pairs, examples: the losses are those of one process."""
    schedule = Schedule(epochs=0.5, lr=1e-3, validations=1)
    ids = RQKMeans(Hashing(dimensions=64), levels=2, codes=16).semantic_ids(shop)
    generator = DensePrefix(
        gain=GAIN,
        encoder=Sentence(model=steady, max_length=16),
        shape=replace(SMALL, dropout=0.0),
        batch_size=63,
        beam=5,
        max_length=16,
        ranking=0.5,
        soft_targets=True,
        schedule=schedule,
    )
    twice = replace(schedule, epochs=2.0)
    parts = {
        "mined": recipe(steady, schedule=twice, negatives=MINED).trained(shop),
        "late interaction": colbert(steady, schedule=schedule, chunk=0).trained(shop),
        "in chunks": colbert(steady, schedule=schedule, chunk=7).trained(shop),
        "cross-encoder": cross(steady, schedule=schedule).trained(shop, NoProcessing(), FIRST),
        "generator": generator.trained(shop, ids),
        "t5": T5(gain=GAIN, model=steady_t5, **COMMON | {"schedule": schedule}).trained(shop, ids),
    }
    folders = []
    for devices in (1, 2):
        runtime = Runtime(
            tmp_path / str(devices), device="cpu", progress=False, threads=2, devices=devices
        )
        folders.append(runtime.get(Together(tuple(parts.values()))))
    for number, name in enumerate(parts):
        curves = []
        for folder in folders:
            assert list((folder / str(number)).glob("*.safetensors")), name
            curves.append(curves_of(folder / str(number) / "curves.csv"))
        # The norm is that of the gradient before it is clipped: it would tell a mean from a sum.
        for metric in ("loss", "gradient norm"):
            one, two = (own[metric] for own in curves)
            assert len(one) > 1 and [step for step, _ in one] == [step for step, _ in two], name
            values = pytest.approx([v for _, v in two], rel=2e-3, abs=1e-3)
            assert [v for _, v in one] == values, name
            assert len({round(v, 4) for _, v in one}) > 1, name


def test_what_one_process_refuses_is_said_once(tiny_model: str, shop, tmp_path: Path) -> None:
    wild = Schedule(epochs=2.0, lr=1e30, clip=1e30, patience=0)
    runtime = Runtime(tmp_path, device="cpu", progress=False, threads=2, devices=2)
    made = recipe(tiny_model, schedule=wild).trained(shop)
    with pytest.raises(InputError, match=r"^training diverged at step \d+"):
        runtime.get(made)
    assert runtime.store.manifest(made) is None


@dataclass(frozen=True)
class Sleeping(Artifact[Path]):
    """Each process writes its number and sleeps."""

    kind: ClassVar[str] = "sleeping"
    spreads: ClassVar[bool] = True
    noted: str

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        Path(self.noted, str(os.getpid())).touch()
        time.sleep(60)
        return {}

    def load(self, folder: Path) -> Path:
        return folder


def _sleep(outputs: Path, noted: Path) -> None:
    Runtime(outputs, device="cpu", progress=False, devices=2).get(Sleeping(str(noted)))


def _runs(noted: Path) -> bool:
    try:
        return psutil.Process(int(noted.name)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_killed_build_leaves_no_process(tmp_path: Path) -> None:
    noted = tmp_path / "noted"
    noted.mkdir()
    builds = multiprocessing.get_context(START).Process(
        target=_sleep, args=(tmp_path / "outputs", noted)
    )
    builds.start()
    end = time.monotonic() + 60
    while len(processes := list(noted.iterdir())) < 2:
        assert time.monotonic() < end and builds.is_alive()
        time.sleep(0.05)
    builds.kill()
    builds.join()
    end = time.monotonic() + 5
    while any(map(_runs, processes)):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_alone_there_is_one_process(tmp_path: Path) -> None:
    assert world() == (0, 1)
    with pytest.raises(InputError, match=r"runtime\.devices must be at least 1, not 0"):
        Runtime(tmp_path, devices=0)
