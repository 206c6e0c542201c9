"""The seal on the judgments of the test split: only artifacts of `evaluation` may open them."""

from __future__ import annotations

from typing import Any

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import SealedError

SEALED = "neurosearch.evaluation"  # the one package that may open the test split's judgments


def is_evaluation(artifact: Artifact[Any]) -> bool:
    """Whether an artifact is of the package that may open the test split's judgments."""
    return type(artifact).__module__.startswith(f"{SEALED}.")


def opens_test(artifact: Artifact[Any]) -> bool:
    """Whether an artifact gives away judgments of the test split: a view, or what was made of one.

    Runs and models can't: the store has refused them. Metrics and ideal lists of `evaluation` can.
    """
    if artifact.sealed:
        return True
    return is_evaluation(artifact) and any(opens_test(source) for source in artifact.inputs())


def check_seal(artifact: Artifact[Any]) -> None:
    """Raise InputError where an artifact outside `evaluation` asks for the test split's judgments.

    Whatever trains, tunes, mines, selects or stops is refused here.
    """
    if not is_evaluation(artifact) and any(opens_test(source) for source in artifact.inputs()):
        what = f"{artifact.kind} ({type(artifact).__name__})"
        raise SealedError(
            f"{what} asks for the judgments of the test split: they are sealed, and open to "
            "the evaluation alone; use train or dev"
        )
