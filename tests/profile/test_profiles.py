"""Persons: scores by hand, new users get the base's lists, and no taste gives no gain."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from neurosearch.core.errors import InputError
from neurosearch.core.query import TURN
from neurosearch.core.retrieval import RetrievalRequest
from neurosearch.core.runtime import Runtime
from neurosearch.data.base import Tables
from neurosearch.data.shoppers import Shoppers
from neurosearch.encoder.hashing import Hashing
from neurosearch.evaluation.gain import LabelGain
from neurosearch.evaluation.metrics import per_query
from neurosearch.profile.attention import Attention
from neurosearch.profile.base import Purchases, purchases
from neurosearch.profile.item2vec import Item2Vec, mutual_information
from neurosearch.profile.neural.network import NETWORKS, made
from neurosearch.profile.neural.recipe import padded
from neurosearch.profile.none import Nobody
from neurosearch.profile.popularity import Popularity
from neurosearch.profile.query_only import QueryOnly
from neurosearch.profile.recent_mean import RecentMean
from neurosearch.profile.sasrec import SASRec
from neurosearch.profile.tem import TEM
from neurosearch.profile.vectors import MeanTaste, by_age
from neurosearch.profile.vsknn import Neighbours, VSkNN
from neurosearch.profile.zam import ZAM
from neurosearch.query.contextual import Contextual
from neurosearch.query.none import NoProcessing
from neurosearch.retriever.bm25 import BM25
from neurosearch.retriever.personalised import LENGTHS, Personalised, ranges_of
from neurosearch.training.schedule import Schedule

GAIN = LabelGain("bought", {"bought": 1.0}, {"bought": 1}, ("bought",))
SHOP = Shoppers(n_products=600, n_queries=150, n_users=250, follow_ups=0.3)
BASE = BM25(engine="bm25s")
REQUEST = RetrievalRequest(NoProcessing(), "test", 100)


@pytest.fixture(scope="module")
def shoppers(shop_runtime: Runtime) -> Any:
    return SHOP.bound(shop_runtime)


def personalised(profile: Any, **more: Any) -> Personalised:
    return Personalised(retriever=BASE, profile=profile, gain=GAIN, **more)


def test_histories_are_what_was_bought_before(shoppers: Any, shop_runtime: Runtime) -> None:
    data = shop_runtime.get(shoppers)
    frames = [data.queries(split).frame for split in ("train", "dev", "test")]
    queries = pl.concat(frames).with_columns(
        place=pl.col("query_id").str.split("-").list.last().cast(pl.Int64)
    )
    bought = {
        row[0]: row[1]
        for split in ("train", "dev")
        for row in data.judgments(split).frame.select("query_id", "product_id").iter_rows()
    }
    for _, own in queries.group_by("user"):
        ordered = own.sort("place")
        assert ordered["place"].to_list() == list(range(ordered.height))
        before: list[str] = []
        for query, history in ordered.select("query_id", "history").iter_rows():
            assert history == before  # what is asked for is never in it already by the query itself
            before = [*before, bought.get(query, "")]
        splits = ordered["split"].to_list()
        assert splits == (["train"] * 20 + ["dev", "test"])[-len(splits) :]


def test_a_cut_in_time_tests_what_happened_last(shop_runtime: Runtime) -> None:
    data = shop_runtime.get(replace(SHOP, cut="time").bound(shop_runtime))
    counts = [len(data.queries(split)) for split in ("train", "dev", "test")]
    assert counts[2] == pytest.approx(sum(counts) / 10, abs=2)
    assert counts[1] == pytest.approx(sum(counts) / 10, abs=2)


def test_tastes_are_planted(shop_runtime: Runtime) -> None:
    """With taste, somebody's purchases share brands and colours more often than without."""

    def alike(taste: float) -> float:
        data = shop_runtime.get(replace(SHOP, taste=taste).bound(shop_runtime))
        ids, colours = data.catalogue.ids, data.catalogue.all_texts(("colour",))
        colour = dict(zip(ids, colours, strict=True))
        pairs = [
            (colour[one], colour[two])
            for history in data.queries("test").frame["history"].to_list()
            for one, two in itertools.pairwise(history)
        ]
        return float(np.mean([a == b and a != "" for a, b in pairs]))

    assert alike(2.0) > alike(0.0) + 0.04


