"""Has the traffic changed? Several features, each by its detector, corrected for their number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from neurosearch.core.errors import InputError
from neurosearch.core.machine import log
from neurosearch.detector.base import LEAST, Detector, Finding, Sample
from neurosearch.monitoring.traffic import numbered, units

WORDS = 300  # most frequent words that are told apart; the others are one
NUMBERS = {"words per query": "words", "score of the first product": "top_score"}


@dataclass(frozen=True)
class Detectors:
    """By what a feature is: numbers, labels or vectors."""

    numbers: Detector
    labels: Detector
    vectors: Detector


@dataclass(frozen=True)
class Drift:
    """A feature's finding.

    Attributes:
        feature: what was compared.
        detector: by what.
        finding: statistic, p-value and null.
        q: the p-value, corrected for the number of features (Benjamini-Hochberg).
        alarm: whether q is at most the level.
    """

    feature: str
    detector: str
    finding: Finding
    q: float
    alarm: bool


Vectors = Callable[[list[str]], np.ndarray]


def drifts(
    reference: pl.DataFrame,
    window: pl.DataFrame,
    detectors: Detectors,
    level: float,
    rng: np.random.Generator,
    vectors: Vectors | None = None,
) -> list[Drift]:
    """Compare a window of the traffic with a reference.

    Args:
        reference, window: one row a query (`traffic.SCHEMA`).
        detectors: of each kind of feature.
        level: of the corrected p-value, at which there is an alarm.
        rng: of the permutations.
        vectors: of query texts; None where there is no encoder.

    Returns:
        One finding a feature; features that are the same for all queries are left out.

    Raises:
        InputError: a side has too few queries.
    """
    from scipy.stats import false_discovery_control

    found = []
    for name, detector, sample in samples(reference, window, detectors, vectors):
        try:
            found.append((name, detector, detector.compare(sample, rng)))
        except InputError as error:
            log.info("%s is not compared: %s", name, error)
    if not found:
        return []
    corrected = false_discovery_control([finding.p for _, _, finding in found])
    return [
        Drift(name, detector.label(), finding, float(q), bool(q <= level))
        for (name, detector, finding), q in zip(found, corrected, strict=True)
    ]


def samples(
    reference: pl.DataFrame,
    window: pl.DataFrame,
    detectors: Detectors,
    vectors: Vectors | None,
) -> Iterator[tuple[str, Detector, Sample]]:
    """What is compared.

    Args:
        reference, window: one row a query.
        detectors: of each kind of feature.
        vectors: of query texts, or None.

    Returns:
        Names, detectors and samples of the features.
    """
    sides = reference, window
    owners = numbered(units(reference, "reference"), units(window, "window"))
    for name, column in NUMBERS.items():
        kept = [side[column].is_not_null().to_numpy() for side in sides]
        values = [side[column].drop_nulls().to_numpy().astype(np.float64) for side in sides]
        if min(map(len, values)) < LEAST:
            log.info("%s is not compared: too few queries have one", name)
            continue
        asked = [owner[there] for owner, there in zip(owners, kept, strict=True)]
        yield name, detectors.numbers, Sample.of(*values, *asked)
    empty = [(side["products"] == 0).to_numpy().astype(np.int64) for side in sides]
    yield "queries without a product", detectors.labels, Sample.of(empty[0], empty[1], *owners)
    if any(side["category"].is_not_null().any() for side in sides):
        named = [side["category"].fill_null("").to_list() for side in sides]
        labels = numbered(*named)
        yield "category of the first product", detectors.labels, Sample.of(*labels, *owners)
    if any(side["text"].is_null().any() for side in sides):
        return  # a log without texts
    texts = [side["text"].to_list() for side in sides]
    yield "words", detectors.labels, words(texts[0], texts[1], owners)
    if vectors is not None:
        pair = [vectors(side) for side in texts]
        yield "query vectors", detectors.vectors, Sample.of(pair[0], pair[1], *owners)


def words(reference: list[str], window: list[str], owners: tuple[np.ndarray, np.ndarray]) -> Sample:
    """The words of all queries, as labels: the most frequent ones, and one for all others.

    Args:
        reference, window: query texts.
        owners: numbers of who asked each.

    Returns:
        A sample of words, each of its query's owner.
    """
    sides = [[text.casefold().split() for text in side] for side in (reference, window)]
    counts = Counter(word for side in sides for text in side for word in text)
    number = {word: n for n, (word, _) in enumerate(counts.most_common(WORDS), 1)}
    labels = [
        np.array([number.get(word, 0) for text in side for word in text], np.int64)
        for side in sides
    ]
    asked = [
        np.repeat(owner, [len(text) for text in side])
        for owner, side in zip(owners, sides, strict=True)
    ]
    return Sample.of(labels[0], labels[1], asked[0], asked[1])
