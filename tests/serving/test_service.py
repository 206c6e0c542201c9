"""The service: answers are the table's lists, and what goes wrong is one clear error."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from starlette.testclient import TestClient

from neurosearch.core.artifact import Artifact
from neurosearch.core.retrieval import RetrievalRequest
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.data.shop import Shop
from neurosearch.encoder.image import ImageEncoder
from neurosearch.query.none import NoProcessing
from neurosearch.retriever.bm25 import BM25
from neurosearch.retriever.dense import Dense
from neurosearch.serving.settings import Caching, Limits, Logging
from neurosearch.task.prune import referenced
from tests.served import ADMIN, Served, systems


def asked(client: TestClient, query: str, **more: Any) -> dict[str, Any]:
    answer = client.post("/v1/search", json={"query": query, **more})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture(scope="module", autouse=True)
def built(shop: Artifact[Dataset], shop_runtime: Runtime) -> None:
    """What reloads put in place: a server builds nothing."""
    for changes in ({"k1": 0.2}, {"k1": 0.6}, {"b": 0.0}):
        request = RetrievalRequest(NoProcessing(), depth=200)
        for artifact in BM25(engine="bm25s", **changes).serving(shop, request):
            shop_runtime.store.ensure(artifact)


def ids_of(answer: dict[str, Any]) -> list[str]:
    return [one["product_id"] for one in answer["results"]]


@pytest.mark.parametrize("name", ["words", "both"])
def test_what_is_served_is_what_the_table_measured(
    client: TestClient, name: str, shop: Artifact[Dataset], shop_runtime: Runtime
) -> None:
    request = RetrievalRequest(NoProcessing(), depth=200)
    run = shop_runtime.get(systems()[name].run(shop, request)).frame
    queries = shop_runtime.get(shop).queries("test").frame
    for query_id, text in queries.select("query_id", "text").iter_rows():
        wanted = run.filter(pl.col("query_id") == query_id).sort("rank").head(20)
        answer = asked(client, text, k=20, system=name)
        assert ids_of(answer) == wanted["product_id"].to_list()
        scores = [one["score"] for one in answer["results"]]
        np.testing.assert_allclose(scores, wanted["score"].to_numpy(), rtol=1e-5)


def test_pages_join_to_one_list(client: TestClient) -> None:
    whole = ids_of(asked(client, "red mixer", k=60))
    pages, cursor = [], None
    for _ in range(6):
        answer = asked(client, "red mixer", k=10, **({"cursor": cursor} if cursor else {}))
        pages += ids_of(answer)
        cursor = answer["next_cursor"]
        if cursor is None:
            break
    assert pages == whole[: len(pages)] and len(pages) >= min(60, len(whole))


def test_cursors_are_bound_to_what_they_were_made_for(client: TestClient) -> None:
    cursor = asked(client, "red mixer", k=5)["next_cursor"]
    for body, status in (
        ({"query": "blue mixer", "k": 5, "cursor": cursor}, 400),
        ({"query": "red mixer", "k": 6, "cursor": cursor}, 400),
        ({"query": "red mixer", "k": 5, "cursor": cursor[:-3] + "abc"}, 400),
        ({"query": "red mixer", "k": 5, "cursor": "?"}, 400),
        ({"query": "red mixer", "k": 5, "cursor": cursor, "system": "both"}, 410),
    ):
        answer = client.post("/v1/search", json=body)
        assert answer.status_code == status, (body, answer.text)
    changed = {"systems": {"words": ["k1=0.2"]}}
    answer = client.post("/admin/reload", json=changed, headers=ADMIN)
    assert answer.status_code == 200, answer.text
    retired = client.post("/v1/search", json={"query": "red mixer", "k": 5, "cursor": cursor})
    assert retired.status_code == 410


def test_filters_keep_the_order_of_what_passes(
    client: TestClient, shop: Artifact[Dataset], shop_runtime: Runtime
) -> None:
    """Brute force: the whole list without filters, and of it what passes."""
    catalogue = pl.read_parquet(shop_runtime.get(shop).catalogue.path)
    attributes = [json.loads(text) for text in catalogue["attributes"].to_list() if text]
    assert attributes, "the shop's products have attributes"
    whole = ids_of(asked(client, "red mixer", k=100))
    for filters in (
        {"colour": ["red"]},
        {"colour": ["red", "blue"]},
        {"category": ["Kitchen"]},
        {"colour": ["red"], "category": ["Kitchen > Appliances"]},
        {"brand": ["no such brand"]},
    ):
        passing = catalogue.filter(
            pl.all_horizontal(
                pl.col(name).is_in(values)
                if name != "category"
                else pl.any_horizontal(
                    (pl.col(name) == value) | pl.col(name).str.starts_with(f"{value} > ")
                    for value in values
                )
                for name, values in filters.items()
            )
        )["product_id"].to_list()
        wanted = [one for one in whole if one in set(passing)]
        assert ids_of(asked(client, "red mixer", k=100, filters=filters))[: len(wanted)] == wanted
        both = ids_of(asked(client, "red mixer", k=100, filters=filters, system="both"))
        assert set(both) <= set(passing)
        if filters == {"brand": ["no such brand"]}:
            assert both == []


def test_facets_count_the_list(client: TestClient) -> None:
    answer = asked(client, "red mixer", k=100, facets=["colour", "brand"])
    shown = [one.get("colour") for one in answer["results"]]
    counted = {one["value"]: one["count"] for one in answer["facets"]["colour"]}
    assert len(shown) < 100 or answer["next_cursor"]
    if len(shown) < 100:  # the whole list is on the page
        for value in set(shown) - {None}:
            assert counted[value] == shown.count(value)
    # A facet's own filter takes none of its other values away: this brand, or that one.
    chosen = asked(client, "red mixer", k=100, facets=["colour"], filters={"colour": ["red"]})
    assert chosen["facets"]["colour"] == answer["facets"]["colour"]
    counts = [one["count"] for one in answer["facets"]["brand"]]
    assert counts == sorted(counts, reverse=True)


def test_reasons_add_up(client: TestClient) -> None:
    for system in ("words", "both"):
        first = asked(client, "red mixer", k=3, explain=True, system=system)["results"][0]
        why = first["why"]
        total = why["constant"] + sum(part["value"] for part in why["parts"])
        assert why["exact"] and total == pytest.approx(first["score"], rel=1e-4)
        body = {"query": "red mixer", "product_id": first["product_id"], "system": system}
        alone = client.post("/v1/explain", json=body).json()
        assert alone["rank"] == 1 and alone["score"] == pytest.approx(first["score"])


def test_batches_and_similar_products(client: TestClient) -> None:
    single = [asked(client, text, k=3) for text in ("red mixer", "blue kettle")]
    bodies = [{"query": text, "k": 3} for text in ("red mixer", "blue kettle")]
    batch = client.post("/v1/search/batch", json={"requests": bodies}).json()["answers"]
    assert [ids_of(one) for one in batch] == [ids_of(one) for one in single]
    product = ids_of(single[0])[0]
    similar = client.get(f"/v1/similar/{product}?k=5").json()
    assert product not in ids_of(similar) and len(ids_of(similar)) == 5


MALFORMED: list[tuple[str, str, Any]] = [
    *(
        ("POST", "/v1/search", body)
        for body in (
            *({}, [], 1, None, "text", {"query": 1}, {"query": None}, {"query": ""}),
            *({"query": "  "}, {"query": "x" * 257}, {"query": "x" * 5000}, {"query": "a\u0000b"}),
            *({"query": "a", "k": 0}, {"query": "a", "k": 101}, {"query": "a", "k": "many"}),
            *({"query": "a", "k": 1.5}, {"query": "a", "k": -1}, {"query": "a", "kk": 1}),
            *({"query": "a", "system": "none"}, {"query": "a", "system": 1}),
            *({"query": "a", "cursor": 1}, {"query": "a", "cursor": "x" * 600}),
            *({"query": "a", "filters": []}, {"query": "a", "filters": {"strange": ["x"]}}),
            *({"query": "a", "filters": {"brand": []}}, {"query": "a", "filters": {"brand": "x"}}),
            {"query": "a", "filters": {"brand": {"least": "low"}}},
            {"query": "a", "filters": {"brand": {"over": 1}}},
            {"query": "a", "filters": {"brand": {"least": 1}}},
            {"query": "a", "filters": {"brand": {}}},
            {"query": "a", "filters": {"brand": {"least": 2, "most": 1}}},
            *({"query": "a", "k": True}, {"query": "a", "k": "3"}),
            {"query": "a", "filters": {str(n): ["x"] for n in range(17)}},
            {"query": "a", "filters": {"brand": ["x"] * 65}},
            *({"query": "a", "facets": "brand"}, {"query": "a", "facets": ["strange"]}),
            *({"query": "a", "explain": "perhaps"}, {"query": "a", "client_id": "x" * 200}),
        )
    ),
    ("POST", "/v1/search", b"{"),
    ("POST", "/v1/search", b"\xff\xfe"),
    ("GET", "/v1/search", None),
    ("POST", "/v1/search/batch", {"requests": []}),
    ("POST", "/v1/search/batch", {"requests": [{"query": "a"}] * 65}),
    ("POST", "/v1/search/batch", {"requests": [{"query": ""}]}),
    ("POST", "/v1/search/image", b"no picture"),
    ("POST", "/v1/search/image", b""),
    ("GET", "/v1/similar/none", None),
    ("GET", "/v1/products/none/image", None),
    ("POST", "/v1/explain", {"query": "a", "product_id": "none"}),
    ("POST", "/v1/explain", {"query": "a"}),
    ("POST", "/v1/events", {"event_id": "1"}),
    (
        "POST",
        "/v1/events",
        {"event_id": "1", "query_id": "2", "action_name": "steal", "product_id": "3"},
    ),
    ("POST", "/admin/reload", {}),
    ("GET", "/nowhere", None),
    ("DELETE", "/v1/systems", None),
]


def test_malformed_requests_get_a_clear_4xx(client: TestClient) -> None:
    assert len(MALFORMED) >= 50
    for method, path, body in MALFORMED:
        sent: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
        answer = client.request(method, path, **({} if body is None and method == "GET" else sent))
        assert 400 <= answer.status_code < 500, (method, path, body, answer.status_code)
        told = answer.json()
        assert told["status"] == answer.status_code and told["title"] and told["detail"]
        assert "Traceback" not in answer.text and "neurosearch/" not in answer.text
        assert "xxxxxxxxxx" not in answer.text  # what was sent is not sent back


def test_a_body_may_not_be_large(client: TestClient) -> None:
    answer = client.post("/v1/search", json={"query": "a", "client_id": "x" * 100_000})
    assert answer.status_code == 413 and answer.json()["status"] == 413


def test_answers_are_kept_by_what_is_served(client: TestClient) -> None:
    first = asked(client, "red mixer", k=5)
    again = asked(client, "red mixer", k=5)
    assert (first["cached"], again["cached"]) == (False, True)
    assert first["results"] == again["results"] and first["request_id"] != again["request_id"]
    answer = client.post("/admin/reload", json={"systems": {"words": ["b=0.0"]}}, headers=ADMIN)
    assert answer.status_code == 200
    new = asked(client, "red mixer", k=5)
    assert not new["cached"] and new["fingerprint"] != first["fingerprint"]
    assert client.post("/admin/rollback", headers=ADMIN).status_code == 200
    old = asked(client, "red mixer", k=5)
    assert old["cached"] and old["results"] == first["results"]


def test_swaps_under_load_lose_no_request(served: Served) -> None:
    """Each answer is wholly of one generation, and nothing fails."""
    with served(cache=Caching(answers=0)) as client:
        found: list[tuple[int, str, tuple[str, ...]]] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                answer = client.post("/v1/search", json={"query": "red mixer", "k": 10})
                told = answer.json()
                found.append((answer.status_code, told.get("fingerprint"), tuple(ids_of(told))))

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for swap in range(8):
            change = {"systems": {"words": [f"k1={(0.2, 0.6)[swap % 2]}"]}}
            assert client.post("/admin/reload", json=change, headers=ADMIN).status_code == 200
        stop.set()
        for thread in threads:
            thread.join()
        assert {status for status, _, _ in found} == {200} and len(found) > 20
        lists: dict[str, set[tuple[str, ...]]] = {}
        for _, fingerprint, ids in found:
            lists.setdefault(fingerprint, set()).add(ids)
        assert len(lists) >= 2 and all(len(one) == 1 for one in lists.values())


def test_a_reload_refuses_what_is_not_built(client: TestClient) -> None:
    before = asked(client, "red mixer")["fingerprint"]
    for change, status, reason in (
        ({"systems": {"words": ["k1=-1"]}}, 400, "k1"),
        ({"systems": {"words": ["k1=1.7"]}}, 409, "not built"),
    ):
        answer = client.post("/admin/reload", json=change, headers=ADMIN)
        assert answer.status_code == status and reason in answer.json()["detail"]
    assert client.post("/admin/rollback", headers=ADMIN).status_code == 409
    assert asked(client, "red mixer")["fingerprint"] == before


def test_keys_rates_and_admin(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_KEY", "secret")
    with served(keys=("SHOP_KEY",), limits=Limits(rate=1.0, burst=3)) as client:
        body = {"query": "red mixer"}
        assert client.post("/v1/search", json=body).status_code == 401
        assert client.get("/health").status_code == 200
        key = {"Authorization": "Bearer secret"}
        codes = [client.post("/v1/search", json=body, headers=key).status_code for _ in range(4)]
        assert codes == [200, 200, 200, 429]
        refused = client.post("/v1/search", json=body, headers=key)
        assert refused.headers["retry-after"] == "1"
        assert client.post("/admin/reload", json={}, headers=key).status_code == 401
    with served(admin_keys=()) as client:
        assert client.post("/admin/reload", json={}).status_code == 403


class SlowSearcher:
    """Waits for an event in each search."""

    def __init__(self, inner: Any, gate: threading.Event) -> None:
        self.inner, self.gate, self.asked = inner, gate, 0

    def search(self, texts: Any, k: int) -> Any:
        self.asked += 1
        self.gate.wait(10)
        return self.inner.search(texts, k)


def slowed(client: TestClient) -> SlowSearcher:
    """Put a gate before the served system."""
    service = client.app._app.state.service  # type: ignore[attr-defined]
    system = service.generations.current.systems["words"]
    slow = SlowSearcher(system.live, threading.Event())
    system._live = slow
    return slow


def in_threads(client: TestClient, bodies: list[dict[str, Any]]) -> tuple[list[Any], list[Any]]:
    """Requests at the same time: threads that run, and where their answers go."""
    answers: list[Any] = [None] * len(bodies)

    def ask(number: int) -> None:
        answers[number] = client.post("/v1/search", json=bodies[number])

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(len(bodies))]
    for thread in threads:
        thread.start()
    return threads, answers


def test_equal_misses_search_once(served: Served) -> None:
    with served() as client:
        slow = slowed(client)
        threads, answers = in_threads(client, [{"query": "red mixer"}] * 20)
        while slow.asked == 0:
            pass
        slow.gate.set()
        for thread in threads:
            thread.join()
        assert {answer.status_code for answer in answers} == {200}
        assert slow.asked == 1


def test_a_full_queue_sheds_and_a_deadline_gives_up(served: Served) -> None:
    limits = Limits(workers=1, queue=2, deadline_ms=400.0)
    with served(limits=limits, cache=Caching(answers=0)) as client:
        slow = slowed(client)
        threads, answers = in_threads(client, [{"query": f"mixer {n}"} for n in range(8)])
        for thread in threads:
            thread.join()
        codes = sorted(answer.status_code for answer in answers)
        assert codes.count(503) >= 5 and set(codes) == {503, 504}
        shed = next(answer for answer in answers if answer.status_code == 503)
        assert int(shed.headers["retry-after"]) >= 1
        slow.gate.set()
        assert asked(client, "red mixer")["results"]
        assert slow.asked <= 3  # what waited too long was never searched


def test_the_log_is_ubi_and_keeps_no_secret(served: Served, tmp_path: Path) -> None:
    with served(log=Logging(text="hashed")) as client:
        found = asked(client, "my secret illness", k=3, client_id="somebody")
        event = {"event_id": "e1", "query_id": found["request_id"], "action_name": "click"}
        event |= {"product_id": "P1", "position": 1, "client_id": "somebody"}
        logged = [client.post("/v1/events", json=event) for _ in range(2)]
        assert [one.json()["logged"] for one in logged] == [True, False]
        assert "secret" not in client.get("/metrics").text
    folder = tmp_path / "serving" / "log"
    whole = b"".join(path.read_bytes() for path in folder.glob("*.jsonl"))
    assert b"secret" not in whole and b"somebody" not in whole
    (line,) = next(folder.glob("queries-*")).read_text().splitlines()
    query = json.loads(line)
    assert query["query_id"] == found["request_id"]
    assert query["query_response_hit_ids"] == ids_of(found)
    (line,) = next(folder.glob("events-*")).read_text().splitlines()
    click = json.loads(line)
    assert click["client_id"] == query["client_id"] is not None
    assert click["event_attributes"]["object"]["object_id"] == "P1"
    assert click["event_attributes"]["position"]["ordinal"] == 1


def test_what_is_served_is_not_pruned(served: Served, tmp_path: Path) -> None:
    jobs = tmp_path / "outputs" / "jobs"
    jobs.mkdir(parents=True)
    (jobs / "serving").symlink_to(tmp_path / "serving")
    with served() as client:
        record = json.loads((tmp_path / "serving" / "served" / "now" / "record.json").read_text())
        kept = referenced(tmp_path / "outputs")
        assert {tuple(a.split("/")) for a in record["systems"]["words"]["artifacts"]} <= kept
        assert client.get("/health/ready").status_code == 200
    assert not (tmp_path / "serving" / "served").exists()


def test_the_interface_is_what_it_was(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {(path, method) for path, methods in paths.items() for method in methods} == {
        ("/v1/search", "post"),
        ("/v1/search/batch", "post"),
        ("/v1/search/image", "post"),
        ("/v1/similar/{product_id}", "get"),
        ("/v1/products/{product_id}/image", "get"),
        ("/v1/explain", "post"),
        ("/v1/events", "post"),
        ("/v1/systems", "get"),
        ("/health", "get"),
        ("/health/live", "get"),
        ("/health/ready", "get"),
        ("/metrics", "get"),
        ("/admin/reload", "post"),
        ("/admin/rollback", "post"),
    }
    metrics = client.get("/metrics").text
    assert "http_server_request_duration_seconds_bucket" in metrics
    assert 'neurosearch_index_info{fingerprint="' in metrics


def test_a_picture_finds_its_own_product(
    served: Served, shop_runtime: Runtime, tmp_path: Path
) -> None:
    shop = Shop(n_products=500, n_queries=60, n_sessions=50, images=True).dataset()
    catalogue = pl.read_parquet(shop_runtime.get(shop).catalogue.path)
    both = {"pictures": Dense(ImageEncoder(side=64)), "words": BM25(engine="bm25s")}
    with served(both, data=shop) as client:
        picture = catalogue["image"][7]
        answer = client.post("/v1/search/image?k=3&system=pictures", content=picture)
        assert answer.status_code == 200, answer.text
        first = answer.json()["results"][0]
        same = catalogue.filter(pl.col("image") == picture)["product_id"].to_list()
        assert first["product_id"] in same and first["score"] == pytest.approx(1, abs=1e-4)
        image = client.get(first["image"])
        assert image.content == picture and image.headers["content-type"] == "image/png"
        refused = client.post("/v1/search/image?system=words", content=picture)
        assert refused.status_code == 422 and "pictures" in refused.json()["detail"]
        refused = client.post("/v1/search", json={"query": "mug", "system": "pictures"})
        assert refused.status_code == 422 and "/v1/search/image" in refused.json()["detail"]


def test_spans_have_standard_names_and_no_query(client: TestClient) -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    asked(client, "my secret illness", system="both")
    spans = {span.name: span for span in exporter.get_finished_spans()}
    request = spans["POST /v1/search"]
    assert request.attributes is not None
    assert request.attributes["http.route"] == "/v1/search"
    assert request.attributes["http.response.status_code"] == 200
    stages = {name for name in spans if name.startswith("neurosearch.")}
    assert stages >= {"neurosearch.encode", "neurosearch.words", "neurosearch.fuse"}
    assert all(spans[name].parent is not None for name in stages)
    assert "secret" not in "".join(span.to_json() for span in spans.values())


def test_other_pages_may_ask_only_where_they_are_named(served: Served) -> None:
    origin = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    allowed = "access-control-allow-origin"
    with served(origins=("https://shop.example",)) as client:
        answer = client.options("/v1/search", headers=origin)
        assert answer.headers[allowed] == "https://shop.example"
        other = client.options("/v1/search", headers={**origin, "Origin": "https://other.example"})
        assert allowed not in other.headers
    with served() as client:
        assert allowed not in client.options("/v1/search", headers=origin).headers


def test_old_logs_go(served: Served, tmp_path: Path) -> None:
    folder = tmp_path / "serving" / "log"
    folder.mkdir(parents=True)
    for name in ("queries-2020-01-01.jsonl", "events-2020-01-01.jsonl", ".salt-2020-01-01"):
        (folder / name).write_text("{}\n")
    with served(log=Logging(days=7)) as client:
        asked(client, "red mixer", client_id="somebody")
    left = sorted(path.name[:7] for path in folder.iterdir())
    assert left == [".salt-2", "queries"]