def test_bad_sizes(shop_runtime: Runtime) -> None:
    with pytest.raises(InputError, match="leave shoppers a choice"):
        shop_runtime.get(replace(SHOP, n_products=500, n_queries=10).dataset())


def test_sequences_leave_out_their_beginnings() -> None:
    histories = np.array([[-1, -1], [-1, 3], [3, 5], [-1, 7]])
    found = Purchases(["a"] * 4, histories, np.array([3, 5, 8, 9])).sequences()
    assert found == [(3, 5, 8), (7, 9)]


def test_a_mean_weighs_newer_products_more() -> None:
    vectors = np.eye(3, dtype=np.float32)
    taste = MeanTaste(vectors, lambda texts, histories: by_age(histories, 0.5))
    found = taste.scores(["a", "b"], np.array([[0, 1], [-1, 2]]))
    assert found == pytest.approx(np.array([[1 / 3, 2 / 3, 0], [0, 0, 1]]))
    assert (taste.scores(["a"], np.array([[-1, -1]])) == 0).all()


def test_neighbours_by_hand() -> None:
    """Two people: one bought 0, 1, the other 1, 2. Somebody with 1 is near both alike."""
    from scipy.sparse import csr_matrix

    bought = csr_matrix(np.array([[1.0, 1, 0], [0, 1, 1]]))
    near = 1 / np.sqrt(2)
    found = Neighbours(bought, 10).scores(["q"], np.array([[-1, 1]]))
    assert found[0] == pytest.approx([near, 2 * near, near])
    # An older product counts half of a newer one of two.
    found = Neighbours(bought, 10).scores(["q"], np.array([[0, 2]]))
    assert found[0] == pytest.approx([0.5 * near, 1.5 * near, near])
    one = Neighbours(bought, 1).scores(["q"], np.array([[0, 2]]))
    assert one[0] == pytest.approx([0, near, near])


def test_mutual_information_by_hand() -> None:
    """0 and 1 were bought together twice, 1 and 2 once: n = 6, of 0: 2, of 1: 3, of 2: 1."""
    found = mutual_information([(0, 1), (0, 1), (1, 2)], 3, 1.0).toarray()
    assert found[0, 1] == pytest.approx(np.log(2 * 6 / (2 * 3)))
    assert found[1, 2] == pytest.approx(np.log(1 * 6 / (3 * 1)))
    assert found[0, 2] == 0 and np.allclose(found, found.T)


def test_popularity_counts_train_alone(shoppers: Any, shop_runtime: Runtime) -> None:
    data = shop_runtime.get(shoppers)
    counts = shop_runtime.get(Popularity().learnt(shoppers)[0])
    assert counts.sum() == len(data.queries("train"))
    bought = purchases(data, "train", 3).bought
    assert (counts == np.bincount(bought, minlength=len(counts))).all()


def network(name: str) -> Any:
    kind = {"query_only": QueryOnly, "sasrec": SASRec, "zam": ZAM, "tem": TEM}[name]
    recipe = kind(dimensions=16, heads=2, layers=1, dropout=0.0, longest=4)
    texts = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
    return made(recipe, name, texts).eval()


@pytest.mark.parametrize("name", list(NETWORKS))
def test_networks_do_not_read_padding(name: str) -> None:
    one = network(name)
    query = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    whole = one(query, torch.tensor([[-1, -1, 3, 5], [-1, -1, -1, -1]]))
    other = network(name)
    with torch.no_grad():
        other.items.own.weight[0] = 100.0  # the row that padding is clamped to
    again = other(query, torch.tensor([[-1, -1, 3, 5], [-1, -1, -1, -1]]))
    assert torch.isfinite(whole).all()
    # Product 0's own scores change, and nobody else's.
    assert torch.allclose(whole[:, 1:], again[:, 1:], atol=1e-5)


def test_zero_attention_is_the_formula() -> None:
    one = network("zam")
    query = torch.randn(1, 6, generator=torch.Generator().manual_seed(1))
    rows = torch.tensor([[-1, 2, 7, 4]])
    items, asked = one.items(), one.asked(query)
    f = (one.near(asked) @ items[[2, 7, 4]].T)[0] / 4  # √16
    alpha = f.exp() / (1 + f.exp().sum())
    wanted = (asked[0] + alpha @ items[[2, 7, 4]]) @ items.T / 4
    assert torch.allclose(one(query, rows)[0], wanted, atol=1e-5)
    # Without a history the query is left.
    empty = one(query, torch.full((1, 4), -1))
    assert torch.allclose(empty[0], asked[0] @ items.T / 4, atol=1e-5)


