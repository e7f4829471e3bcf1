"""Load on a gRPC endpoint, and what it did to it.

Open loop: when requests are due is decided beforehand, as if by people who do
not know of each other, and latency counts from the time a request was due.
A server that slows down is asked no less for it, and what waits in a queue,
here or there, is counted: a slow server cannot hide. A closed loop, where a
caller waits for an answer before it asks again, finds the capacity.

Requests and answers are bytes, made before and read after, so that the load
takes little of a machine that it shares with the server.
"""

import collections
import dataclasses
import ipaddress
import itertools
import threading
import time
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
from tensorflow_serving.apis import predict_pb2

from export.calling import grpc_wire
from export.calling import wire

PREDICT = "/tensorflow.serving.PredictionService/Predict"

PERCENTILES = (50, 90, 99, 99.9)


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of one request.

    Attributes:
        question: which of the requests was sent.
        seconds: from when it was due to its answer.
        late: seconds from when it was due to when it was sent.
        end: seconds from the start to its answer.
        answer: a `PredictResponse` as bytes; None after an error.
        error: the name of the gRPC status; None where there is an answer.
    """

    question: int
    seconds: float
    late: float
    end: float
    answer: bytes | None
    error: str | None

    def response(self) -> predict_pb2.PredictResponse:
        """Returns the answer as a message."""
        return predict_pb2.PredictResponse.FromString(self.answer)


def require_loopback(target: str) -> None:
    """Refuses any endpoint but one of this machine.

    Raises:
        ValueError: `target` is elsewhere, or is not HOST:PORT.
    """
    host, _, port = target.rpartition(":")
    host = host.strip("[]")
    try:
        near = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        near = False
    if not near or not port.isdecimal():
        raise ValueError(
            "Load goes to this machine only: expected localhost, 127.0.0.1 or "
            f"[::1], a colon and a port; got {target!r}."
        )


def arrivals(rate: float, seconds: float, seed: int) -> np.ndarray:
    """Returns when requests are due: a Poisson process, ascending [R].

    Args:
        rate: requests a second, on average.
        seconds: how long.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    count = rng.poisson(rate * seconds)
    return np.sort(rng.uniform(0.0, seconds, count))


