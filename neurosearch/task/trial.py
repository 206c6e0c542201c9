"""`task=trial`: which of two systems do users prefer?

* By default SIMULATED users of the simulated shop see both systems, apart and interleaved, in this
  process; `task.users` says how they click.
* `task.url=http://…` sends SIMULATED visitors to a running server (`task=serve` with a trial).
* `task.log=FOLDER` scores the log of a server: sizes of the arms, effect, guardrails, and whether
  the trial may stop.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.retrieval import RetrievalRequest, Retriever
from neurosearch.core.run import numbered_pairs
from neurosearch.data.shop import Shop
from neurosearch.data.truth import Grades, Truth
from neurosearch.interleaving.base import Interleaving
from neurosearch.interleaving.team_draft import TeamDraft
from neurosearch.logs import ubi
from neurosearch.logs.cleaning import Rules, cleaned
from neurosearch.serving.visitors import SENT
from neurosearch.stopping.base import Stopping
from neurosearch.stopping.msprt import MSPRT
from neurosearch.task.base import Job, Task
from neurosearch.trial.assignment import arm
from neurosearch.trial.effect import Effect, of_ratios
from neurosearch.trial.looks import looked
from neurosearch.trial.scoring import Searches, ab_result, interleaving_result
from neurosearch.trial.simulated import Population, shown_alone, shown_mixed
from neurosearch.users.base import Users
from neurosearch.users.pbm import PBMUsers

K = 10


@dataclass(frozen=True)
class Trial(Task):
    """Attributes:
    systems: two, by name, the control first; for simulated users in this process.
    users: how simulated users click.
    interleaving: of the two systems.
    stopping: of the looks.
    visitors: simulated users.
    looks: evenly spread over them.
    salt: of the assignment; of a log, the trial's name (None: the log's only one).
    shares: of the callers in each arm.
    url: of a running server that visitors go to; None for none.
    log: folder of a server's query log that is scored; None for none.
    planned: callers that the trial was planned for, for `stopping`; None: as many as there are.
    rules: what is left out of a log.
    """

    systems: Mapping[str, Retriever]
    users: Users = field(default_factory=PBMUsers)
    interleaving: Interleaving = field(default_factory=TeamDraft)
    stopping: Stopping = field(default_factory=MSPRT)
    visitors: int = setting(20_000, least=10)
    looks: int = setting(10, least=1)
    salt: str | None = None
    shares: tuple[float, ...] = (0.5, 0.5)
    url: str | None = None
    log: str | None = None
    planned: int | None = setting(None, least=2)
    rules: Rules = field(default_factory=Rules)
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.url is not None and self.log is not None:
            raise self.error("log", "must be null where task.url sends visitors")
        if len(self.shares) != 2:
            raise self.error("shares", f"must be two numbers, not {list(self.shares)}")

    def run(self, job: Job) -> None:
        if self.log is not None:
            facts = self._scored(Path(self.log))
        elif self.url is not None:
            facts = self._visited(job, self.url)
        else:
            facts = self._simulated(job)
        job.folder.mkdir(parents=True, exist_ok=True)
        path = job.folder / "trial.json"
        path.write_text(json.dumps(facts, indent=1), encoding="utf-8")
        show(facts)
        print(path)

    def _truth(self, job: Job) -> Grades:
        if not isinstance(job.data, Shop):
            raise InputError("task=trial simulates users of data=shop alone; a log may be of any")
        truth: Grades = job.runtime.get(Truth(job.data))
        return truth

    def _simulated(self, job: Job) -> dict[str, Any]:
        """Both kinds of trial on the same simulated users."""
        if len(self.systems) != 2:
            raise InputError(f"task.systems must be two, not {len(self.systems)}")
        names = list(self.systems)
        truth = self._truth(job)
        lists = [self._lists(job, system, truth) for system in self.systems.values()]
        rng = np.random.default_rng(self.seed)
        population = Population.drawn(self.visitors, len(truth.query_ids), rng)
        salt = job.name if self.salt is None else self.salt
        arms = np.array([arm(salt, f"visitor-{n}", self.shares) for n in range(self.visitors)])
        grades = np.asarray(truth.grades)
        clicks = np.zeros(len(population.query))
        for number, one in enumerate(lists):
            held = np.take_along_axis(grades, np.maximum(one, 0), axis=1).astype(np.int64)
            drawn = shown_alone(population, np.where(one >= 0, held, -1), self.users, rng)
            mine = arms[population.user] == number
            clicks[mine] = drawn[mine].sum(axis=1)
        whole = pl.DataFrame(
            {
                "client": [f"visitor-{n}" for n in population.user],
                "arm": [names[a] if a >= 0 else None for a in arms[population.user]],
                "clicks": clicks,
                "results": [int((lists[max(a, 0)][q] >= 0).sum())
                            for a, q in zip(arms[population.user], population.query, strict=True)],
            }
        ).with_columns(ms=pl.lit(None, pl.Float64))  # fmt: skip
        searches = Searches(whole.filter(pl.col("arm").is_not_null()))
        result = ab_result(searches, (names[0], names[1]), self.shares)
        kinds = {"users": self.users}
        pair = lists[0], lists[1]
        mixed = shown_mixed(population, pair, grades, self.interleaving, kinds, rng)["users"]
        clients = np.array([f"{n:09d}" for n in population.user])
        both = interleaving_result(clients, mixed, (names[0], names[1]))
        sums, seen = population.summed(clicks), population.impressions
        result["looks"] = self._looks(sums, seen, arms)
        ratio = needed(result["effect"]["z"], both["effect"]["z"])
        return {
            "simulated": True,
            "users": self.users.label(),
            "A/B": result,
            "interleaving": {"method": self.interleaving.label(), **both},
            "callers of interleaving for each of A/B, for the same power": ratio,
        }

    def _looks(self, sums: np.ndarray, seen: np.ndarray, arms: np.ndarray) -> dict[str, Any]:
        """z at shares of the callers, who come in the order of their numbers."""
        shares = np.arange(1, self.looks + 1) / self.looks
        effects: list[Effect] = []
        for share in shares:
            first = np.arange(len(arms)) < share * len(arms)
            sides = [(sums[first & (arms == n)], seen[first & (arms == n)]) for n in (0, 1)]
            effects.append(of_ratios(*sides))
        return looked(effects, shares, self.stopping)

    def _lists(self, job: Job, system: Retriever, truth: Grades) -> np.ndarray:
        """Q×K rows of a system's lists, in the order of the truth's queries."""
        request = RetrievalRequest(job.processing, "test", 100)
        run = job.runtime.get(system.run(job.dataset, request))
        ids = job.runtime.get(job.dataset).catalogue.ids
        best = run.frame.filter(pl.col("rank") <= K)
        pairs = numbered_pairs(
            type(run)(run.split, best), pl.Series("query_id", truth.query_ids), ids
        )
        lists = np.full((len(truth.query_ids), K), -1, dtype=np.int64)
        place = pairs["query"].to_numpy(), pairs["rank"].to_numpy() - 1
        lists[place] = pairs["row"].to_numpy()
        return lists

    def _visited(self, job: Job, url: str) -> dict[str, Any]:
        """Simulated visitors of a running server."""
        import urllib.error
        import urllib.request

        from neurosearch.serving.visitors import visit

        if not url.startswith(("http://", "https://")):
            raise InputError(f"task.url must begin with http:// or https://, not {url!r}")
        truth = self._truth(job)
        data = job.runtime.get(job.dataset)
        texts = dict(data.queries("test").frame.select("query_id", "text").iter_rows())

        def post(path: str, body: dict[str, Any]) -> tuple[int, Any]:
            content = json.dumps(body).encode()
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(url.rstrip("/") + path, content, headers)
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return answer.status, json.loads(answer.read() or b"null")
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode(errors="replace")
            except OSError as error:
                raise InputError(f"task.url: {url} can't be reached: {error}") from None

        rng = np.random.default_rng(self.seed)
        population = Population.drawn(self.visitors, len(truth.query_ids), rng)
        with job.runtime.progressing("searches", len(population.query)) as done:
            counts = visit(
                post,
                [texts[name] for name in truth.query_ids],
                np.asarray(truth.grades),
                data.catalogue.ids,
                self.users,
                population,
                rng,
                done,
            )
        return {"simulated": True, "users": self.users.label(), "visitors": self.visitors, **counts}

    def _scored(self, folder: Path) -> dict[str, Any]:
        """What a server's log says."""
        queries, events, torn = ubi.read(folder)
        found = cleaned(queries, events, self.rules, folder)
        told = found.queries.with_columns(
            trial=pl.col("attributes").str.json_path_match("$.trial"),
            arm=pl.col("attributes").str.json_path_match("$.arm"),
        )
        trials = told["trial"].drop_nulls().unique().sort().to_list()
        salt = self.salt or (trials[0] if len(trials) == 1 else None)
        if salt is None or salt not in trials:
            known = ", ".join(trials) or "none"
            raise InputError(f"task.salt: the log {folder} has the trials {known}; name one")
        inside = told.filter(
            pl.col("trial") == salt, pl.col("arm").is_not_null(), pl.col("client").is_not_null()
        )
        clicked = found.events.filter(pl.col("action") == "click")
        counts = clicked.unique(["query", "product"]).group_by("query").agg(clicks=pl.len())
        inside = inside.join(counts, on="query", how="left", maintain_order="left").with_columns(
            pl.col("clicks").fill_null(0).cast(pl.Float64), results=pl.col("hits").list.len()
        )
        facts: dict[str, Any] = {
            # Visitors of task.url name their events so; real callers' are anything else.
            "simulated": bool(found.events["message"].str.starts_with(SENT).fill_null(False).any()),
            "users": "visitors of task.url",
            "log": str(folder),
            "trial": salt,
            "searches": inside.height,
            "outside the trial": told.height - inside.height,
            "left out": {**found.left_out, ubi.TORN: torn},
        }
        # The first search says what the trial is; the log needs no help of a command.
        settings = json.loads(inside["attributes"][0]) if inside.height else {}
        mixed = inside.filter(pl.col("arm") == "interleaved")
        apart = inside.filter(pl.col("arm") != "interleaved")
        if mixed.height:
            facts["interleaving"] = self._preferences(mixed, clicked, settings)
        if apart.height:
            facts["A/B"] = self._compared(apart, settings)
        return facts

    def _preferences(
        self, mixed: pl.DataFrame, clicked: pl.DataFrame, settings: Mapping[str, Any]
    ) -> dict[str, Any]:
        by_query = dict(clicked.group_by("query").agg(pl.col("product").unique()).iter_rows())
        values = []
        for query, hits, attributes in mixed.select("query", "hits", "attributes").iter_rows():
            credits = json.loads(attributes)["credits"]
            chosen = set(by_query.get(query, ()))
            credited = zip(hits, credits, strict=False)
            total = sum(credit for product, credit in credited if product in chosen)
            values.append(total if settings["shares_credit"] else float(np.sign(total)))
        return interleaving_result(
            mixed["client"].to_numpy(),
            np.array(values),
            (settings["systems"][0], settings["systems"][1]),
        )

    def _compared(self, apart: pl.DataFrame, settings: Mapping[str, Any]) -> dict[str, Any]:
        arms = settings["systems"][0], settings["systems"][1]
        names = apart["arm"].unique().sort().to_list()
        if names != sorted(arms):
            told = f"{', '.join(names)}, and not {arms[0]} and {arms[1]}"
            raise InputError(f"the log's trial has the arms {told}")
        by_client = apart.group_by("client").agg(pl.col("arm").n_unique())
        both = by_client.filter(pl.col("arm") > 1)["client"]
        apart = apart.filter(~pl.col("client").is_in(both.implode()))
        ms = [sum(json.loads(a).get("stages_ms", {}).values()) or None for a in apart["attributes"]]
        frame = apart.select("client", "arm", "clicks", "results").with_columns(
            ms=pl.Series(ms, dtype=pl.Float64)
        )
        searches = Searches(frame)
        result = ab_result(searches, arms, tuple(settings["shares"]))
        share = min(1.0, sum(result["callers"]) / self.planned) if self.planned else 1.0
        first, second = (searches.by_client(one, "clicks") for one in arms)
        effect = of_ratios(first, second)
        result["looks"] = looked([effect], np.array([share]), self.stopping)
        result["callers of both arms, left out"] = len(both)
        return result


