"""From a request to an answer: the system's list, filtered, cut to a page, with its reasons."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosearch.core.digests import digest
from neurosearch.core.query import Note
from neurosearch.core.stages import timed
from neurosearch.serving.cache import Kept
from neurosearch.serving.products import Filters, Range
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
    is fetched until the page is full, the list ends, or all products were looked at.

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
    while True:
        rows, scores = (found[0] for found in system.live.search([asked.text], k))
        there = (rows >= 0) & (rows != left_out)
        ended = len(rows) < k or bool((rows < 0).any()) or k >= total
        kept = there if mask is None else there & mask[rows]
        if ended or int(kept.sum()) >= needed:
            return rows[kept], scores[kept], rows[there], not ended
        k = min(total, WIDER * k)


def answered(system: System, asked: Asked) -> Kept:
    """Search, and write the answer.

    Args:
        system: that answers.
        asked: the request.

    Returns:
        The answer as JSON without its last brace, and what the log says of it.

    Raises:
        UnknownFieldError: a filter or facet that the catalogue lacks.
    """
    with timed() as clock:
        rows, scores, everything, goes_on = listed(system, asked)
    page = slice(asked.offset, asked.offset + asked.k)
    shown, at = rows[page], scores[page]
    results = system.products.shown(shown)
    reasons = system.explain(asked.text, shown, at) if asked.why and len(shown) else []
    for place, (one, score) in enumerate(zip(results, at, strict=True)):
        one |= {"rank": asked.offset + place + 1, "score": float(score)}
        if system.products.pictured:
            one["image"] = f"/v1/products/{one['product_id']}/image"
        if reasons:
            one["why"] = reasons[place].as_json()
    counted = {}
    for name in asked.facets:
        others = system.products.without(name, asked.filters or {})
        among = everything if others is None else everything[others[everything]]
        counts = system.products.counts(name, among)
        counted[name] = [{"value": value, "count": count} for value, count in counts]
    more = len(rows) > page.stop or goes_on
    notes = system.notes(asked.text)
    body = {
        "system": system.name,
        "label": system.label,
        "fingerprint": system.fingerprint,
        "query": {"text": asked.text, "read": read_text(asked.text, notes), "steps": steps(notes)},
        "results": results,
        "facets": counted,
    }
    facts = {
        "hits": [one["product_id"] for one in results],
        "top_score": float(at[0]) if len(at) else None,
        "category": results[0].get("category") if results else None,
        "more": bool(more and len(shown) == asked.k),
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
