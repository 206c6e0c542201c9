"""`task=explain task.text="red mixer"`: why the system's best products stand where they stand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurosearch.core.bounds import setting
from neurosearch.core.store import write_whole
from neurosearch.explainer.base import Explainer, Explanation, Part, Scene
from neurosearch.explainer.extractive import Extractive
from neurosearch.report import pictures
from neurosearch.report.pages import rendered
from neurosearch.serving.answer import changes, live_request
from neurosearch.task.base import Job, Task

TEMPLATE = Path(pictures.__file__).with_name("explain.html.j2")
PRINTED = 6  # parts of a product


@dataclass(frozen=True)
class Explain(Task):
    """`text`: of the query. `k`: products that are explained."""

    text: str
    explainer: Explainer = field(default_factory=Extractive)
    k: int = setting(5, least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.text.strip():
            raise self.error("text", "is empty: say task.text='red mixer', for example")

    def run(self, job: Job) -> None:
        found = explained(job, self.explainer, self.text, self.k)
        print(f"{job.retriever.label()}: {self.text}")
        for step in found["query"]:
            print(f"  {step}")
        for product in found["products"]:
            self._print(product)
        for line in found["statements"]:
            print(line)
        if not found["products"]:
            print("no product has a word of the query")
        folder = job.folder / "explain"
        folder.mkdir(parents=True, exist_ok=True)
        stored = {**found, "products": [_stored(product) for product in found["products"]]}
        write_whole(folder / "explanation.json", json.dumps(stored, indent=1).encode())
        write_whole(folder / "index.html", page(found, job).encode())
        job.runtime.say(f"to look at: {folder / 'index.html'}")

    def _print(self, product: dict[str, Any]) -> None:
        why: Explanation = product["why"]
        exact = "" if why.is_exact else "  (approximate)"
        print(
            f"{product['rank']:>4}  {why.score:>9.4f}  {product['id']}  {product['title']}{exact}"
        )
        if why.constant:
            print(f"{'':>6}{why.constant:>+9.4f}  constant")
        for part in why.parts[:PRINTED]:
            print(f"{'':>6}{part.value:>+9.4f}  {part.name}  {part.note}".rstrip())
        rest = why.parts[PRINTED:]
        if rest:
            print(f"{'':>6}{sum(part.value for part in rest):>+9.4f}  {len(rest)} more parts")


def explained(job: Job, explainer: Explainer, text: str, k: int) -> dict[str, Any]:
    """The best products of a job's system for a query, and why.

    Args:
        job: the composed configuration.
        explainer: of the answers.
        text: as typed.
        k: products.

    Returns:
        `text`, `query` (what steps changed), `products` (`rank`, `id`, `title`, `why`), and
        `statements`, what the explainer says in sentences.
    """
    runtime, dataset = job.runtime, job.runtime.get(job.dataset)
    scene = Scene(job.dataset, live_request(dataset, job.processing, k), runtime)
    with explainer.opened(job.retriever, scene) as live:
        rows, scores = live.searcher.search([text], k)
        kept = rows[0] >= 0
        whys = live.explain(text, rows[0][kept], scores[0][kept])
        statements = explainer.statements(text, rows[0][kept], whys, scene)
    titles = dataset.catalogue.all_texts(("title",))
    products = [
        {"rank": rank, "id": dataset.catalogue.ids[int(row)], "title": titles[row], "why": why}
        for rank, (row, why) in enumerate(zip(rows[0][kept], whys, strict=True), 1)
    ]
    steps = changes(job.processing, text, runtime)
    return {"text": text, "query": steps, "products": products, "statements": statements}


def _stored(product: dict[str, Any]) -> dict[str, Any]:
    return {**product, "why": product["why"].as_json()}


def page(found: dict[str, Any], job: Job) -> str:
    """The explanations as a page of their own, without scripts.

    Args:
        found: see `explained`.
        job: whose system it was.

    Returns:
        HTML.
    """
    products = [
        {**product, "rows": list(_rows(product["why"])), "exact": product["why"].is_exact}
        for product in found["products"]
    ]
    title = f"{job.retriever.label()} on {job.data.label()}"
    return rendered(TEMPLATE, **{**found, "products": products}, title=title)


def _rows(why: Explanation, depth: int = 0) -> Iterator[dict[str, Any]]:
    """The parts of an explanation, each with its depth and its share of the largest one."""
    most = max((abs(part.value) for part in why.parts), default=1.0) or 1.0
    if why.constant:
        yield _row(Part("constant", why.constant), depth, most)
    for part in why.parts:
        yield _row(part, depth, most)
        for below in part.parts:
            yield _row(below, depth + 1, most)
        if part.of is not None:
            yield from _rows(part.of, depth + 1)


def _row(part: Part, depth: int, most: float) -> dict[str, Any]:
    width = round(100 * min(1.0, abs(part.value) / most), 1)
    return {
        "name": part.name,
        "value": f"{part.value:+.4f}",
        "note": part.note,
        "depth": depth,
        "width": width,
        "negative": part.value < 0,
    }