def needed(apart: float, mixed: float) -> dict[str, float] | None:
    """Callers of interleaving for each of A/B, for the same power, with a 95 % interval.

    The ratio of the squares of two z values, whose logarithm has about the variance
    4 (1 / z² + 1 / z²): where either effect is not far from nothing, the interval says so.

    Args:
        apart: z of A/B.
        mixed: z of interleaving, of as many callers.

    Returns:
        `ratio`, `low`, `high`; None where an effect is 0.
    """
    if not apart or not mixed:
        return None
    ratio = (apart / mixed) ** 2
    wide = float(np.exp(1.96 * min(2 * np.sqrt(1 / apart**2 + 1 / mixed**2), 50.0)))
    return {"ratio": ratio, "low": ratio / wide, "high": ratio * wide}


def show(facts: Mapping[str, Any]) -> None:
    """Print what was found.

    Args:
        facts: of the trial.
    """
    if facts["simulated"]:
        print(f"SIMULATED USERS ({facts['users']})")
    for reason, count in facts.get("left out", {}).items():
        if count:
            print(f"  {count:>9,}  {reason}, left out")
    if "A/B" in facts:
        one = facts["A/B"]
        print(f"A/B: {one['arms'][0]} ({one['callers'][0]:,} callers), ", end="")
        print(
            f"{one['arms'][1]} ({one['callers'][1]:,}); sample ratio p {one['sample ratio p']:.3g}"
        )
        if one["mismatch"]:
            print("  the arms do not have the callers that they should have: NO RESULT COUNTS")
        else:
            print(f"  clicks a search {one['clicks a search'][0]:.4f} and ", end="")
            print(f"{one['clicks a search'][1]:.4f}: {_told(one['effect'])}")
            print(f"  smallest effect that so many callers find: {_least(one):.4f}")
            for guard in one["guardrails"]:
                state = "holds" if guard["holds"] else "not shown to hold"
                print(
                    f"  {guard['guardrail']}: {guard['difference']:+.4f}, margin "
                    f"{guard['margin']:g}, p {guard['p']:.3g}: {state}"
                )
            looks = one["looks"]
            stops = looks["stops at"]
            print(f"  {looks['rule']}: ", end="")
            print("goes on" if stops is None else f"stops at {stops:.0%} of the callers")
    if "interleaving" in facts:
        one = facts["interleaving"]
        print(f"interleaving: {one['searches']:,} searches of {one['callers']:,} callers: ", end="")
        print(f"{one['systems'][1]} preferred {_told(one['effect'])}")
        print(
            f"  callers for the second {one['callers for the second']:,}, for the first "
            f"{one['callers for the first']:,}, sign test p {one['sign test p']:.3g}"
        )
    ratio = facts.get("callers of interleaving for each of A/B, for the same power")
    if ratio is not None:
        print(
            f"callers that interleaving needs for each of A/B, same power: {ratio['ratio']:.3g} "
            f"[{ratio['low']:.2g}, {ratio['high']:.2g}]"
        )
    if "visitors" in facts:
        print(f"{facts['searches']:,} searches and {facts['clicks']:,} clicks were sent")


def _told(effect: Mapping[str, Any]) -> str:
    interval = f"[{effect['low']:+.4f}, {effect['high']:+.4f}]"
    return f"{effect['difference']:+.4f} {interval}, p {effect['p']:.3g}"


def _least(one: Mapping[str, Any]) -> float:
    return float(one["smallest effect to be found"])
