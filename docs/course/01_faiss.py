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
# # 1. Nearest neighbours with FAISS
#
# **Question.** A product title becomes a vector. How do we find the products nearest to a query,
# and what do we lose when we search faster?
#
# **Idea.** An encoder maps a text to a unit vector. For unit vectors the inner product is the
# cosine, and the nearest vector is the same by either measure, since $\lVert q - d \rVert^2 = 2 -
# 2\,q^\top d$. Exact search compares a query with all $N$ products. An inverted file (IVF) divides
# the products into cells by k-means and compares the query only with the cells whose centroids are
# nearest: *probes* of them.
#
# Papers: Johnson, Douze, Jégou, "Billion-scale similarity search with GPUs" (2017); Jégou, Douze,
# Schmid, "Product quantization for nearest neighbor search" (2011).
#
# The same on the command line: `ns -m retriever=dense index@retriever.index=flat,ivf`.

# %%
import os
import tempfile
import time
from pathlib import Path

import faiss
import matplotlib.pyplot as plt
import numpy as np

import neurosearch as ns

TOY = os.environ.get("NEUROSEARCH_COURSE") == "toy"  # the size that the tests run
runtime = ns.Runtime(Path(tempfile.mkdtemp()), progress=False)
shop = ns.Shop(n_products=500 if TOY else 20_000, n_queries=60 if TOY else 400, images=False)

# %% [markdown]
# ## From texts to vectors
#
# The shop is simulated: numbers of this course show mechanisms, not what a real shop would gain. A
# *recipe* (`ns.Sentence()`, a pretrained MiniLM) is bound to data and gives an *artifact*, which
# is built once and kept in the runtime's folder. Two fifths of the queries are the test split.

# %%
encoder = ns.Sentence()
data = shop.bound(runtime)
products = runtime.get(encoder.product_embeddings(data)).vectors
queries = runtime.get(encoder.query_embeddings(data, "test", ns.NoProcessing())).vectors
products, queries = (np.ascontiguousarray(v, dtype=np.float32) for v in (products, queries))
print(products.shape, queries.shape, np.linalg.norm(products, axis=1)[:3].round(4))

# %% [markdown]
# ## Exact search, by hand and by FAISS

# %%
by_hand = np.argsort(-(queries @ products.T), axis=1, kind="stable")[:, :10]
flat = faiss.IndexFlatIP(products.shape[1])
flat.add(products)
_, by_faiss = flat.search(queries, 10)
same = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(by_hand, by_faiss, strict=True)])
print(f"share of the ten nearest that both find: {same:.3f}")

# %% [markdown]
# Where it is not 1, products of equal titles have equal vectors, and either of them may be the
# tenth.
#
# ## Approximate search
#
# Recall is the share of the exact ten that a faster search still finds. It is a property of the
# index alone; whether the ten are *good* products is another question, which needs judgments.

# %%
cells = 16 if TOY else 128
width = products.shape[1]
quantizer = faiss.IndexFlatIP(width)
ivf = faiss.IndexIVFFlat(quantizer, width, cells, faiss.METRIC_INNER_PRODUCT)
ivf.train(products)
ivf.add(products)


def recall_of(index: faiss.Index) -> tuple[float, float]:
    """Recall of the exact ten, and milliseconds a query."""
    start = time.perf_counter()
    _, found = index.search(queries, 10)
    seconds = time.perf_counter() - start
    hits = [len(set(a) & set(b)) / 10 for a, b in zip(by_faiss, found, strict=True)]
    return float(np.mean(hits)), 1000 * seconds / len(queries)


curve = []
for probes in sorted({1, 2, 4, 8, 16, cells}):
    ivf.nprobe = probes
    curve.append((probes, *recall_of(ivf)))
    print("probes {:4d}   recall {:.3f}   {:.3f} ms a query".format(*curve[-1]))

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
probes, recalls, millis = zip(*curve, strict=True)
left.plot(probes, recalls, marker="o")
left.set(xscale="log", xlabel="cells that are searched", ylabel="recall of the exact ten")
right.plot(millis, recalls, marker="o")
right.set(xlabel="ms a query (all queries in one call)", ylabel="recall of the exact ten")

# %% [markdown]
# ## The same as two rows of a table
#
# What matters to a shop is the ranking's quality. `compare` evaluates the test queries against
# judgments, tests the difference, and says what it found.

# %%
exact = ns.Dense(encoder)
coarse = ns.Dense(encoder, ns.IVF(cells=cells, probes=1))
table = ns.compare([exact, coarse], shop, baseline=exact, runtime=runtime, progress=False)
table

# %% [markdown]
# One cell of many loses good products as well: nDCG@10 falls, and condensed nDCG (judged products
# alone) falls with it, so what is lost is not only what nobody judged.
#
# ## Exercises
#
# 1. Vectors are stored as 32-bit floats. How many megabytes do these products take, and how many
#    would ten million take?
# 2. With one probe of $C$ equal cells, a search compares a query with $C$ centroids and $N / C$
#    products. Which $C$ makes that sum smallest, and how many comparisons remain?
# 3. Double the vectors of every second product. Which search changes its order: by inner product,
#    or by cosine? Decide before you look.
#
# The next cell holds the answers, and checks them.

# %%
megabytes = products.size * 4 / 1e6
assert megabytes == products.nbytes / 1e6
ten_million = 10_000_000 * products.shape[1] * 4 / 1e9
best_cells = np.sqrt(len(products))  # d/dC (C + N/C) = 1 - N/C² = 0
comparisons = [c + len(products) / c for c in range(1, len(products) + 1)]
assert abs(int(np.argmin(comparisons)) + 1 - best_cells) < 1
moved = products.copy()
moved[::2] *= 2  # no longer unit vectors
by_product = np.argsort(-(queries @ moved.T), axis=1, kind="stable")[:, :10]
unit = moved / np.linalg.norm(moved, axis=1, keepdims=True)
by_cosine = np.argsort(-(queries @ unit.T), axis=1, kind="stable")[:, :10]
doubled = [float((found % 2 == 0).mean()) for found in (by_hand, by_product)]
assert (by_cosine == by_hand).all() and (by_product != by_hand).any()
print(f"1. {megabytes:.1f} MB; ten million: {ten_million:.1f} GB")
print(f"2. about sqrt(N) = {best_cells:.0f} cells, {min(comparisons):.0f} comparisons")
print("3. by inner product; cosine does not see lengths.")
print(
    f"   Share of doubled products in the first ten: {doubled[0]:.2f} before, {doubled[1]:.2f} after"
)

# %% [markdown]
# **In production.** Catalogues change every hour: IVF cells that were fitted in January may fit
# badly in June. Filters (brand, stock) cut the candidates after the search unless the index knows
# them. And recall must be watched on live queries, since they are not the ones it was tuned on.
# Chapters 3 and 9 come back to this.

# %%
answers = {
    "recall of one probe": curve[0][1],
    "recall of all probes": curve[-1][1],
    "nDCG@10 exact": table.frame.filter(metric="nDCG@10")["mean"][0],
}
answers
