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
# # 9. Production: an API, a cache, a monitor, a trial
#
# **Question.** The table named a winner. How does it come in front of people, how do we notice
# when it breaks, and how do we learn whether *they* prefer it?
#
# **Idea.** What is served must be what was measured: the same recipe, the same artifacts, the same
# lists. Around it stand a cache for frequent queries (queries follow a power law), a monitor that
# compares today's queries with earlier ones, and a trial. In an A/B trial every visitor sees one
# of two systems; the number of visitors that is needed for a difference $\delta$ of a metric with
# standard deviation $\sigma$ is
#
# $$n = \frac{2\,\sigma^2\,(z_{1-\alpha/2} + z_{1-\beta})^2}{\delta^2} \text{ visitors an arm.}$$
#
# Interleaving mixes both systems in one list, and often needs fewer visitors.
#
# Papers: Chapelle et al., "Large-scale validation and analysis of interleaved search evaluation"
# (2012); Kohavi, Tang, Xu, "Trustworthy online controlled experiments" (2020).
#
# The same on the command line: `ns task=serve retriever=bm25`, `ns task=load retriever=bm25`, `ns
# task=monitor retriever=bm25`, `ns task=trial task.visitors=2000`.

# %%
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm

import neurosearch as ns
from neurosearch.task.load import started
from neurosearch.trial.effect import users_needed

TOY = os.environ.get("NEUROSEARCH_COURSE") == "toy"  # the size that the tests run
outputs = Path(tempfile.mkdtemp())
SIZE = [
    f"data.n_products={500 if TOY else 5000}",
    f"data.n_queries={60 if TOY else 400}",
    "data.images=false",
]
SYSTEM = ["retriever=bm25", "data=shop", *SIZE]

# %% [markdown]
# ## A server
#
# The command line starts it; it builds what is missing, serves the search page, and writes a query
# log. Keys and rate limits are settings (`task.server.keys`), and it refuses to listen on other
# addresses than this machine's without them.

# %%
environment = {**os.environ, "NEUROSEARCH_OUTPUTS": str(outputs)}
COMMAND = [sys.executable, "-W", "ignore", "-m", "neurosearch"]
# The server of `ns task=serve`, in a process of its own, which ends with this chapter.
running = ExitStack()
address, server = running.enter_context(started(SYSTEM, outputs, environment))
client = httpx.Client(base_url=address, timeout=10)
answer = client.post("/v1/search", json={"query": "red mixer", "k": 3}).json()
print(json.dumps(answer["results"][0], indent=1)[:400])

# %% [markdown]
# ## The same list as in Python
#
# This is the promise that matters: what is served is what was measured.

# %%
shop = ns.Shop(n_products=500 if TOY else 5000, n_queries=60 if TOY else 400, images=False)
runtime = ns.Runtime(outputs, progress=False)
offline = ns.search(ns.BM25(), shop, "red mixer", k=3, runtime=runtime, progress=False)
assert offline["product_id"].to_list() == [one["product_id"] for one in answer["results"]]
offline

# %% [markdown]
# ## What the cache is worth
#
# A shop's queries follow a power law: query $i$ is asked with a probability proportional to $1/i$.
# What share of the requests has been asked before, and what would it be if all queries were
# equally likely?

# %%
opened = runtime.get(shop.bound(runtime))
asked_for = [text for split in ("train", "dev", "test") for text in opened.queries(split).texts]
brands = sorted({text.split()[0] for text in opened.catalogue.all_texts(("brand",)) if text})
pool = [f"{text} {brand}" for text in asked_for for brand in brands][:20_000]
rng = np.random.default_rng(0)
requests = 300 if TOY else 3000


def asked_before(numbers: np.ndarray) -> float:
    """Share of requests whose query came earlier."""
    return 1 - len(np.unique(numbers)) / len(numbers)


chances = 1 / np.arange(1, len(pool) + 1)
law = rng.choice(len(pool), requests, p=chances / chances.sum())
even = rng.integers(0, len(pool), requests)
share = asked_before(law)
print(
    f"{len(pool):,} queries, {requests:,} requests: asked before {share:.2f}; if all were equal {asked_before(even):.2f}"
)
seen: set[int] = set()
first, again = [], []
for number in law:
    start = time.perf_counter()
    client.post("/v1/search", json={"query": pool[number], "k": 10}).raise_for_status()
    (again if number in seen else first).append(1000 * (time.perf_counter() - start))
    seen.add(int(number))
print(
    f"median ms seen by the client: first time {np.median(first):.2f}, again {np.median(again):.2f}"
)

# %%
fig, axes = plt.subplots(figsize=(6, 3), layout="constrained")
bins = np.geomspace(0.3, 100, 40)
axes.hist(first, bins, alpha=0.6, label="first time")
axes.hist(again, bins, alpha=0.6, label="from the cache")
axes.set(xscale="log", xlabel="ms, seen by the client", ylabel="requests")
axes.legend()

