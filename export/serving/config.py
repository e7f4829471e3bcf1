"""How a server behaves: versions, batches and limits."""

import dataclasses
import os


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of a server.

    Attributes:
        name: of the model, as clients call it; the base folder's if None.
        host: the address to listen on.
        port: of gRPC; 0 picks a free one.
        rest_port: of HTTP; 0 picks a free one.
        keep_versions: how many versions are served, the newest ones.
        poll_seconds: how often the base folder is looked at.
        max_batch: rows of the requests that run together.
        batch_wait_ms: how long a request waits for company. Under load
            requests meet in the queue anyway, at no cost in latency.
        workers: batches that run at the same time; the CPUs' count if None.
        max_queue: requests waiting or running; more are refused at once.
        max_rows: rows of one request.
        max_length: values in each further dimension of an input.
        max_request_mb: size of one request on the wire.
        client_seconds: how long a client may take to send a request or to
            read an answer, and keep a connection open without a request.
        answer_seconds: the longest that a request may wait for its answer.
        drain_seconds: how long requests under way may take to finish when the
            server stops.
        page: whether there is a page to try the model, at / of HTTP.
        samples: a JSON file of histories to start from on that page,
            [{"name": .., "history": [id, ..]}, ..].

    Raises:
        ValueError: a setting is out of its range.
    """

    name: str | None = None
    host: str = "127.0.0.1"
    port: int = 0
    rest_port: int = 0
    keep_versions: int = 2
    poll_seconds: float = 2.0
    max_batch: int = 64
    batch_wait_ms: float = 0.0
    workers: int | None = None
    max_queue: int = 512
    max_rows: int = 256
    max_length: int = 10_000
    max_request_mb: float = 8.0
    client_seconds: float = 30.0
    answer_seconds: float = 30.0
    drain_seconds: float = 30.0
    page: bool = True
    samples: str | None = None

    def __post_init__(self):
        least = {
            "port": 0,
            "rest_port": 0,
            "keep_versions": 1,
            "max_batch": 1,
            "batch_wait_ms": 0,
            "max_queue": 1,
            "max_rows": 1,
            "max_length": 1,
            "drain_seconds": 0,
        }
        for name, low in least.items():
            if not getattr(self, name) >= low:
                raise ValueError(
                    f"{name} must be at least {low}; got {getattr(self, name)}."
                )
        for name in (
            "poll_seconds",
            "max_request_mb",
            "client_seconds",
            "answer_seconds",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"{name} must be above 0; got {getattr(self, name)}."
                )
        if max(self.port, self.rest_port) > 65535:
            raise ValueError(
                "Ports are at most 65535; got "
                f"{max(self.port, self.rest_port)}."
            )
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers must be at least 1; got {self.workers}.")

    @property
    def max_request_bytes(self) -> int:
        return int(self.max_request_mb * 2**20)

    @property
    def num_workers(self) -> int:
        return self.workers or os.cpu_count() or 1
