"""What can go wrong with a request, as both protocols say it.

A gRPC status code and a message; over HTTP the code becomes the status that
TensorFlow Serving's REST API gives it.
"""

import asyncio
import concurrent.futures

import grpc
import tensorflow as tf
from absl import logging

Code = grpc.StatusCode

HTTP_STATUS = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.UNAUTHENTICATED: 401,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNKNOWN: 500,
}
_BY_NUMBER = {code.value[0]: code for code in Code}

# A message holds parts of the request; a longer one helps nobody, and gRPC
# sends it in a header of limited size.
_MAX_MESSAGE = 1000


class ServingError(Exception):
    """A request that is answered with an error.

    Args:
        code: why, as a gRPC status code.
        message: the same for people.
    """

    def __init__(self, code: grpc.StatusCode, message: str):
        if len(message) > _MAX_MESSAGE:
            message = message[:_MAX_MESSAGE] + " .."
        super().__init__(message)
        self.code, self.message = code, message


def invalid(message: str) -> ServingError:
    """Returns the error of a request that can never succeed."""
    return ServingError(Code.INVALID_ARGUMENT, message)


def from_exception(error: BaseException) -> ServingError:
    """Returns what a client is told about an exception.

    Of an unexpected one the client learns its kind only; the log has it all.
    """
    if isinstance(error, ServingError):
        return error
    if isinstance(error, tf.errors.OpError):
        code = _BY_NUMBER.get(error.error_code, Code.INTERNAL)
        return ServingError(code, error.message)
    if isinstance(error, TimeoutError):
        return ServingError(
            Code.DEADLINE_EXCEEDED, "No answer within the time allowed."
        )
    if isinstance(
        error, (asyncio.CancelledError, concurrent.futures.CancelledError)
    ):
        return ServingError(Code.CANCELLED, "The request was cancelled.")
    if isinstance(error, MemoryError):
        return ServingError(
            Code.RESOURCE_EXHAUSTED, "Not enough memory for this request."
        )
    logging.error("A request failed.", exc_info=error)
    return ServingError(Code.INTERNAL, f"{type(error).__name__} while serving.")
