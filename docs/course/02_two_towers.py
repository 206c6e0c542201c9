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
# # 2. Two towers
#
# **Question.** A pretrained encoder has never seen our shop. What does it learn from judged pairs,
# and how do we know that it did?
#
# **Idea.** One tower encodes queries, one encodes products (here both share their weights). For a
# batch of $B$ positive pairs, InfoNCE makes each query choose its own product among all $B$:
#
# $$\mathcal{L} = -\frac{1}{B}\sum_i \log
# \frac{\exp(q_i^\top d_i / \tau)}{\sum_j \exp(q_i^\top d_j / \tau)}$$
#
# The other products of the batch are free negatives. Two of them can be right by accident (the
# same title, or a second good product), so such pairs are masked. The temperature $\tau$ says how
# hard the closest negatives are pushed.
#
# Papers: van den Oord et al., "Representation learning with contrastive predictive coding" (2018);
# Karpukhin et al., "Dense passage retrieval" (2020); Robinson et al., "Contrastive learning with
# hard negative samples" (2021).
#
# A similar run on the command line (its negatives are mined): `ns -m
# retriever=dense,dense/finetuned`.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import torch

import neurosearch as ns

TOY = os.environ.get("NEUROSEARCH_COURSE") == "toy"  # the size that the tests run
runtime = ns.Runtime(Path(tempfile.mkdtemp()), device="cpu", progress=False)
shop = ns.Shop(n_products=500 if TOY else 2000, n_queries=60 if TOY else 400, images=False)
gain = ns.gain("shop")

# %% [markdown]
# ## The loss by hand
#
# Three queries, three products, cosines between them. The diagonal holds each query's own product.

# %%
cosines = np.array([[0.9, 0.3, 0.1], [0.2, 0.6, 0.5], [0.1, 0.2, 0.8]])


def infonce(cosines: np.ndarray, temperature: float) -> float:
    logits = cosines / temperature
    logits = logits - logits.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(logits).sum(axis=1)) - np.diag(logits)))


by_torch = torch.nn.functional.cross_entropy(torch.tensor(cosines) / 0.05, torch.arange(3))
print(f"by hand {infonce(cosines, 0.05):.4f}, by torch {float(by_torch):.4f}")
for temperature in (1.0, 0.2, 0.05):
    print(f"temperature {temperature}: loss {infonce(cosines, temperature):.3f}")

# %% [markdown]
# ## Before and after training
#
# `BiEncoder` trains MiniLM on the train split; dev queries choose the best checkpoint; the test
# split stays sealed until `compare` evaluates. With more steps and hard negatives it would gain
# more: this is a minute on two cores.

# %%
schedule = ns.Schedule(epochs=1.0 if TOY else 3.0, lr=5e-5, validations=3)
tuned = ns.BiEncoder(gain=gain, batch_size=64, schedule=schedule)
before, after = ns.Dense(ns.Sentence()), ns.Dense(tuned)
table = ns.compare(
    {"pretrained": before, "fine-tuned": after, "BM25": ns.BM25()},
    shop,
    baseline="pretrained",
    runtime=runtime,
    progress=False,
)
table

# %% [markdown]
# ## The training curve

# %%
trained = runtime.get(tuned.trained(shop.bound(runtime)))
curves = pl.read_csv(trained / "curves.csv")
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
loss = curves.drop_nulls("loss")
left.plot(loss["step"], loss["loss"], marker=".")
left.set(xlabel="step", ylabel="loss on train batches")
dev = curves.drop_nulls("dev nDCG@10")
right.plot(dev["step"], dev["dev nDCG@10"], marker="o")
right.set(xlabel="step", ylabel="nDCG@10 on dev queries")

# %% [markdown]
# ## Did the vectors move where they should?
#
# Fine-tuning should bring a query closer to its good products than to the others it is confused
# with.

# %%
data = shop.bound(runtime)
opened = runtime.get(data)
judged = opened.judgments("dev").frame.join(opened.queries("dev").frame, on="query_id")
rows = {product: row for row, product in enumerate(opened.catalogue.ids)}
places = {query: n for n, query in enumerate(opened.queries("dev").ids)}


def margin(encoder: ns.Sentence | ns.BiEncoder) -> float:
    """Mean cosine of queries with good products, less that with irrelevant ones."""
    products = runtime.get(encoder.product_embeddings(data)).vectors
    queries = runtime.get(encoder.query_embeddings(data, "dev", ns.NoProcessing())).vectors
    at = [places[q] for q in judged["query_id"]], [rows[p] for p in judged["product_id"]]
    cosine = np.einsum("nd,nd->n", np.asarray(queries)[at[0]], np.asarray(products)[at[1]])
    label = judged["label"].to_numpy()
    return float(cosine[label == "E"].mean() - cosine[label == "I"].mean())


margins = margin(ns.Sentence()), margin(tuned)
print(f"dev queries: margin before {margins[0]:.3f}, after {margins[1]:.3f}")

# %% [markdown]
# ## Exercises
#
# 1. All cosines of a batch are equal. What is the loss for a batch of $B$, whatever the
#    temperature?
# 2. A batch of 256 has two queries with the same good product. Without the mask, what is the
#    smallest loss that these two queries can reach?
# 3. Why can a lower loss after halving the temperature not be read as a better encoder?

# %%
for size in (3, 64):
    assert np.isclose(infonce(np.full((size, size), 0.4), 0.05), np.log(size))
twins = np.array([[1.0, 1.0, -1.0], [1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]])
best = infonce(twins, 0.01)  # both twins split their probability between two equal products
assert np.isclose(best, 2 / 3 * np.log(2), atol=1e-6)
assert infonce(cosines, 0.05) < infonce(cosines, 0.1)
print("1. log B")
print("2. log 2 each: the mask takes the other copy out of the denominator")
print(
    "3. the same cosines give another loss:",
    round(infonce(cosines, 0.1), 3),
    round(infonce(cosines, 0.05), 3),
)

# %% [markdown]
# **In production.** Clicks replace judgments, with the position bias that comes with them (chapter
# 9). A new encoder means a new index: both have to be exchanged together, which is why an index
# here refuses vectors of another encoder.

# %%
scores = table.frame.filter(metric="nDCG@10")
answers = {
    "nDCG@10 pretrained": scores.filter(system="pretrained")["mean"][0],
    "nDCG@10 fine-tuned": scores.filter(system="fine-tuned")["mean"][0],
    "margin gained": margins[1] - margins[0],
}
answers
