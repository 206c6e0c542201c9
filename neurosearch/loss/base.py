"""The loss role: one shared score-and-mask core, one file an objective.

Every objective sees the same things: unit vectors of B queries and M documents, and for each
of the B×M pairs whether it is a positive, whether it must not count as a negative, what it is
worth where it was judged, and what a teacher says where it was asked. The first B documents
are the queries' own positives, in order; the rest are hard negatives.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from neurosearch.core.bounds import Bounds
from neurosearch.core.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Targets:
    """What is known of the B×M pairs of a batch.

    Attributes:
        positive: bool; the own document of each query, and any other that is relevant to it.
        refused: bool; pairs not used as negatives (false-negative mask), positives excluded.
        gain: float, in [0, 1]; NaN where the pair was not judged.
        teacher: float; a teacher's score, NaN where it was not asked; None without a teacher.
    """

    positive: Tensor
    refused: Tensor
    gain: Tensor
    teacher: Tensor | None = None

    @property
    def negative(self) -> Tensor:
        """bool B×M: pairs that an objective may push apart."""
        return ~(self.positive | self.refused)


@dataclass(frozen=True)
class Loss(Recipe):
    """Base of losses. Their numbers (temperatures, scales, margins) are all above 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for spec in fields(self):
            if spec.type == "float":
                refusal = Bounds(above=0).refusal(getattr(self, spec.name))
                if refusal:
                    raise self.error(spec.name, refusal)

    @property
    def needs_teacher(self) -> bool:
        """Whether it learns from a teacher's scores."""
        return False

    @property
    def by_query(self) -> bool:
        """Whether it is the mean of a number for each query, of its own row of the targets alone.

        The loss of some queries is then that of a batch whose other queries are left out.
        """
        return False

    def check(self, dimensions: int) -> None:
        """Raise InputError where vectors of so many dimensions are not enough.

        Args:
            dimensions: of the vectors.
        """

    def objective(self) -> nn.Module:
        """A module: forward(queries B×D, documents M×D, targets) -> scalar.

        Returns:
            A torch module.
        """
        raise TypeError(f"{type(self).__name__} does not say what it minimises")


def cosines(queries: Any, documents: Any) -> Tensor:
    """B×M inner products of unit vectors, in float32 whatever the inputs' precision.

    Texts of many vectors (see `nn.ragged.Ragged`) compute their own similarity.

    Args:
        queries: B×D, or `Ragged`.
        documents: M×D, or `Ragged`.

    Returns:
        B×M float32.
    """
    if hasattr(queries, "late_interaction"):
        scores: Tensor = queries.late_interaction(documents)
        return scores
    similarity: Tensor = queries.float() @ documents.float().T
    return similarity


def own_scores(scores: Tensor) -> Tensor:
    """B: each query's score of its own positive.

    Args:
        scores: B×M.

    Returns:
        B scores.
    """
    return scores.diagonal()[: len(scores)]


def masked(logits: Tensor, keep: Tensor) -> Tensor:
    """Logits with -inf wherever `keep` is false: dropped before any softmax.

    Args:
        logits: of any shape.
        keep: bool, of the same shape.

    Returns:
        The same shape.
    """
    return logits.masked_fill(~keep, float("-inf"))


def mean_of(values: Tensor, where: Tensor) -> Tensor:
    """Mean of `values` over `where`; a zero that keeps the graph where there is none.

    Args:
        values: of any shape.
        where: bool, of the same shape.

    Returns:
        A scalar.
    """
    chosen = values.masked_fill(~where, 0.0)
    return chosen.sum() / where.sum().clamp(min=1)


def list_cross_entropy(wanted: Tensor, logits: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy of softmax(logits) to softmax(wanted), over each query's known documents.

    Args:
        wanted, logits: B×M.
        known: B×M bool.

    Returns:
        A scalar: the mean over the queries that have two known documents or more.
    """
    rows = known.sum(dim=1) > 1
    inside = known[rows]
    target = masked(wanted.nan_to_num()[rows], inside).softmax(dim=1)
    each = masked(logits[rows], inside).log_softmax(dim=1).masked_fill(~inside, 0.0)
    return -(target * each).sum() / rows.sum().clamp(min=1)


def functional(function: Any) -> nn.Module:
    """A parameterless module of a function (queries, documents, targets) -> scalar.

    Args:
        function: (queries, documents, targets) -> scalar.

    Returns:
        A torch module.
    """
    from torch import nn

    class Functional(nn.Module):
        def forward(self, queries: Tensor, documents: Tensor, targets: Targets) -> Tensor:
            result: Tensor = function(queries, documents, targets)
            return result

    return Functional()
