"""What a server tells Prometheus."""

import prometheus_client
from prometheus_client import exposition

_SECONDS = (
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    30,
)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

CONTENT_TYPE = exposition.CONTENT_TYPE_LATEST


class Metrics:
    """Counters of one server; several in a process keep apart."""

    def __init__(self):
        self._registry = registry = prometheus_client.CollectorRegistry()
        self._requests = prometheus_client.Counter(
            "serving_requests",
            "Requests by protocol, method and gRPC status code.",
            ["protocol", "method", "code"],
            registry=registry,
        )
        self._seconds = prometheus_client.Histogram(
            "serving_request_seconds",
            "From the whole request to its answer.",
            ["protocol", "method"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._rows = prometheus_client.Histogram(
            "serving_batch_rows",
            "Rows that ran together.",
            buckets=_ROWS,
            registry=registry,
        )
        self._batch_seconds = prometheus_client.Histogram(
            "serving_batch_seconds",
            "Time in the graph.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._queue = prometheus_client.Gauge(
            "serving_queue_requests",
            "Requests waiting or running.",
            registry=registry,
        )
        self._loads = prometheus_client.Counter(
            "serving_version_loads",
            "Attempts to load a version.",
            ["result"],
            registry=registry,
        )
        self._newest = prometheus_client.Gauge(
            "serving_newest_version",
            "The version that answers by default.",
            registry=registry,
        )
        self._versions = prometheus_client.Gauge(
            "serving_versions",
            "Versions that are available.",
            registry=registry,
        )

    def request(
        self, protocol: str, method: str, code: str, seconds: float
    ) -> None:
        """Counts a request that was answered."""
        self._requests.labels(protocol, method, code).inc()
        self._seconds.labels(protocol, method).observe(seconds)

    def batch(self, rows: int, seconds: float) -> None:
        """Counts a call of the graph."""
        self._rows.observe(rows)
        self._batch_seconds.observe(seconds)

    def queued(self, change: int) -> None:
        """Counts requests into the queue, or out of it."""
        self._queue.inc(change)

    def load(self, succeeded: bool) -> None:
        """Counts an attempt to load a version."""
        self._loads.labels("ok" if succeeded else "failed").inc()

    def versions(self, available: list[int]) -> None:
        """Notes which versions there are, ascending."""
        self._versions.set(len(available))
        if available:
            self._newest.set(available[-1])

    def text(self) -> bytes:
        """Returns all of it as Prometheus reads it."""
        return exposition.generate_latest(self._registry)
