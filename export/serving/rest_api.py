"""TensorFlow Serving's REST API, health and metrics over HTTP.

GET  /v1/models/NAME[/versions/N]            state of the versions
GET  /v1/models/NAME[/versions/N]/metadata   signatures
POST /v1/models/NAME[/versions/N]:predict    answers
GET  /v1/models/NAME[/versions/N]/items?query=WORDS[&count=20]
                                             items by name, category or id
GET  /v1/models/NAME[/versions/N]/items?id=ID[&id=ID ..]
                                             these items
GET  /v1/models/NAME[/versions/N]/card       model_card.json
GET  /healthz                                200, or 503 while stopping
GET  /monitoring/prometheus/metrics
GET  /                                       a page to try it, see `page`

All but items, card and page are TensorFlow Serving's. Statuses are those of
that API: 400 for what can never succeed, unknown signatures, labels and
malformed paths among it, 404 for unknown models and versions. An answer's
header Model-Version tells the version, since the body has no place for it.
"""

import asyncio
import concurrent.futures
import json
import socket
import time
from typing import Any

import tornado.httpserver
import tornado.web
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2

from export.serving import engine as engine_lib
from export.serving import errors
from export.serving import grpc_api
from export.serving import metrics as metrics_lib
from export.serving import page
from export.serving import rest_handler
from export.serving import rest_json
from export.serving import rest_paths

_MAX_HEADER = 16 * 1024

# Threads that read and write JSON, and those that look for items, who may have
# to wait for an index.
_THREADS = 4
_FINDERS = 2
# Look-ups under way at most.
_MOST_FINDING = 16


class RestServer:
    """The HTTP side of a server, on the event loop that runs.

    Args:
        engine: answers the requests.
        metrics: counts them.
        name: of the model.
        samples: what `page.read_samples` returns.

    Attributes:
        engine, metrics: the same.
        threads: read and write JSON.
        finders: look for items.
        port: where it listens, once started.
        busy: requests under way.
    """

    def __init__(
        self,
        engine: engine_lib.Engine,
        metrics: metrics_lib.Metrics,
        name: str,
        samples: list[dict[str, Any]],
    ):
        self.engine, self.metrics = engine, metrics
        self.threads = concurrent.futures.ThreadPoolExecutor(_THREADS, "json")
        self.finders = concurrent.futures.ThreadPoolExecutor(_FINDERS, "items")
        self.port, self.busy, self._finding = 0, 0, 0
        config = engine.config
        self._server = tornado.httpserver.HTTPServer(
            tornado.web.Application(
                [
                    (r"/healthz", _Health, {"server": self}),
                    (
                        r"/monitoring/prometheus/metrics",
                        _Metrics,
                        {"server": self},
                    ),
                    *page.routes(self, name, samples),
                    (r".*", _Models, {"server": self}),
                ],
                log_function=lambda handler: None,
            ),
            idle_connection_timeout=config.client_seconds,
            body_timeout=config.client_seconds,
            max_body_size=config.max_request_bytes,
            max_header_size=_MAX_HEADER,
        )

    async def start(self) -> None:
        """Listens.

        Raises:
            OSError: the port is taken.
        """
        config = self.engine.config
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        try:
            plug = socket.create_server(
                (config.host, config.rest_port), family=family
            )
        except OSError as error:
            raise OSError(
                f"Cannot listen on {config.host}:{config.rest_port}: {error}"
            ) from error
        plug.setblocking(False)
        self.port = plug.getsockname()[1]
        self._server.add_socket(plug)

    async def find_items(
        self, target: engine_lib.Target, wanted: rest_paths.Wanted
    ) -> str:
        """Looks for items; returns the answer's JSON.

        Few at a time: who types asks again and again, and predictions shall
        not wait for it.

        Raises:
            ServingError: the request cannot be served, or not now.
        """
        if self._finding >= _MOST_FINDING:
            raise errors.ServingError(
                errors.Code.UNAVAILABLE,
                f"{self._finding} look-ups are under way already; try again "
                "later.",
            )
        self._finding += 1  # until it is done, whether or not anybody waits
        work = self.finders.submit(_find_items, self.engine, target, wanted)
        loop = asyncio.get_running_loop()
        work.add_done_callback(lambda _: loop.call_soon_threadsafe(self._found))
        return await asyncio.wrap_future(work)

    def _found(self):
        """Counts a look-up that is done."""
        self._finding -= 1

    async def stop(self, seconds: float) -> None:
        """Takes no connections; requests under way have `seconds`."""
        self._server.stop()
        until = time.monotonic() + seconds
        while self.busy and time.monotonic() < until:
            await asyncio.sleep(0.01)
        await self._server.close_all_connections()
        for threads in (self.threads, self.finders):
            threads.shutdown(wait=False)


