"""TensorFlow Serving's REST protocol, by the standard library alone."""

import http.client
import json
import urllib.parse
from typing import Any

from export.calling import wire

# Versions may go while they are asked; the next newest one answers then.
_TRIES = 3


class RestTransport:
    """A `wire.Transport` over REST.

    An answer of `:predict` does not say which version it is of. So the newest
    available one is asked for first, and that one is then asked by its number.

    Args:
        address: http://HOST:PORT.
        model: the model's name on the server.
        timeout: seconds that a request may take.

    Raises:
        ValueError: the address is no such thing.
    """

    def __init__(self, address: str, model: str, timeout: float):
        parts = urllib.parse.urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                f"Expected http://HOST:PORT for REST; got {address!r}."
            )
        self._connect = (
            http.client.HTTPSConnection
            if parts.scheme == "https"
            else http.client.HTTPConnection
        )
        self._address, self._model, self._timeout = address, model, timeout
        self._host = parts.netloc
        self._path = (
            f"{parts.path.rstrip('/')}/v1/models/"
            f"{urllib.parse.quote(model, safe='')}"
        )

    def close(self) -> None:
        """Does nothing: each request has a connection of its own."""

    def signatures(self) -> dict[str, dict[str, wire.Input]]:
        """Returns the inputs of each signature, by name."""
        found = self._call("GET", "/metadata")
        found = found["metadata"]["signature_def"]["signature_def"]
        return {
            name: {
                key: wire.Input(
                    info["dtype"].removeprefix("DT_").lower(),
                    len(info["tensor_shape"].get("dim", ())),
                )
                for key, info in signature["inputs"].items()
            }
            for name, signature in found.items()
            if signature.get("inputs")
        }

    def available(self) -> list[int]:
        """Returns the versions that answer, ascending."""
        found = self._call("GET", "")["model_version_status"]
        return sorted(
            int(status["version"])
            for status in found
            if status["state"] == "AVAILABLE"
        )

    def predict(
        self,
        signature: str,
        inputs: dict[str, wire.Tensor],
        version: int | None = None,
    ) -> tuple[dict[str, Any], int]:
        """Returns the outputs as nested lists, and the version's number."""
        body = {
            "signature_name": signature,
            "inputs": {name: tensor.values for name, tensor in inputs.items()},
        }
        for left in reversed(range(_TRIES)):
            asked = self._newest() if version is None else version
            try:
                found = self._call("POST", f"/versions/{asked}:predict", body)
            except wire.RefusedError as error:
                if error.code != "404" or version is not None or not left:
                    raise
            else:
                break
        outputs = found["outputs"]
        if not isinstance(outputs, dict):  # a single output goes unnamed
            outputs = {"scores": outputs}
        return outputs, asked

    def _newest(self):
        versions = self.available()
        if not versions:
            raise wire.RefusedError(
                "404", f"model {self._model} has no version that answers."
            )
        return versions[-1]

    def _call(self, verb, path, body=None):
        """Returns the JSON of an answer."""
        connection = self._connect(self._host, timeout=self._timeout)
        try:
            connection.request(
                verb,
                self._path + path,
                body=None if body is None else json.dumps(body),
                headers={"Content-Type": "application/json"},
            )
            response = connection.getresponse()
            status, text = response.status, response.read()
        except TimeoutError as error:
            raise TimeoutError(
                wire.too_late(self._address, self._timeout)
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionError(
                wire.nobody_listens(self._address, str(error))
            ) from error
        finally:
            connection.close()
        try:
            found = json.loads(text)
        except ValueError:
            found = {"error": text[:200].decode(errors="replace")}
        if status != 200 or "error" in found:
            raise wire.RefusedError(
                str(status),
                f"model {self._model} at {self._address}: "
                f"{found.get('error', 'no reason given')}",
            )
        return found
