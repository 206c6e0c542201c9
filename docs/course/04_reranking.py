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
# # 4. Re-ranking
#
# **Question.** A fast retriever finds 100 candidates. How much can a slower, better model gain by
# ordering them again, and what does it cost?
#
# **Idea.** Retrieval and ranking are different jobs. The first stage must not lose good products
# (recall); the second must order few products well (nDCG@10), so it may read query and product
# *together*. LambdaMART does it with features and trees, a cross-encoder with a transformer. What
# the first stage misses, no re-ranker brings back: recall at the candidates' depth is the ceiling.
#
# Papers: Burges, "From RankNet to LambdaRank to LambdaMART" (2010); Nogueira, Cho, "Passage
# re-ranking with BERT" (2019).
#
# A similar run on the command line (its defaults differ): `ns retriever=reranked
# reranker@retriever.reranker=lambdamart`, and the experiment
# [rerank](../../experiments/rerank/README.md).

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import neurosearch as ns

TOY = os.environ.get("NEUROSEARCH_COURSE") == "toy"  # the size that the tests run
runtime = ns.Runtime(Path(tempfile.mkdtemp()), device="cpu", progress=False)
shop = ns.Shop(n_products=500 if TOY else 4000, n_queries=60 if TOY else 600, images=False)
gain = ns.gain("shop")

# %% [markdown]
# ## The ceiling
#
# What share of the relevant products is among the first $k$? A re-ranker of these $k$ can't bring
# back the others. The share is over all relevant pairs of dev queries, so queries with many
# relevant products weigh more than in the table's Recall, which is a mean over queries.

# %%
from neurosearch.core.retrieval import RetrievalRequest

data = shop.bound(runtime)
opened = runtime.get(data)
hybrid = ns.Hybrid({"words": ns.BM25(), "vectors": ns.Dense(ns.Sentence())}, ns.RRF(), gain)
systems = {"BM25": ns.BM25(), "dense": ns.Dense(ns.Sentence()), "hybrid": hybrid}
relevant = opened.judgments("dev").frame.filter(label="E").select("query_id", "product_id")


def recall_at(system: ns.BM25 | ns.Dense | ns.Hybrid, depths: list[int]) -> list[float]:
    """Share of the relevant products among the first k, over all dev queries."""
    run = runtime.get(system.run(data, RetrievalRequest(ns.NoProcessing(), "dev", 200))).frame
    found = relevant.join(run, on=["query_id", "product_id"], how="left")["rank"]
    return [float((found <= depth).sum() / len(found)) for depth in depths]


depths = [5, 10, 20, 50, 100, 200]
recalls = {name: recall_at(system, depths) for name, system in systems.items()}
fig, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
for name, values in recalls.items():
    axes.plot(depths, values, marker="o", label=name)
axes.set(xscale="log", xlabel="candidates", ylabel="share of relevant products among them")
axes.legend()
print({name: round(values[-1], 3) for name, values in recalls.items()})

# %% [markdown]
# ## Two re-rankers over one hybrid
#
# LambdaMART sees scores and text features; it learns from train lists and stops by dev. The
# cross-encoder reads "query [SEP] title" and learns to order the judged products of a query, and
# some that were drawn from the list.

# %%
trees = ns.Reranked(hybrid, ns.LambdaMART(gain=gain), gain=gain, depth=100)
schedule = ns.Schedule(epochs=1.0 if TOY else 2.0, lr=5e-5, validations=2)
reader = ns.CrossEncoder(gain=gain, schedule=schedule, drawn=4)
pairs = ns.Reranked(hybrid, reader, gain=gain, depth=20 if TOY else 50)
table = ns.compare(
    {"hybrid": hybrid, "+ LambdaMART": trees, "+ cross-encoder": pairs},
    shop,
    baseline="hybrid",
    latency=not TOY,
    runtime=runtime,
    progress=False,
)
table

# %% [markdown]
# The table answers the question for this shop: what each second stage gains over the hybrid,
# whether that is significant (†), and what it costs in milliseconds. A low weight of a re-ranker,
# in the notes, says that dev trusted the first stage more.
#
# ## What an unjudged product is worth
#
# A re-ranker that learned from judged products alone has never seen the products that nobody would
# judge, yet most candidates are such products. That is why `drawn` adds products of the list as
# irrelevant ones. `judged@10` is the share of the first ten that have a judgment; a product
# without one gains nothing, whether it is good or not.

# %%
frame = table.frame.filter(metric="judged@10").select("system", "mean")
print(frame)

# %% [markdown]
# ## Exercises
#
# 1. The first stage finds 85 % of the relevant products among 100. The re-ranker is perfect. Can
#    Recall@100 of the final list be .9?
# 2. DCG@3 of grades (1, 0, 1) with a discount of $1/\log_2(1 + \text{rank})$: compute it, and what
#    swapping ranks 2 and 3 gains.
# 3. A cross-encoder takes 4 ms a pair on one core. How many candidates fit into 100 ms, and what
#    is the gain in recall of going from 20 to 50 candidates for the hybrid above?

# %%
discounts = 1 / np.log2(1 + np.arange(1, 4))
grades = np.array([1.0, 0.0, 1.0])
before, after = float(grades @ discounts), float(grades[[0, 2, 1]] @ discounts)
assert np.isclose(before, 1.5) and np.isclose(after - before, 1 / np.log2(3) - 0.5)
fits = 100 // 4
assert min(0.85, 1.0) < 0.9  # what a perfect re-ranker can reach
assert fits == 25
gained = recalls["hybrid"][depths.index(50)] - recalls["hybrid"][depths.index(20)]
print("1. no: what is not among the candidates can't be ranked")
print(f"2. {before:.3f}, swapped {after:.3f}")
print(f"3. {fits} candidates; {gained:+.3f}")

# %% [markdown]
# **In production.** The second stage sets the latency: its depth is the first knob to turn, a
# smaller model the second, a cache of frequent queries the third. And it is trained on what the
# *first* stage showed: change that, and train again.

# %%
scores = table.frame.filter(metric="nDCG@10")
answers = {
    "nDCG@10 hybrid": scores["mean"][0],
    "nDCG@10 LambdaMART": scores["mean"][1],
    "recall of 200 candidates": recalls["hybrid"][-1],
}
answers
