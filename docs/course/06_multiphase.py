# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 6. Multiphase retrieval
#
# **Question.** Semantic IDs sort a catalogue into a tree. Can a search walk down that tree and
# look at a small part of the products only?
#
# **Idea.** Phase 1 compares the query with prefixes (a node stands for the mean direction of its
# products) and keeps the best $p$ of them. Phase 2 scores exactly the products below those
# prefixes. Phase 3, a re-ranker, is optional. With prefixes of one code, this is an IVF index
# whose cells are the first codes. So the honest baseline is IVF with as many cells, tuned with the
# same care.
#
# Paper of the index: Jégou et al., "Product quantization for nearest neighbor search" (2011); of
# prefixes as coarse retrieval: Rajput et al. (2023).
#
# A similar run on the command line (its defaults differ): `ns -m
# retriever=dense,dense/ivf,multiphase`, and the experiment
# [multiphase_probes](../../experiments/multiphase_probes/README.md).

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import neurosearch as ns
from neurosearch.core.retrieval import RetrievalRequest

TOY = os.environ.get("NEUROSEARCH_COURSE") == "toy"  # the size that the tests run
runtime = ns.Runtime(Path(tempfile.mkdtemp()), device="cpu", progress=False)
shop = ns.Shop(n_products=500 if TOY else 20_000, n_queries=60 if TOY else 600, images=False)
data = shop.bound(runtime)
encoder = ns.Sentence()
codes = 16 if TOY else 128
tokenizer = ns.RQKMeans(encoder=encoder, levels=3, codes=codes)

# %% [markdown]
# ## How much is below a prefix?

# %%
ids = np.asarray(runtime.get(tokenizer.semantic_ids(data)).codes)
for length in (1, 2, 3):
    sizes = np.unique(ids[:, :length], axis=0, return_counts=True)[1]
    print(
        f"{length} codes: {len(sizes):6d} prefixes, {sizes.mean():7.1f} products below one, largest {sizes.max()}"
    )

# %% [markdown]
# ## Recall against prefixes that are kept
#
# Ground truth is the exact dense ranking of the dev queries. Both searches use the same vectors,
# so they differ only in what they look at. Where prefixes hold fewer than the 100 products that
# are asked for, the next best join them, so two points at one place do not score equally many
# products.

# %%
request = RetrievalRequest(ns.NoProcessing(), "dev", 100)


def first_ten(system: ns.Dense | ns.Multiphase) -> dict[str, set[str]]:
    run = runtime.get(system.run(data, request)).frame
    ten = run.filter(run["rank"] <= 10)
    return {query[0]: set(part["product_id"]) for query, part in ten.group_by("query_id")}


exact = first_ten(ns.Dense(encoder))


def recall(system: ns.Dense | ns.Multiphase) -> float:
    found = first_ten(system)
    return float(
        np.mean([len(found.get(query, set()) & ten) / len(ten) for query, ten in exact.items()])
    )


budget = [1, 2, 4, 8, 16]
walked = [recall(ns.Multiphase(tokenizer=tokenizer, depth=1, probes=p)) for p in budget]
deeper = [
    recall(ns.Multiphase(tokenizer=tokenizer, depth=2, probes=4 * p, width=p)) for p in budget
]
cells = [recall(ns.Dense(encoder, ns.IVF(cells=codes, probes=p))) for p in budget]

# %%
fig, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
axes.plot(budget, walked, marker="o", label="prefixes of one code")
axes.plot(budget, deeper, marker="o", label="prefixes of two codes (four times as many)")
axes.plot(budget, cells, marker="x", linestyle="--", label="IVF with as many cells")
axes.set(xscale="log", xlabel="first codes (cells) that are kept", ylabel="recall of the exact ten")
axes.legend(fontsize=8)
print("multiphase", np.round(walked, 3), "IVF", np.round(cells, 3))

# %% [markdown]
# The curves of one code and of IVF lie close together, because they are the same idea: what
# differs is how the cells were fitted. An advantage that shows up against a badly tuned IVF is no
# advantage.
#
# ## As rows of a table, with the ranking's quality

# %%
few, many = 2, 8
table = ns.compare(
    {
        "exact": ns.Dense(encoder),
        f"multiphase, {few}": ns.Multiphase(tokenizer=tokenizer, probes=few),
        f"multiphase, {many}": ns.Multiphase(tokenizer=tokenizer, probes=many),
        f"IVF, {few}": ns.Dense(encoder, ns.IVF(cells=codes, probes=few)),
    },
    shop,
    baseline="exact",
    runtime=runtime,
    progress=False,
)
table

# %% [markdown]
# ## Exercises
#
# 1. With every prefix probed, multiphase must equal exact search. Check it.
# 2. A tree has 128 first codes with 128 second codes each. A search keeps 8 first codes, then 16
#    prefixes of two. With how many nodes is the query compared, and how many of 20,000 products
#    are scored if all are of equal size (and none join them)?
# 3. Why is an IVF's largest cell what determines its tail latency?

# %%
everything = recall(ns.Multiphase(tokenizer=tokenizer, depth=1, probes=codes))
assert everything == 1.0, everything
compared = 128 + 8 * 128
scored = 16 * 20_000 / 128**2
assert compared == 1152 and round(scored) == 20
print("1. recall with all prefixes:", everything)
print(f"2. {compared} nodes, about {scored:.0f} products")
print(
    "3. a query whose probes include it scores all of it; the mean cell says nothing about that query"
)

# %% [markdown]
# **In production.** Prefixes can be written by a generator from the query's words (`generator@…`),
# which needs no query vector in phase 1; and they are keys, so a shop can shard by them. New
# products get the prefix of frozen codebooks (chapter 5).

# %%
answers = {
    "recall of one prefix": walked[0],
    "recall of sixteen": walked[-1],
    "recall of IVF with one cell": cells[0],
}
answers
