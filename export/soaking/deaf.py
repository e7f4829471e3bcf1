"""Clients that ask and never read an answer, by either protocol.

What a server has to say to them waits in buffers, the system's and then its
own, until it loses patience. They ask on meanwhile, and connect again when
they are cut off.
"""

import itertools
import json
import socket
import struct
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from export.calling import load

# What the system holds here for who does not read; as little as it will.
_BUFFER = 4096
# HTTP/2, RFC 9113.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_STREAM, _END_HEADERS = 1, 4
_INITIAL_WINDOW_SIZE = 4

# Gives what to send on a new connection, a request at a time.
Asking = Callable[[], Iterator[bytes]]


class DeafClient:
    """Asks and never reads.

    Args:
        port: of the server, on this machine.
        asking: what.

    Attributes:
        asked: requests that it has sent.
        connections: that it has made.
    """

    def __init__(self, port: int, asking: Asking):
        self._port, self._asking = port, asking
        self._plug: socket.socket | None = None
        self._requests: Iterator[bytes] = iter(())
        self._left = b""
        self.asked = self.connections = 0

    def ask(self, turn: int) -> None:
        """Sends the next request, or what it can of it."""
        del turn
        try:
            if self._plug is None:
                self._connect()
            assert self._plug is not None
            if not self._left:
                self._left = next(self._requests)
                self.asked += 1
            self._left = self._left[self._plug.send(self._left) :]
        except BlockingIOError:
            pass  # the server reads no more either
        except ConnectionError:
            self.close()

    def close(self) -> None:
        """Hangs up."""
        if self._plug is not None:
            self._plug.close()
            self._plug = None

    def _connect(self):
        plug = socket.socket()
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        try:
            plug.connect(("127.0.0.1", self._port))
        except OSError:
            plug.close()
            raise
        plug.setblocking(False)
        self._plug, self._requests, self._left = plug, self._asking(), b""
        self.connections += 1


def by_rest(path: str, body: dict[str, Any]) -> Asking:
    """Returns requests that post JSON, one behind the other."""
    data = json.dumps(body).encode()
    lines = f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(data)}"
    request = "\r\n".join([*lines, "", ""]).encode() + data
    return lambda: itertools.repeat(request)


def by_grpc(message: bytes) -> Asking:
    """Returns calls of Predict whose answers the server may not even send.

    The client's window is 0 bytes wide, so that all of them stay there.
    """
    head = b"".join(
        _literal(name, value)
        for name, value in (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", load.PREDICT),
            (":authority", "x"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        )
    )
    body = struct.pack(">BI", 0, len(message)) + message

    def asking():
        window = struct.pack(">HI", _INITIAL_WINDOW_SIZE, 0)
        start = _PREFACE + _frame(_SETTINGS, 0, 0, window)
        for stream in itertools.count(1, 2):
            yield (
                start
                + _frame(_HEADERS, _END_HEADERS, stream, head)
                + _frame(_DATA, _END_STREAM, stream, body)
            )
            start = b""

    return asking


def _literal(name, value):
    """Returns a header as HPACK writes it plainly, each below 127 bytes."""
    texts = (text.encode() for text in (name, value))
    return b"\0" + b"".join(bytes([len(text)]) + text for text in texts)


def _frame(kind, flags, stream, payload):
    """Returns a frame of HTTP/2, its payload below 16 KiB."""
    length = struct.pack(">I", len(payload))[1:]
    return length + struct.pack(">BBI", kind, flags, stream) + payload