def test_the_order_of_a_history_matters_to_those_with_places() -> None:
    query = torch.zeros(1, 6)
    for name, differs in (("sasrec", True), ("tem", True), ("zam", False)):
        one = network(name)
        with torch.no_grad():
            one.items.own.weight += torch.randn(
                one.items.own.weight.shape, generator=torch.Generator().manual_seed(3)
            )
        a = one(query, torch.tensor([[1, 2, 3, 4]]))
        b = one(query, torch.tensor([[4, 3, 2, 1]]))
        assert torch.allclose(a, b, atol=1e-5) is not differs, name


def test_padded_histories_keep_the_newest() -> None:
    assert padded(np.array([[1, 2, 3]]), 2).tolist() == [[2, 3]]
    assert padded(np.array([[1]]), 3).tolist() == [[-1, -1, 1]]


def test_ranges_of_lengths() -> None:
    assert ranges_of(np.array([0, 1, 2, 3, 4, 7, 8, 20])).tolist() == [0, 1, 2, 2, 3, 3, 4, 4]


PROFILES = [
    *(Nobody(), Popularity(), RecentMean(encoder=Hashing()), Attention(encoder=Hashing())),
    *(Item2Vec(), VSkNN()),
    TEM(encoder=Hashing(), dimensions=16, schedule=Schedule(epochs=2.0, lr=1e-3)),
]


@pytest.mark.parametrize("profile", PROFILES, ids=lambda one: one.label())
def test_a_new_users_list_is_the_base_score_by_score(
    profile: Any, shoppers: Any, shop_runtime: Runtime
) -> None:
    found = shop_runtime.get(personalised(profile).run(shoppers, REQUEST)).frame
    base = shop_runtime.get(BASE.run(shoppers, REQUEST)).frame
    asked = shop_runtime.get(shoppers).queries("test").frame
    new = asked.filter(pl.col("history").list.len() == 0)["query_id"]
    assert len(new) > 10
    theirs, ours = (f.filter(pl.col("query_id").is_in(new.implode())) for f in (base, found))
    assert theirs.select("query_id", "product_id", "score").equals(
        ours.select("query_id", "product_id", "score")
    )
    # For the others the candidates stay, in another order.
    assert (
        found.select("query_id", "product_id")
        .sort(pl.all())
        .equals(base.select("query_id", "product_id").sort(pl.all()))
    )


def test_nobody_and_no_weight_leave_everything(shoppers: Any, shop_runtime: Runtime) -> None:
    base = shop_runtime.get(BASE.run(shoppers, REQUEST)).frame
    nothing = personalised(VSkNN(), weights=(0.0,) * len(LENGTHS))
    assert shop_runtime.get(nothing.run(shoppers, REQUEST)).frame.equals(base)
    order = shop_runtime.get(personalised(Nobody()).run(shoppers, REQUEST)).frame
    assert order.select("query_id", "product_id").equals(base.select("query_id", "product_id"))


def test_live_lists_are_the_batchs(shoppers: Any, shop_runtime: Runtime) -> None:
    recipe = personalised(VSkNN())
    data = shop_runtime.get(shoppers)
    asked = data.queries("test").frame.head(40)
    rows_of = {name: row for row, name in enumerate(data.catalogue.ids)}
    histories = [[rows_of[name] for name in one] for one in asked["history"].to_list()]
    run = shop_runtime.get(recipe.run(shoppers, REQUEST)).frame
    with recipe.searcher(shoppers, REQUEST, shop_runtime) as live:
        found, _ = live.search(asked["text"].to_list(), 5, histories)  # type: ignore[call-arg]
        plain, _ = live.search(asked["text"].to_list(), 5)
    for number, query in enumerate(asked["query_id"]):
        batch = run.filter(pl.col("query_id") == query).head(5)
        scores = batch["score"].to_list()
        if len(set(scores)) == len(scores):  # ties are broken otherwise
            names = [data.catalogue.ids[int(row)] for row in found[number] if row >= 0]
            assert names == batch["product_id"].to_list()
    assert (plain != found).any()


