"""From a request to an answer: the system's list, filtered, cut to a page, with its reasons."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosearch.core.digests import digest
from neurosearch.core.errors import InputError
from neurosearch.core.filters import Filters, Range
from neurosearch.core.query import Note
from neurosearch.core.stages import Clock, timed
from neurosearch.serving.cache import Kept
from neurosearch.serving.problems import RefusedError
from neurosearch.serving.systems import System

WIDER = 4  # times as many products are fetched as long as filters leave too few


@dataclass(frozen=True)
class Asked:
    """What is asked of a system.

    Attributes:
        text: of the query.
        k: products of the page; `offset`: before it.
        filters: by field.
        facets: fields whose values are counted among the products of the whole list that pass the
            filters on other fields.
        why: explain each product.
        excluded: a product that is left out of the list, such as the one that others resemble.
    """

    text: str
    k: int = 10
    offset: int = 0
    filters: Filters | None = None
    facets: tuple[str, ...] = ()
    why: bool = False
    excluded: str | None = None

    def described(self) -> dict[str, Any]:
        """What makes two requests the same, but for the place of the page.

        Returns:
            JSON-able.
        """
        filters = {
            name: [wanted.least, wanted.most] if isinstance(wanted, Range) else sorted(wanted)
            for name, wanted in sorted((self.filters or {}).items())
        }
        asked = [self.text, self.k, filters, list(self.facets), self.why, self.excluded]
        return {"asked": asked}


def key_of(system: System, asked: Asked) -> str:
    """The key of a kept answer: equal ones have equal answers, whatever index was served before.

    Args:
        system: that answers.
        asked: the request.

    Returns:
        A hex digest.
    """
    return digest([system.name, system.fingerprint, asked.offset, asked.described()])


def listed(system: System, asked: Asked) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """The system's list without what the filters leave out, as deep as the page needs.

    The list is what the system would answer without filters; a product is never moved by one. More
    is fetched until the page is full, the list ends, or all products were looked at. An engine that
    holds the fields filters itself, before it fuses lists.

    Args:
        system: that answers.
        asked: the request.

    Returns:
        Rows and scores, best first; the rows without filters; and whether the list may go on.
    """
    # Facets count the list that the table measured, however short the page is.
    needed = max(asked.offset + asked.k, system.depth if asked.facets else 0)
    mask = system.products.mask(asked.filters or {})
    left_out = -1 if asked.excluded is None else system.products.rows[asked.excluded]
    total = len(system.products)
    k = min(needed + (left_out >= 0), total)
    search = _narrowed(system, asked) or system.live.search
    while True:
        rows, scores = (found[0] for found in search([asked.text], k))
        there = (rows >= 0) & (rows != left_out)
        ended = len(rows) < k or bool((rows < 0).any()) or k >= total
        kept = there if mask is None else there & mask[rows]
        if ended or int(kept.sum()) >= needed:
            return rows[kept], scores[kept], rows[there], not ended
        k = min(total, WIDER * k)


def _narrowed(system: System, asked: Asked) -> Callable[..., Any] | None:
    """A search that filters itself; None where the system has none, or facets count all."""
    filtered = getattr(system.live, "filtered", None)
    if filtered is None or not asked.filters or asked.facets:
        return None
    if not set(asked.filters) <= set(system.live.fields):  # type: ignore[attr-defined]
        return None
    return lambda texts, k: filtered(texts, k, asked.filters)


def answered(system: System, asked: Asked) -> Kept:
    """Search, and write the answer.

    Args:
        system: that answers.
        asked: the request.

    Returns:
        The answer and its facts.

    Raises:
        UnknownFieldError: a filter or facet that the catalogue lacks.
    """
    with timed() as clock:
        rows, scores, everything, goes_on = listed(system, asked)
    page = slice(asked.offset, asked.offset + asked.k)
    shown, at = rows[page], scores[page]
    results = results_of(system, shown, at, asked.offset)
    reasons = system.explain(asked.text, shown, at) if asked.why and len(shown) else []
    for one, reason in zip(results, reasons, strict=False):
        one["why"] = reason.as_json()
    counted = {}
    for name in asked.facets:
        others = system.products.without(name, asked.filters or {})
        among = everything if others is None else everything[others[everything]]
        counts = system.products.counts(name, among)
        counted[name] = [{"value": value, "count": count} for value, count in counts]
    notes = system.notes(asked.text)
    query = {"text": asked.text, "read": read_text(asked.text, notes), "steps": steps(notes)}
    more = (len(rows) > page.stop or goes_on) and len(shown) == asked.k
    return written(system, query, results, counted, bool(more), clock)


def picture_answer(system: System, picture: bytes, k: int) -> Kept:
    """Search by a picture, and write the answer.

    Args:
        system: that answers.
        picture: PNG or JPEG.
        k: products.

    Returns:
        The answer and its facts.

    Raises:
        RefusedError: the system's index holds no vectors of pictures.
    """
    if system.by_picture is None:
        raise RefusedError(422, "this system's products were not encoded by their pictures")
    with timed() as clock:
        try:
            rows, scores = system.by_picture.search(picture, k)
        except InputError as error:
            raise RefusedError(415, str(error)) from None
    query = {"text": "", "read": "", "steps": []}
    return written(system, query, results_of(system, rows, scores), {}, False, clock)


def results_of(
    system: System, rows: np.ndarray, scores: np.ndarray, before: int = 0
) -> list[dict[str, Any]]:
    """Products of a page as an answer has them.

    Args:
        system: that answers.
        rows, scores: of the products, best first.
        before: products on the pages before.

    Returns:
        One dictionary a product.
    """
    results = system.products.shown(rows)
    for rank, (one, score) in enumerate(zip(results, scores, strict=True), before + 1):
        one |= {"rank": rank, "score": float(score)}
        if system.products.pictured:
            one["image"] = f"/v1/products/{one['product_id']}/image"
    return results


def written(
    system: System,
    query: dict[str, Any],
    results: list[dict[str, Any]],
    facets: dict[str, list[dict[str, Any]]],
    more: bool,
    clock: Clock,
) -> Kept:
    """An answer, ready to be kept.

    Args:
        system: that answers.
        query: as it was read.
        results: of the page.
        facets: values and counts by field.
        more: whether there is a further page.
        clock: of the search.

    Returns:
        The answer as JSON without its last brace, and what the log says of it.
    """
    body = {
        **{"system": system.name, "label": system.label, "fingerprint": system.fingerprint},
        **{"query": query, "results": results, "facets": facets},
    }
    facts = {
        "hits": [one["product_id"] for one in results],
        "top_score": results[0]["score"] if results else None,
        "category": results[0].get("category") if results else None,
        "more": more,
        "stages": {name: round(1000 * s, 3) for name, s in clock.seconds.items()},
    }
    return Kept(json.dumps(body, ensure_ascii=False)[:-1].encode(), facts)


def read_text(text: str, notes: tuple[Note, ...]) -> str:
    """What encoders read in the end.

    Args:
        text: as typed.
        notes: of the steps.

    Returns:
        The text after the last step that changed it.
    """
    changed = [note.after for note in notes if note.after != note.before]
    return changed[-1] if changed else text


def steps(notes: tuple[Note, ...]) -> list[dict[str, str]]:
    """The steps for the reader.

    Args:
        notes: of the steps.

    Returns:
        One dictionary a step.
    """
    return [{"step": note.step, "after": note.after, "why": note.why} for note in notes]


def mixed_answer(bodies: tuple[bytes, bytes], shown: list[str]) -> bytes:
    """The answer whose results are those of two answers, in a given order.

    Args:
        bodies: JSON objects without their last brace.
        shown: product ids.

    Returns:
        A JSON object without its last brace.
    """
    whole, other = (json.loads(body + b"}") for body in bodies)
    by_id = {one["product_id"]: one for one in [*other["results"], *whole["results"]]}
    whole["results"] = [{**by_id[name], "rank": n} for n, name in enumerate(shown, 1)]
    whole["system"], whole["label"] = "interleaved", f"{whole['label']} and {other['label']}"
    return json.dumps(whole, ensure_ascii=False).encode()[:-1]