# %% [markdown]
# ## The monitor
#
# It reads the query log: is the traffic of the last queries drawn as that before them was?
# Detectors are two-sample tests with permutations, corrected for how many there are; the exit
# status is 2 when something alarms. First on the traffic above, then after visitors have begun to
# ask for something else.

# %%
WINDOW = [f"task.window={100 if TOY else 500}", f"task.reference={200 if TOY else 2000}"]
WINDOW += ["task.limits.slower=1000"]  # times on a machine that runs a notebook are noise


def monitored() -> int:
    """Run the monitor; returns its exit status."""
    time.sleep(1.5)  # the log is written at most a second late
    done = subprocess.run(
        [*COMMAND, "task=monitor", *SYSTEM, *WINDOW],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [x for x in done.stdout.splitlines() if " q " in x or "ALARM" in x.upper()]
    print("\n".join(lines[:8]))
    return done.returncode


quiet = monitored()
print("exit status", quiet)

# %%
for number in range(150 if TOY else 600):
    text = f"gift for a friend who has everything {number % 7}"
    client.post("/v1/search", json={"query": text, "k": 10}).raise_for_status()
alarmed = monitored()
print("exit status", alarmed)

# %% [markdown]
# ## Metrics, and an orderly end
#
# `/metrics` is what Prometheus reads. On SIGTERM the server answers what it has accepted, writes
# its log, and ends.

# %%
shown = [x for x in client.get("/metrics").text.splitlines() if "cache" in x and x[0] != "#"]
print("\n".join(shown[:4]))
server.send_signal(signal.SIGTERM)
ended = server.wait(timeout=60)
running.close()
print("exit status", ended)

# %% [markdown]
# ## How many visitors does a trial need?
#
# Visitors are what is drawn at random, so the standard deviation is of a visitor's value. That of
# single impressions would be too small: one visitor's impressions resemble each other.

# %%
deviation, effect = 0.5, 0.01  # clicks a visitor
by_formula = 2 * deviation**2 * (norm.ppf(0.975) + norm.ppf(0.8)) ** 2 / effect**2
print(f"{by_formula:,.0f} visitors an arm; by the library {users_needed(deviation, effect):,.0f}")
effects = np.geomspace(0.002, 0.05, 30)
fig, axes = plt.subplots(figsize=(6, 3), layout="constrained")
axes.loglog(effects, [users_needed(deviation, e) for e in effects])
axes.set(xlabel="difference in clicks a visitor", ylabel="visitors an arm (80 % power)")

# %% [markdown]
# ## A trial on simulated visitors
#
# Two systems, visitors who click more or less readily; both kinds of trial on the same visitors.
# With few visitors the intervals are wide: read them before the effects.

# %%
done = subprocess.run(
    [*COMMAND, "task=trial", f"task.visitors={500 if TOY else 20_000}", "data=shop", *SIZE],
    env=environment,
    capture_output=True,
    text=True,
    check=False,
)
assert done.returncode == 0, done.stderr[-500:]
print("\n".join(done.stdout.splitlines()[:24]))

# %% [markdown]
# ## Exercises
#
# 1. Half the effect: how many times the visitors?
# 2. Somebody looks at the p-value every day of a month and stops at the first p < .05. Simulate
#    how often two equal systems differ "significantly" then.
# 3. A server's cache keeps answers for 300 seconds. A product is sold out now. What does the page
#    show, and what would you do?

# %%
assert np.isclose(
    users_needed(deviation, effect / 2) / users_needed(deviation, effect), 4, rtol=0.01
)
days, trials = 30, 2000
steps = np.random.default_rng(1).normal(size=(trials, days)).cumsum(axis=1) / np.sqrt(
    np.arange(1, days + 1)
)
false_alarms = float((np.abs(steps) > norm.ppf(0.975)).any(axis=1).mean())
assert false_alarms > 0.2
rate, kept = 0.1, 300.0
by_hand = rate * kept / (1 + rate * kept)  # of each miss and the hits that it makes possible
arrivals = np.random.default_rng(2).exponential(1 / rate, 200_000).cumsum()
misses, fresh_until = 0, -1.0
for now in arrivals:
    if now > fresh_until:
        misses, fresh_until = misses + 1, now + kept
simulated = 1 - misses / len(arrivals)
assert abs(simulated - by_hand) < 0.005
print("1. four times")
print(
    f"2. {false_alarms:.2f} of the trials, instead of .05; a rule made for looking holds its level"
)
print(f"3. {by_hand:.3f} (simulated {simulated:.3f})")

# %% [markdown]
# **In production.** What changes faster than the cache forgets (stock, prices) is filtered outside
# it; a new index is put in place by `POST /admin/reload`, and old answers are not found any more,
# since the key holds the fingerprint of what is served. Put a reverse proxy with TLS in front; let
# a scheduler run the monitor and page somebody on exit status 2; plan a trial's length before it
# begins, and keep a guardrail on latency and on searches without a result.

# %%
answers = {
    "exit status of the server": float(ended),
    "share asked before": share,
    "monitor, quiet": float(quiet),
    "monitor, shifted": float(alarmed),
    "false alarms of daily looks": false_alarms,
}
answers
