"""What became of good requests, without what they were answered."""

import array
import collections
from typing import Any

from tensorflow_serving.apis import predict_pb2

from export.calling import load


class Tally:
    """Counts answers, and those that are not of the right shape.

    Args:
        like: an answer of the right shape.

    Attributes:
        versions: answers by the version that gave them.
    """

    def __init__(self, like: predict_pb2.PredictResponse):
        self.versions: collections.Counter[int] = collections.Counter()
        self._want = _shapes(like)
        self._errors: collections.Counter[str] = collections.Counter()
        self._misshapen = 0
        self._end = 0.0
        # Hours of load are millions of these: eight bytes each.
        self._seconds, self._late = array.array("d"), array.array("d")

    def heed(self, index: int, result: load.Result) -> None:
        """Counts one result, as `load.Generator.send_when_due` has it."""
        del index
        self._end = max(self._end, result.end)
        self._late.append(result.late)
        if result.error is not None:
            self._errors[result.error] += 1
            return
        self._seconds.append(result.seconds)
        response = result.response()
        self.versions[response.model_spec.version.value] += 1
        self._misshapen += _shapes(response) != self._want

    def summary(self) -> dict[str, Any]:
        """Returns counts and latencies, as JSON values."""
        failed = self._errors.total()
        return {
            "asked": failed + len(self._seconds),
            "answered": len(self._seconds),
            "failed": failed + self._misshapen,
            "errors": dict(sorted(self._errors.items())),
            "misshapen": self._misshapen,
            "throughput": round(len(self._seconds) / max(self._end, 1e-9), 2),
            "latency_ms": load.milliseconds(self._seconds),
            "sent_late_ms": load.milliseconds(self._late),
        }


def _shapes(response):
    """Returns dtype and sizes of each output, without a look at its values."""
    return {
        name: (output.dtype, *(dim.size for dim in output.tensor_shape.dim))
        for name, output in response.outputs.items()
    }
