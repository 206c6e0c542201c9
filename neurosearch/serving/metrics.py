"""What Prometheus reads: requests by OpenTelemetry's names, and what only a search server has.

No label holds a query, a product or a caller.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

# OpenTelemetry's buckets of http.server.request.duration, in seconds.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
FINE = (0.0005, 0.001, 0.0025, *SECONDS)
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        own = self.registry = CollectorRegistry()
        http = "http_server_request_duration_seconds"
        labels: tuple[str, ...]
        labels = ("http_request_method", "http_route", "http_response_status_code")
        self.requests = Histogram(http, "Requests, answered", labels, buckets=SECONDS, registry=own)
        self.active = Gauge("http_server_active_requests", "Requests in flight", registry=own)
        stages, labels = "neurosearch_stage_duration_seconds", ("system", "stage")
        self.stages = Histogram(stages, "Stages of a search", labels, buckets=FINE, registry=own)
        queue = "neurosearch_queue_length"
        self.queue = Gauge(queue, "Searches that wait for a thread", registry=own)
        batch = "neurosearch_batch_size"
        self.batch = Histogram(batch, "Queries encoded together", buckets=SIZES, registry=own)
        labels = ("level", "outcome")
        self.cache = Counter("neurosearch_cache_requests", "Lookups", labels, registry=own)
        labels = ("reason",)
        self.shed = Counter("neurosearch_shed", "Refused or given up", labels, registry=own)
        labels, empty = ("system",), "neurosearch_zero_results"
        self.empty = Counter(empty, "Searches without a product", labels, registry=own)
        age = "neurosearch_index_age_seconds"
        self.age = Gauge(age, "Since the index was built", labels, registry=own)
        labels = ("system", "fingerprint")
        self.index = Gauge("neurosearch_index_info", "1 for what is served", labels, registry=own)
        labels = ("kind",)
        self.swaps = Counter("neurosearch_swaps", "Generations put in place", labels, registry=own)
        labels = ("file",)
        self.logged = Counter("neurosearch_logged", "Lines of the query log", labels, registry=own)

    def serve(self, systems: dict[str, tuple[str, float]]) -> None:
        """Say what is served from now on.

        Args:
            systems: fingerprint and time of the build (seconds since 1970) of each.
        """
        self.index.clear()
        self.age.clear()
        for name, (fingerprint, built) in systems.items():
            self.index.labels(name, fingerprint).set(1)
            self.age.labels(name).set_function(_age_since(built))

    def text(self) -> bytes:
        """All of them in Prometheus's text format.

        Returns:
            The page.
        """
        return generate_latest(self.registry)


def _age_since(built: float) -> Callable[[], float]:
    return lambda: time.time() - built