class Generator:
    """Sends requests to one endpoint.

    Args:
        target: HOST:PORT, on this machine.
        requests: what to ask, in turns.
        timeout: seconds until a request counts as failed.

    Raises:
        ValueError: the target is not on loopback.
    """

    def __init__(
        self,
        target: str,
        requests: Sequence[predict_pb2.PredictRequest],
        timeout: float = 30.0,
    ):
        require_loopback(target)
        self._requests = [request.SerializeToString() for request in requests]
        self._timeout = timeout
        self._channel = grpc_wire.connect(target)
        self._predict = self._channel.unary_unary(PREDICT)

    def __enter__(self) -> "Generator":
        return self

    def __exit__(self, *_) -> None:
        self._channel.close()

    def open_loop(self, due: np.ndarray) -> list[Result]:
        """Sends a request whenever one is due, answered or not.

        Args:
            due: [R] seconds from now, ascending.

        Returns:
            [R] results, in the order they were due.
        """
        results: list[Result | None] = [None] * len(due)
        self.send_when_due(due, results.__setitem__)
        return [result for result in results if result is not None]

    def send_when_due(
        self,
        due: np.ndarray,
        heed: Callable[[int, Result], None],
        enough: threading.Event | None = None,
    ) -> None:
        """Does what `open_loop` does, and keeps nothing.

        Args:
            due: [R] seconds from now, ascending.
            heed: takes the place of a request in `due` and its result, in
                threads of gRPC, one after the other.
            enough: once it is set, no further request is sent.
        """
        enough = threading.Event() if enough is None else enough
        left = threading.Semaphore(0)
        heeding = threading.Lock()
        start = time.perf_counter()

        def note(index, sent, call):
            now = time.perf_counter() - start
            code = call.code()
            good = code is grpc.StatusCode.OK
            result = Result(
                question=index % len(self._requests),
                seconds=now - due[index],
                late=sent - due[index],
                end=now,
                answer=call.result() if good else None,
                error=None if good else code.name,
            )
            try:
                with heeding:
                    heed(index, result)
            finally:
                left.release()

        asked = 0
        for index, at in enumerate(due):
            if enough.wait(max(0.0, at - (time.perf_counter() - start))):
                break
            asked += 1
            sent = time.perf_counter() - start
            call = self._predict.future(
                self._requests[index % len(self._requests)],
                timeout=self._timeout,
            )
            call.add_done_callback(
                lambda call, index=index, sent=sent: note(index, sent, call)
            )
        for _ in range(asked):
            left.acquire()

    def in_turn(self) -> list[predict_pb2.PredictResponse]:
        """Asks each request once, one after the other.

        Raises:
            wire.RefusedError: one was refused.
        """
        try:
            return [
                predict_pb2.PredictResponse.FromString(
                    self._predict(request, timeout=self._timeout)
                )
                for request in self._requests
            ]
        except grpc.RpcError as error:
            raise wire.RefusedError(
                error.code().name, error.details()
            ) from error

    def closed_loop(self, callers: int, seconds: float) -> list[Result]:
        """Asks with some callers, each as soon as it has its answer."""
        results: list[Result] = []
        turns = itertools.count()
        start = time.perf_counter()

        def ask():
            while (sent := time.perf_counter() - start) < seconds:
                question = next(turns) % len(self._requests)
                answer, failed = None, None
                try:
                    answer = self._predict(
                        self._requests[question], timeout=self._timeout
                    )
                except grpc.RpcError as error:
                    failed = error.code().name
                now = time.perf_counter() - start
                results.append(
                    Result(question, now - sent, 0.0, now, answer, failed)
                )

        threads = [threading.Thread(target=ask) for _ in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results


def find_capacity(
    generator: Generator,
    *,
    seconds: float,
    max_callers: int = 128,
) -> dict[str, Any]:
    """Returns the highest rate that callers of a closed loop get answered.

    They double until two doublings in a row gain less than 3 %.

    Args:
        generator: sends the requests.
        seconds: how long each number of callers is tried.
        max_callers: where to stop at the latest.

    Returns:
        `rate`, answers a second at best; `callers`, how many it took;
        `tried`, a record each with `callers`, `rate`, `p50_ms`.

    Raises:
        ValueError: a request failed.
    """
    generator.closed_loop(1, min(1.0, seconds))  # connect, warm up
    tried: list[dict[str, Any]] = []
    callers, best, idle = 1, 0.0, 0
    while callers <= max_callers and idle < 2:
        results = generator.closed_loop(callers, seconds)
        failed = errors(results)
        if failed:
            raise ValueError(
                f"{callers} callers met errors: {failed}. Mend them before "
                "measuring how many requests the server can take."
            )
        rate = len(results) / max(result.end for result in results)
        middle = 1e3 * float(np.median([r.seconds for r in results]))
        tried.append(
            {
                "callers": callers,
                "rate": round(rate, 1),
                "p50_ms": round(middle, 3),
            }
        )
        idle = 0 if rate > 1.03 * best else idle + 1
        best = max(best, rate)
        callers *= 2
    top = max(tried, key=lambda record: record["rate"])
    return {"rate": top["rate"], "callers": top["callers"], "tried": tried}


def errors(results: Sequence[Result]) -> dict[str, int]:
    """Counts errors by the name of their status."""
    found = collections.Counter(r.error for r in results if r.error)
    return dict(sorted(found.items()))


def versions(results: Sequence[Result]) -> dict[int, int]:
    """Counts answers by the version that gave them."""
    found = collections.Counter(
        result.response().model_spec.version.value
        for result in results
        if result.answer is not None
    )
    return dict(sorted(found.items()))


def summary(results: Sequence[Result], seconds: float) -> dict[str, Any]:
    """Returns what people ask of a load test, as JSON values.

    Latencies are those of answers; of errors there should be none.
    """
    good = [result for result in results if result.error is None]
    end = max((result.end for result in results), default=seconds)
    latency = milliseconds([result.seconds for result in good])
    return {
        "seconds": round(max(end, seconds), 3),
        "requests": len(results),
        "answers": len(good),
        "errors": errors(results),
        "throughput": round(len(good) / max(end, seconds), 2),
        "latency_ms": latency,
        "p99_over_p50": (
            round(latency["p99"] / latency["p50"], 2) if good else None
        ),
        "sent_late_ms": milliseconds([result.late for result in results]),
        "versions": {str(v): n for v, n in versions(good).items()},
    }


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    """Returns percentiles and the maximum by name; {} of nothing."""
    if not len(seconds):
        return {}
    values = 1e3 * np.asarray(seconds)
    found = dict(
        zip(
            (f"p{p:g}" for p in PERCENTILES),
            np.percentile(values, PERCENTILES).tolist(),
        )
    )
    found["max"] = float(values.max())
    return {name: round(value, 3) for name, value in found.items()}
