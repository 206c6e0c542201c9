"""Training: whatever the moment of a kill, the best weights and the curve are the same."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from neurosearch.core.runtime import Runtime
from neurosearch.training.curves import curves_of
from neurosearch.training.module import TrainingModule
from neurosearch.training.progress import MONITOR
from neurosearch.training.resume import resume_point
from neurosearch.training.schedule import Schedule
from neurosearch.training.trainer import fit

STEPS = 8
# By the number of steps done: the best is in the middle, and follows a worse one.
SCORES = {2: 0.3, 4: 0.9, 6: 0.1, 8: 0.5}


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the program handles it."""


class Line(TrainingModule):
    """One weight that learns; its score is looked up, so that the best is known by hand."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3))
        self.schedule, self.steps = schedule, STEPS

    def training_step(self, step: int, batch_idx: int):
        torch.manual_seed(step)
        loss = (self.weight - torch.rand(3)).square().sum()
        self.log("loss", loss.detach())
        return loss

    def validation(self) -> dict[str, float]:
        return {MONITOR: SCORES[int(self.trainer.global_step)]}


def train(folder: Path, patience: int = 0, seconds: float = 0.0) -> tuple[list[float], dict, str]:
    """Final weights, what happened, and the curve's file."""
    folder.mkdir(exist_ok=True)
    runtime = Runtime(folder / "o", device="cpu", progress=False, checkpoint_seconds=seconds)
    schedule = Schedule(epochs=1, lr=0.1, warmup=0, validations=4, patience=patience)
    module = Line(schedule)
    outcome = fit(module, folder, runtime)
    return module.weight.tolist(), outcome, (folder / "curves.csv").read_text()


class Writes:
    """Counts what reaches the disk in a training; dies at one of them: before it, or half-way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, die_at: int = -1, torn: bool = False):
        self.count, self._die_at, self._torn = 0, die_at, torn
        save, rename, unlink = torch.save, Path.replace, Path.unlink
        monkeypatch.setattr(torch, "save", lambda x, path: self._do(save, x, path))
        monkeypatch.setattr(Path, "replace", lambda path, to: self._do(rename, path, to))
        monkeypatch.setattr(Path, "unlink", lambda path, **k: self._do(unlink, path, **k))

    def _do(self, write, *arguments, **options):
        self.count += 1
        if self.count - 1 == self._die_at:
            path = arguments[-1]
            if self._torn and isinstance(path, Path) and not path.exists():
                path.write_bytes(b"PK\x03\x04 half of it")
            raise Killed
        return write(*arguments, **options)


def kill_in_step_5(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Line.training_step

    def dying(self, number, batch_idx):
        if number == 5:
            raise Killed
        return step(self, number, batch_idx)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Line, "training_step", dying)
        train(folder)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[float], dict, str]:
    return train(tmp_path_factory.mktemp("whole"))


def test_the_best_validation_wins_and_the_last_step_is_one(uninterrupted) -> None:
    weights, outcome, curve = uninterrupted
    assert outcome[f"best {MONITOR}"] == 0.9 and outcome["steps"] == STEPS
    # By hand: AdamW's first four steps (lr .1, .0875, .075, .0625) towards random targets.
    parameter = torch.nn.Parameter(torch.zeros(3))
    adam = torch.optim.AdamW([parameter], lr=0.1, weight_decay=0.0)
    for step in range(4):
        adam.param_groups[0]["lr"] = 0.1 * (1 if step == 0 else 1 - (step - 1) / (STEPS - 1))
        torch.manual_seed(step)
        loss = (parameter - torch.rand(3)).square().sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert weights == pytest.approx(parameter.tolist(), abs=1e-6)
    lines = curve.splitlines()
    assert lines[0] == f"step,{MONITOR},loss" and len(lines) == 1 + STEPS
    assert [line.split(",")[1] for line in lines[2::2]] == ["0.3", "0.9", "0.1", "0.5"]


def test_a_kill_at_any_write_changes_nothing(uninterrupted, tmp_path: Path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        writes = Writes(patch)
        train(tmp_path / "counted")
    assert writes.count > 25  # a resume point a step, the best weights, and what they replace
    for moment in range(writes.count):
        folder = tmp_path / f"killed{moment}"
        with monkeypatch.context() as patch, pytest.raises(Killed):
            Writes(patch, moment, torn=moment % 2 == 0)
            train(folder)
        weights, outcome, curve = train(folder)
        assert weights == uninterrupted[0], moment
        assert curve == uninterrupted[2], moment
        assert outcome[f"best {MONITOR}"] == 0.9
        assert not (folder / "checkpoints").exists()


def test_it_resumes_at_the_last_save(tmp_path: Path, monkeypatch, uninterrupted) -> None:
    kill_in_step_5(tmp_path, monkeypatch)
    assert resume_point(tmp_path / "checkpoints")[1] == 5
    assert train(tmp_path)[1]["resumed at"] == 5


@pytest.mark.parametrize("what", ["resume-*.ckpt", "best-*.pt"])
def test_a_flipped_bit_is_a_warning_and_a_new_start(
    what: str, tmp_path: Path, monkeypatch, caplog, uninterrupted
) -> None:
    kill_in_step_5(tmp_path, monkeypatch)
    (path,) = (tmp_path / "checkpoints").glob(what)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING, "neurosearch"):
        weights, outcome, curve = train(tmp_path)
    assert "can't be used" in caplog.text and "the training starts again" in caplog.text
    assert (weights, curve, outcome["resumed at"]) == (uninterrupted[0], uninterrupted[2], 0)


def test_no_code_runs_from_a_resume_point(tmp_path: Path, caplog) -> None:
    from neurosearch.core.digests import file_digest

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "touched",))

    folder = tmp_path / "checkpoints"
    folder.mkdir()
    torch.save({"global_step": 3, "callbacks": Evil()}, folder / "x")
    (folder / "x").rename(folder / f"resume-000000003-{file_digest(folder / 'x')}.ckpt")
    assert resume_point(folder) == (None, 0)
    assert not (tmp_path / "touched").exists()


def test_patience_ends_it(tmp_path: Path) -> None:
    _, outcome, _ = train(tmp_path, patience=1)
    assert outcome["steps"] == 6  # .3, .9, then .1 is no better
    points = curves_of(tmp_path / "curves.csv")[MONITOR]
    assert points == [(1.0, 0.3), (3.0, 0.9), (5.0, 0.1)]


@pytest.mark.parametrize(
    "validations, steps, expected",
    [(4, 8, {2, 4, 6, 8}), (4, 10, {2, 5, 8, 10}), (4, 2, {1, 2}), (1, 7, {7})],
)
def test_validations_are_spread_evenly(validations: int, steps: int, expected: set[int]) -> None:
    assert Schedule(validations=validations).validation_steps(steps) == expected
