"""Protocol `judged`: rank each query's judged products and nothing else (ESCI's Task 1).

Random order already scores high here, so the floor rows matter most. Never in one table with
the `catalogue` protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neurosearch.evaluation.base import Evaluation


@dataclass(frozen=True)
class JudgedProtocol(Evaluation):
    pool: ClassVar[str] = "judged"
