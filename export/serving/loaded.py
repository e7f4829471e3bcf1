"""A version in memory: loaded, warmed up, and released when it is idle."""

import concurrent.futures
import json
import pathlib
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from export.serving import errors
from export.serving import item_search
from export.serving import session as session_lib
from export.serving import signature as signature_lib

# Inside a version, as TensorFlow Serving has it.
WARMUP = pathlib.Path("assets.extra") / "tf_serving_warmup_requests"
CARD = "model_card.json"

# Seconds that somebody who looks for an item waits for the index.
_ITEM_SECONDS = 2.0


class LoadedVersion:
    """One version of the model, counted by those who use it.

    Args:
        number: of the version.
        folder: with its SavedModel. Its model card, if there is one, tells
            the pad of its ids.

    Attributes:
        number: of the version.
        signatures: by name; none after the version was released.
        card: its model card, JSON; None without one.
    """

    def __init__(self, number: int, folder: pathlib.Path):
        self.number = number
        self._session = session_lib.Session(folder)
        self.signatures = {
            name: signature_lib.Signature(
                name, definition, self._session.function(name)
            )
            for name, definition in self._session.signatures.items()
        }
        if not self.signatures:
            raise ValueError(f"{folder} has no signatures.")
        self.card = _card(folder)
        self._pads = _pads(self.card)
        self._folder = folder
        self._items: concurrent.futures.Future | None = None
        self._lock = threading.Lock()
        self._users = 0
        self._idle = None

    def pad(self, inputs: signature_lib.Arrays) -> signature_lib.Arrays:
        """Fills ids up to a power of two, so that requests of many lengths
        can share a batch.

        Pads count for nothing wherever they stand; they go to the left.
        """
        padded = dict(inputs)
        for name, pad in self._pads.items():
            value = inputs.get(name)
            if value is None or value.ndim != 2:
                continue
            rows, length = value.shape
            full = 1 << max(length - 1, 0).bit_length()
            padded[name] = np.full([rows, full], pad, value.dtype)
            padded[name][:, full - length :] = value
        return padded

    def warm_up(
        self, rest: Callable[[float], object] = lambda took: None
    ) -> int:
        """Runs the recorded requests of the version; returns their number.

        Args:
            rest: called after each request with the seconds that it took; who
                answers meanwhile gets the processors back.

        Raises:
            Exception: whatever fails, in the records or in the graph.
        """
        path = self._folder / WARMUP
        if not path.exists():
            return 0
        count = 0
        for record in tf.data.TFRecordDataset(str(path)):
            log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
            if not log.HasField("predict_log"):
                continue
            request = log.predict_log.request
            name = request.model_spec.signature_name or "serving_default"
            if name not in self.signatures:
                raise ValueError(f"a warm-up request asks for {name!r}")
            inputs = {
                key: tf.make_ndarray(value)
                for key, value in request.inputs.items()
            }
            self.signatures[name].check_names(inputs)
            began = time.monotonic()
            self.signatures[name].run(self.pad(inputs))
            rest(time.monotonic() - began)
            count += 1
        return count

    def items(self) -> item_search.ItemSearch:
        """Returns the search for items; it is made when first asked for.

        Raises:
            ServingError: the version keeps no items, they cannot be read, or
                there are so many that the search is still being made.
        """
        with self._lock:
            if self._items is None:
                self._items = concurrent.futures.Future()
                threading.Thread(
                    target=_resolve,
                    args=[
                        self._items,
                        lambda: item_search.ItemSearch.load(self._folder),
                    ],
                    daemon=True,
                ).start()
            items = self._items
        try:
            return items.result(_ITEM_SECONDS)
        except TimeoutError as error:
            raise errors.ServingError(
                errors.Code.UNAVAILABLE,
                "The items are still being indexed; try again in some seconds.",
            ) from error
        except FileNotFoundError as error:
            raise errors.ServingError(
                errors.Code.NOT_FOUND,
                f"Version {self.number} keeps no items to look up.",
            ) from error
        except Exception as error:
            with self._lock:
                self._items = None  # it may do another time
            raise errors.ServingError(
                errors.Code.INTERNAL, f"Items cannot be looked up: {error}"
            ) from error

    def acquire(self) -> None:
        """Counts one more user."""
        with self._lock:
            self._users += 1

    def release(self) -> None:
        """Counts one user less; the last one of a retired version frees it."""
        with self._lock:
            self._users -= 1
        self._free_if_idle()

    def retire(self, on_idle) -> None:
        """Frees the version when its last user is done, then calls back.

        Nobody may acquire it from now on.
        """
        with self._lock:
            self._idle = on_idle
        self._free_if_idle()

    def _free_if_idle(self):
        with self._lock:
            if self._users or self._idle is None:
                return
            on_idle, self._idle = self._idle, None
            self.signatures = {}
        self._session.close()
        on_idle()


def _resolve(future, make):
    """Gives a future its result, or its error."""
    try:
        future.set_result(make())
    except Exception as error:  # pylint: disable=broad-except
        future.set_exception(error)


def _card(folder: pathlib.Path) -> str | None:
    """Returns the model card as it was written; None without one."""
    try:
        return (folder / CARD).read_text("utf-8")
    except FileNotFoundError:
        return None


def _pads(card: str | None) -> dict[str, Any]:
    """Returns inputs that may be padded, and by what; none without a card."""
    if card is None:
        return {}
    pad = json.loads(card)["ids"]["pad"]
    if isinstance(pad, str):
        pad = pad.encode()
    return {"history": pad, "exclude": pad, "allow_categories": b""}
