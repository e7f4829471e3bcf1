"""What all HTTP paths share: JSON errors, and a limit on slow readers."""

import asyncio
import json
from typing import Any

import tornado.iostream
import tornado.web

from export.serving import errors


class Handler(tornado.web.RequestHandler):
    """Sends whole answers.

    Attributes:
        rest: the `rest_api.RestServer` that it belongs to.
    """

    def initialize(self, server: Any):
        self.rest = server

    def set_default_headers(self):
        self.clear_header("Server")

    def data_received(self, chunk):
        pass

    async def send(
        self,
        status: int,
        body: str | bytes,
        content_type: str = "application/json",
    ) -> None:
        """Sends a whole answer; who does not read it in time is cut off."""
        self.set_status(status)
        self.set_header("Content-Type", content_type)
        try:
            await asyncio.wait_for(
                self.finish(body), self.rest.engine.config.client_seconds
            )
        except TimeoutError:
            self.request.connection.stream.close()
        except tornado.iostream.StreamClosedError:
            pass

    async def send_error_body(self, error: errors.ServingError) -> None:
        """Sends an error, with the status that it has in HTTP."""
        body = json.dumps({"error": error.message})
        await self.send(errors.HTTP_STATUS[error.code], body)

    def write_error(self, status_code, **kwargs):
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps({"error": self._reason}))
