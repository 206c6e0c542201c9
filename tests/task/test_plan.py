"""What a plan counts and what it shows."""

from __future__ import annotations

from neurosearch.core.artifact import Artifact
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.hashing import Hashing
from neurosearch.evaluation.gain import LabelGain
from neurosearch.fusion.rrf import RRF
from neurosearch.retriever.bm25 import BM25
from neurosearch.retriever.dense import Dense
from neurosearch.retriever.hybrid import Hybrid
from neurosearch.task.plan import _Tree
from tests.requests import ask

GAIN = LabelGain("esci", {"E": 1, "I": 0}, {"E": 1, "I": 0}, ("E",))


def test_what_is_too_deep_to_be_shown_is_counted(runtime: Runtime, shop: Artifact) -> None:
    dense = Dense(encoder=Hashing())
    members = {"sparse": BM25(engine="bm25s"), "dense": dense}
    target = Hybrid(members, RRF(), GAIN).run(shop, ask())
    trees = {depth: _Tree(depth) for depth in (1, 2, 30)}
    lines = {d: list(tree.lines(target, runtime.store, 1, True)) for d, tree in trees.items()}
    assert len(lines[1]) == 1 and len(lines[1]) < len(lines[2]) < len(lines[30])
    assert trees[1].waiting == trees[2].waiting == trees[30].waiting
    # Of the whole tree each artifact has one line without "see above".
    assert len([line for line in lines[30] if "see above" not in line]) == len(trees[30].waiting)
    runtime.get(dense.run(shop, ask()))
    tree = _Tree(1)
    list(tree.lines(target, runtime.store, 1, True))
    there = tree.walked.keys() - tree.gone
    assert len(tree.waiting) < len(trees[30].waiting) and len(there) > 0
    assert tree.waiting | there == trees[30].waiting
