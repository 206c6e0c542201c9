"""What Prometheus reads: requests by OpenTelemetry's names, and what only a search server has.

No label holds a query, a product or a caller.
"""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

# OpenTelemetry's buckets of http.server.request.duration, in seconds.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
FINE = (0.0005, 0.001, 0.0025, *SECONDS)
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        where = {"registry": self.registry}
        http = "http_server_request_duration_seconds"
        labels = ("http_request_method", "http_route", "http_response_status_code")
        self.requests = Histogram(http, "Requests, answered", labels, buckets=SECONDS, **where)
        active = "http_server_active_requests"
        self.active = Gauge(active, "Requests in flight", **where)
        stages = "neurosearch_stage_duration_seconds"
        self.stages = Histogram(
            stages, "Stages of a search", ("system", "stage"), buckets=FINE, **where
        )
        self.queue = Gauge("neurosearch_queue_length", "Searches that wait for a thread", **where)
        batch = "neurosearch_batch_size"
        self.batch = Histogram(batch, "Queries encoded together", buckets=SIZES, **where)
        self.cache = Counter("neurosearch_cache_requests", "Lookups", ("level", "outcome"), **where)
        self.shed = Counter("neurosearch_shed", "Refused or given up", ("reason",), **where)
        self.empty = Counter(
            "neurosearch_zero_results", "Searches without a product", ("system",), **where
        )
        self.index = Gauge(
            "neurosearch_index_info", "1 for what is served", ("system", "fingerprint"), **where
        )
        self.age = Gauge(
            "neurosearch_index_age_seconds", "Since the index was built", ("system",), **where
        )
        self.swaps = Counter("neurosearch_swaps", "Generations put in place", ("kind",), **where)
        self.logged = Counter("neurosearch_logged", "Lines of the query log", ("file",), **where)

    def serve(self, systems: dict[str, tuple[str, float]]) -> None:
        """Say what is served from now on.

        Args:
            systems: fingerprint and time of the build (seconds since 1970) of each.
        """
        self.index.clear()
        self.age.clear()
        for name, (fingerprint, built) in systems.items():
            self.index.labels(name, fingerprint).set(1)
            self.age.labels(name).set_function(lambda built=built: time.time() - built)

    def text(self) -> bytes:
        """All of them in Prometheus's text format.

        Returns:
            The page.
        """
        return generate_latest(self.registry)
