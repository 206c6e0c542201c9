"""Ending trainings that a search has no hope for.

Hydra's Optuna sweeper knows a trial's value only when its job is done. So the job looks itself up
in the study, by its overrides, tells it the dev score at each validation, and ends where Optuna's
median rule says so. An ended training is not stored as finished: run alone, it resumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neurosearch.core.errors import InputError


class Pruned(Exception):  # noqa: N818 (no error)
    """A training that was ended; `value`: its last dev score."""

    def __init__(self, value: float, step: int) -> None:
        super().__init__(f"pruned at step {step}, with {value:.4f} on dev")
        self.value = value


@dataclass(frozen=True)
class Pruner:
    """Attributes:
    storage: URL of the study's database.
    study: its name.
    startup: trials that are never pruned, the first.
    warmup: steps in which none is pruned.
    """

    storage: str
    study: str
    startup: int = 5
    warmup: int = 0

    def report(self, step: int, value: float) -> None:
        """Tell the study. Raises Pruned where the trial is to end, InputError without a study."""
        from hydra.core.hydra_config import HydraConfig

        trial = self.trial(set(HydraConfig.get().overrides.task))
        if trial is None:  # a job that no search began
            return
        trial.report(value, step)
        if trial.should_prune():
            raise Pruned(value, step)

    def trial(self, overrides: set[str]) -> Any:
        """The running trial whose parameters are among a job's overrides; None where none is."""
        import optuna

        rule = optuna.pruners.MedianPruner(self.startup, self.warmup)
        try:
            study = optuna.load_study(study_name=self.study, storage=self.storage, pruner=rule)
        except KeyError:
            raise InputError(
                f"runtime.pruner.study={self.study!r} is not in {self.storage}"
            ) from None
        for trial in reversed(study.get_trials(deepcopy=False)):
            message = {f"{name}={value}" for name, value in trial.params.items()}
            running = trial.state == optuna.trial.TrialState.RUNNING
            if running and message and message <= overrides:
                return optuna.trial.Trial(study, trial._trial_id)
        return None
