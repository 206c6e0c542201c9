"""Self-attentive sequential recommendation (Kang and McAuley 2018): the history without a query.

With the softmax over all products instead of one sampled negative, as later work found better.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neurosearch.profile.neural.recipe import Neural


@dataclass(frozen=True)
class SASRec(Neural):
    network: ClassVar[str] = "sasrec"