class _Health(rest_handler.Handler):
    async def get(self):
        serving = self.rest.engine.serving
        body = json.dumps({"status": "serving" if serving else "stopping"})
        await self.send(200 if serving else 503, body)


class _Metrics(rest_handler.Handler):
    async def get(self):
        text = self.rest.metrics.text()
        await self.send(200, text, metrics_lib.CONTENT_TYPE)


@tornado.web.stream_request_body
class _Models(rest_handler.Handler):
    """Everything about models.

    The body comes in parts, so that what is too large, or too much at a time,
    is refused before it is read.
    """

    def initialize(self, server):
        super().initialize(server)
        self._chunks = []
        self._counted = self._answering = False

    async def prepare(self):
        config = self.rest.engine.config
        length = self.request.headers.get("Content-Length", "0")
        if length.isdecimal() and int(length) > config.max_request_bytes:
            self.set_header("Connection", "close")
            await self.send(
                413,
                json.dumps(
                    {
                        "error": (
                            f"The body has {length} bytes; at most "
                            f"{config.max_request_bytes} are served in one "
                            "request."
                        )
                    }
                ),
            )
        elif self.rest.busy >= config.max_queue:
            self.set_header("Connection", "close")
            await self.send_error_body(
                errors.ServingError(
                    errors.Code.UNAVAILABLE,
                    f"{self.rest.busy} requests are under way already; try "
                    "again later.",
                )
            )
        else:
            self.rest.busy += 1
            self._counted = True

    def data_received(self, chunk):
        self._chunks.append(chunk)

    def on_finish(self):
        # An answer may still be on its way, and stopping waits for it.
        if not self._answering:
            self._uncount()

    def on_connection_close(self):
        self._uncount()

    def _uncount(self):
        if self._counted:
            self.rest.busy -= 1
            self._counted = False

    async def get(self):
        await self._respond()

    async def post(self):
        await self._respond()

    async def _respond(self):
        self._answering = True
        started, code, method = time.monotonic(), errors.Code.CANCELLED, "none"
        try:
            target, method = rest_paths.target(
                self.request.method, self.request.path
            )
            body = await self._answer(target, method)
            code = errors.Code.OK
            await self.send(200, body)
        except Exception as error:  # pylint: disable=broad-except
            told = errors.from_exception(error)
            code = told.code
            await self.send_error_body(told)
        finally:
            seconds = time.monotonic() - started
            self.rest.metrics.request("rest", method, code.name, seconds)
            self._uncount()

    async def _answer(self, target, method):
        """Returns the body of an answer."""
        engine = self.rest.engine
        if method == "GetModelStatus":
            return _json(grpc_api.status(engine, target))
        if method == "GetModelMetadata":
            return _metadata(engine, target)
        if method == "FindItems":
            wanted = rest_paths.wanted(self.request.query_arguments)
            return await self.rest.find_items(target, wanted)
        if method == "GetModelCard":
            return _card(engine, target)
        loop = asyncio.get_running_loop()
        body = b"".join(self._chunks)
        self._chunks.clear()
        ticket, rows = await loop.run_in_executor(
            self.rest.threads, _submit, engine, target, body
        )
        outputs = await engine.answer(ticket)
        self.set_header("Model-Version", str(ticket.version))
        return await loop.run_in_executor(
            self.rest.threads,
            lambda: rest_json.encode(outputs, rows=rows),
        )


def _find_items(engine, target, wanted):
    """Returns the items that are wanted, as JSON."""
    version = engine.acquire(target)
    try:
        items = version.items()
        if wanted.ids:
            found = items.of(wanted.ids)
        else:
            found = items.find(wanted.query, wanted.count)
    finally:
        version.release()
    return json.dumps({"version": version.number, "items": found})


def _card(engine, target):
    """Returns a version's card, as it was written."""
    version = engine.acquire(target)
    number, card = version.number, version.card
    version.release()
    if card is None:
        raise errors.ServingError(
            errors.Code.NOT_FOUND, f"Version {number} has no card."
        )
    return card


def _submit(engine, target, body):
    """Reads and queues a request; returns its ticket, and if in rows."""
    value = rest_json.parse(body)
    ticket = engine.submit(
        engine_lib.Target(
            target.name,
            target.version,
            target.label,
            value.get("signature_name", ""),
        ),
        lambda signature: rest_json.decode(value, signature, engine.config),
    )
    return ticket, "instances" in value


def _metadata(engine, target):
    """Returns a version's signatures as JSON."""
    response = grpc_api.metadata(engine, target, ["signature_def"])
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    spec = json.loads(_json(response.model_spec))
    return json.dumps(
        {
            "model_spec": spec,
            "metadata": {"signature_def": json.loads(_json(signatures))},
        }
    )


def _json(message):
    """Returns a message as TensorFlow Serving writes it."""
    return json_format.MessageToJson(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )
