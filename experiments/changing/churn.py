"""What retraining does to the semantic IDs of older products, and what new products cost.

Run: python experiments/changing/churn.py [overrides...]   (such as data=changing; the default is
     data=changing/home_depot; builds or reuses vectors and IDs below outputs/artifacts, and writes
     results/churn.<data>.md)

A tokenizer that is fitted again numbers its clusters anew. So IDs of older products are compared as
they are, which matters to a decoder that learnt to write them and to tries that hold them, and by
which products share one: the adjusted Rand index (Hubert and Arabie 1985) is 1 for equal groups
under any names, and 0 on average for groups by chance. The control is another seed on the same
products: what two fits differ in where nothing has arrived.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurosearch import app  # noqa: F401  (registers the resolvers of the config)
from neurosearch.core import view
from neurosearch.core.machine import git_commit, hardware
from neurosearch.core.semantic_ids import SemanticIds
from neurosearch.task.base import Job, build
from neurosearch.task.jobs import job_of

RESULTS = Path(__file__).with_name("results")
DATA = "data=changing/home_depot"
TOKENIZERS = {
    "RQ-k-means, 2 × 256": ("tokenizer=rqkmeans", "tokenizer.levels=2"),
    "RQ-k-means, 8 × 1,024": ("tokenizer=rqkmeans", "tokenizer.levels=8", "tokenizer.codes=1024"),
    "hierarchical k-means, 2 × 256": ("tokenizer=hkmeans", "tokenizer.levels=2"),
}
SEEDS = (0, 1, 2)
HEAD = "| tokenizer | refitted | same ID | same first code | Rand, first code | Rand, ID |"


@dataclass(frozen=True)
class Fitted:
    """IDs of the older products of a catalogue, and seconds.

    Attributes:
        ids: N×L codes.
        fit: seconds that fitting the tokenizer took.
        encode, assign: seconds for a thousand products.
    """

    ids: SemanticIds
    fit: float
    encode: float
    assign: float


def fitted(job: Job) -> Fitted:
    """The job's tokenizer, fitted on what its `data.models` says. SystemExit if nothing arrives."""
    tokenizer, runtime, data = build(job.config, "tokenizer"), job.runtime, job.dataset
    states = view.states(data)
    if not states:
        raise SystemExit("no products arrive: it needs data=changing, new_share above 0")
    catalogue = runtime.get(view.products(data)).catalogue
    older = runtime.get(view.products(states[0])).catalogue.ids
    vectors, made = tokenizer.encoder.product_embeddings(data), tokenizer.semantic_ids(data)
    runtime.get(vectors)
    ids = runtime.get(made)
    manifests = [runtime.store.manifest(a) for a in (vectors, made, tokenizer.fitted(data))]
    encode, assign, fit = (float((manifest or {})["seconds"]) for manifest in manifests)
    rows = catalogue.ids.is_in(older.implode()).to_numpy()
    thousands = len(catalogue.ids) / 1000
    mine = SemanticIds(np.asarray(ids.codes)[rows, : ids.semantic], ids.sizes, ids.semantic)
    return Fitted(mine, fit, encode / thousands, assign / thousands)


def compared(one: SemanticIds, other: SemanticIds) -> list[float]:
    """Shares of equal IDs and equal first codes; Rand indexes of first codes and of IDs.

    An index is nan where no two products share anything on either side: the groups are trivial.
    """
    from sklearn.metrics import adjusted_rand_score

    equal = one.codes == other.codes
    rand = []
    for levels in (1, None):
        groups = one.keys(levels), other.keys(levels)
        trivial = all(keys.max() + 1 == len(keys) for keys in groups)
        rand.append(np.nan if trivial else adjusted_rand_score(*groups))
    return [float(equal.all(axis=1).mean()), float(equal[:, 0].mean()), *map(float, rand)]


def shown(values: Sequence[float], digits: int) -> str:
    """A mean over seeds with their standard deviation, or one value; a dash for nan."""
    if np.isnan(values).any():
        return "–"
    texts = [f"{np.mean(values):.{digits}f}"]
    if len(values) > 1:
        texts.append(f"{np.std(values, ddof=1):.{digits}f}")
    return " ± ".join(texts)


def rows_of(name: str, found: dict[tuple[str, int], Fitted], seeds: Sequence[int]) -> list[str]:
    """Two lines of the first table: what new products change, and what another seed does."""
    pairs = {
        "with new products": [(found["kept", s].ids, found["retrained", s].ids) for s in seeds],
        "with another seed": [
            (found["kept", a].ids, found["kept", b].ids)
            for a, b in itertools.combinations(seeds, 2)
        ],
    }
    lines = []
    for what, both in pairs.items():
        if both:
            values = np.array([compared(*pair) for pair in both])
            cells = [shown(list(100 * column), 1) + " %" for column in values[:, :2].T]
            cells += [shown(list(column), 3) for column in values[:, 2:].T]
            lines.append(f"| {name} | {what} | {' | '.join(cells)} |")
    return lines


def main(arguments: Sequence[str]) -> None:
    """Fit each tokenizer before and after the new products arrive, and write the tables."""
    named = any(word.startswith("data=") for word in arguments)
    overrides = [*([] if named else [DATA]), *arguments]
    lines, costs = [], []
    for name, words in TOKENIZERS.items():
        found = {}
        for seed in SEEDS:
            for policy in ("kept", "retrained"):
                own = [*words, f"data.models={policy}", f"seed={seed}"]
                job = job_of(["task=tokenize", *overrides, *own])
                found[policy, seed] = fitted(job)
        lines += rows_of(name, found, SEEDS)
        kept = [found["kept", seed] for seed in SEEDS]
        again = [found["retrained", seed].fit for seed in SEEDS]
        cells = [f"{kept[0].encode:.2f}", shown([one.assign for one in kept], 3), shown(again, 1)]
        costs.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-2], lines[-1], costs[-1], sep="\n", flush=True)
    data = ",".join(filter(None, [job.data.label(), job.data.variant()]))
    text = [f"## IDs of older products after retraining: {data}", ""]
    if job.data.simulated:
        text += ["SIMULATED DATA: these numbers say nothing about real shops.", ""]
    text += [HEAD, "|:---|:---|---:|---:|---:|---:|", *lines, ""]
    text += ["| tokenizer | encode 1,000 (s) | assign 1,000 (s) | fit again (s) |"]
    text += ["|:---|---:|---:|---:|", *costs, ""]
    text.append(
        "Older products alone. Refitted with new products: before and after they arrive, one seed. "
        "With another seed: the same products, each pair of seeds. Rand: adjusted Rand index; – "
        "where each product has an ID of its own. "
        "Seconds: of the whole catalogue, for a thousand of its products.  "
    )
    text.append(
        f"Seeds: {len(SEEDS)}, ± over seeds. Hardware: {hardware()}. Commit: {git_commit()}. "
        f"Command: python experiments/changing/churn.py {' '.join(overrides)}"
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"churn.{data}.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main(sys.argv[1:])
