"""A server: versions, batches and both protocols, started and stopped."""

import asyncio
import pathlib
import threading

from export.serving import batcher as batcher_lib
from export.serving import engine as engine_lib
from export.serving import grpc_api
from export.serving import metrics as metrics_lib
from export.serving import page
from export.serving import rest_api
from export.serving import watcher as watcher_lib
from export.serving.config import Config


class Server:
    """Serves the versions in a folder, from threads of its own.

    Example:
        with serving.Server("exported/jtm") as server:
            channel = grpc.insecure_channel(f"localhost:{server.grpc_port}")

    Args:
        base: the folder; export.export_model writes versions into it.
        config: settings; loopback and free ports by default.

    Raises:
        ValueError: the histories for the page cannot be read.

    Attributes:
        name: of the model, as clients call it.
        grpc_port, rest_port: where it listens, once started.
        watcher: knows the versions.
    """

    def __init__(
        self, base: str | pathlib.Path, config: Config = Config()
    ) -> None:
        base = pathlib.Path(base).resolve()
        self.name = config.name or base.name
        self.grpc_port = self.rest_port = 0
        self._config = config
        self._samples = page.read_samples(config.samples)
        self._metrics = metrics_lib.Metrics()
        self.watcher = watcher_lib.Watcher(
            base, self.name, keep=config.keep_versions, metrics=self._metrics
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> "Server":
        """Loads the versions and listens.

        Raises:
            ValueError: no version can be served.
            OSError: a port is taken.
        """
        self.watcher.start(self._config.poll_seconds)
        self._batcher = batcher_lib.Batcher(self._config, self._metrics)
        self._engine = engine_lib.Engine(
            self.watcher, self._batcher, self._config
        )
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=loop.run_forever, name="protocols", daemon=True
        )
        self._thread.start()
        try:
            self._call(self._listen())
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Answers what is under way, then ends; doing so twice is harmless."""
        if self._loop is None:
            return
        self._engine.serving = False
        self._call(self._hang_up())
        self._loop.call_soon_threadsafe(self._loop.stop)
        assert self._thread is not None
        self._thread.join()
        self._loop.close()
        self._loop = None
        self._batcher.close()
        self.watcher.stop()

    def __enter__(self) -> "Server":
        return self.start()

    def __exit__(self, *_) -> None:
        self.stop()

    async def _listen(self):
        self._grpc = grpc_api.GrpcServer(self._engine, self._metrics)
        self._rest = rest_api.RestServer(
            self._engine, self._metrics, self.name, self._samples
        )
        await self._grpc.start()
        await self._rest.start()
        self.grpc_port, self.rest_port = self._grpc.port, self._rest.port

    async def _hang_up(self):
        seconds = self._config.drain_seconds
        await asyncio.gather(self._grpc.stop(seconds), self._rest.stop(seconds))

    def _call(self, work):
        """Runs a coroutine on the server's loop and waits for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