def test_the_profile_may_bring_products_of_its_own(shoppers: Any, shop_runtime: Runtime) -> None:
    both = personalised(Popularity(), candidates="both", weights=(0.5,) * len(LENGTHS), depth=20)
    run = shop_runtime.get(both.run(shoppers, REQUEST)).frame
    base = shop_runtime.get(BASE.run(shoppers, REQUEST)).frame
    added = run.join(base, on=["query_id", "product_id"], how="anti")
    assert added.height > 0
    assert not both.is_live


def test_taste_is_found_where_it_is_planted_and_nowhere_else(shop_runtime: Runtime) -> None:
    """Item vectors gain from histories with taste, and within noise nothing from others'."""

    def gain(**more: Any) -> tuple[float, float]:
        recipe = replace(SHOP, n_users=700, follow_ups=0.0, **more)
        source = recipe.bound(shop_runtime)
        data = shop_runtime.get(source)
        queries = data.queries("dev")
        request = replace(REQUEST, split="dev")
        values = []
        for system in (BASE, personalised(Item2Vec(), weights=(0.3,) * len(LENGTHS))):
            run = shop_runtime.get(system.run(source, request))
            values.append(
                per_query(run, queries, data.judgments("dev"), GAIN, ("nDCG@10",))[
                    "nDCG@10"
                ].to_numpy()
            )
        apart = values[1] - values[0]
        return float(apart.mean()), float(apart.std() / np.sqrt(len(apart)))

    with_taste, error = gain(taste=2.0)
    assert with_taste > 3 * error
    for control in ({"taste": 0.0}, {"taste": 2.0, "shuffled": True}):
        without, error = gain(**control)
        assert without < 2.5 * error


def read(texts: list[str], carry: str, shoppers: Any, runtime: Runtime) -> list[str]:
    fitted = Contextual(carry=carry).fitted(shoppers)
    return fitted.reader(runtime).texts(texts)


@pytest.mark.parametrize(
    "text, rules",
    [
        (f"armchair {TURN} in beige", "beige armchair"),
        (f"red armchair {TURN} in beige", "beige armchair"),  # another colour takes its place
        (f"armchair {TURN} in beige {TURN} kettle", "kettle"),  # another type begins anew
        (f"armchair {TURN} kettle {TURN} in red", "red kettle"),
        (f"armchair {TURN} extra large one", "extra large armchair"),
        ("plain armchair", "plain armchair"),
        (f"{TURN} armchair", f"{TURN} armchair"),
    ],
)
def test_follow_ups_carry_what_they_must(
    text: str, rules: str, shoppers: Any, shop_runtime: Runtime
) -> None:
    assert read([text], "rules", shoppers, shop_runtime) == [rules]


def test_the_other_ways_to_carry(shoppers: Any, shop_runtime: Runtime) -> None:
    text = f"red armchair {TURN} in beige"
    assert read([text], "nothing", shoppers, shop_runtime) == ["in beige"]
    assert read([text], "everything", shoppers, shop_runtime) == ["red armchair in beige"]


@dataclass(frozen=True)
class Garbled(Shoppers):
    """The same shoppers, who bought something else in the end."""

    def tables(self, runtime: Runtime) -> Tables:
        made = super().tables(runtime)
        tested = made.queries.filter(pl.col("split") == "test")["query_id"]
        other = pl.when(pl.col("query_id").is_in(tested.implode())).then(pl.lit("P00000007"))
        judgments = made.judgments.with_columns(product_id=other.otherwise(pl.col("product_id")))
        return replace(made, judgments=judgments)


@pytest.mark.parametrize("profile", PROFILES[1:], ids=lambda one: one.label())
def test_no_profile_learns_from_what_is_tested(
    profile: Any, shoppers: Any, shop_runtime: Runtime
) -> None:
    """With other test judgments every list keeps its fingerprint, weights included."""
    fields = {spec: getattr(SHOP, spec) for spec in ("n_products", "n_queries", "n_users")}
    garbled = Garbled(**fields, follow_ups=SHOP.follow_ups).bound(shop_runtime)
    own, other = (
        shop_runtime.get(one).queries("test").frame.sort("query_id") for one in (shoppers, garbled)
    )
    assert own.equals(other) and shoppers.artifact_fingerprint != garbled.artifact_fingerprint
    runs = [personalised(profile).run(one, REQUEST) for one in (shoppers, garbled)]
    assert runs[0].address == runs[1].address
