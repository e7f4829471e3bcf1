"""What a REST request is for, by its path and what follows it."""

import dataclasses
import re
import urllib.parse
from collections.abc import Mapping
from collections.abc import Sequence

from export.serving import engine as engine_lib
from export.serving import errors
from export.serving import item_search
from export.serving import version_names

_MODEL = re.compile(
    r"/v1/models/(?P<name>[^/:]+)"
    r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
    r"(?P<method>:predict|:classify|:regress|/metadata|/items|/card)?"
)

# Items of an answer: found by words, and named by their ids.
_MOST_FOUND, _MOST_NAMED = 100, 500


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Which items are looked for: those of `ids`, else by a query.

    Attributes:
        ids: as text.
        query: what somebody types.
        count: of items at most.
    """

    ids: tuple[str, ...] = ()
    query: str = ""
    count: int = 0


def wanted(arguments: Mapping[str, Sequence[bytes]]) -> Wanted:
    """Returns which items the part of a path after ? is for.

    Raises:
        ServingError: that is not said, or not so.
    """
    given = {
        name: [value.decode("utf-8", "replace") for value in values]
        for name, values in arguments.items()
    }
    if set(given) == {"id"}:
        if len(given["id"]) > _MOST_NAMED:
            raise errors.invalid(
                f"At most {_MOST_NAMED} ids are looked up in one request; got "
                f"{len(given['id'])}."
            )
        return Wanted(ids=tuple(given["id"]))
    if set(given) - {"query", "count"} or len(given.get("query", ())) != 1:
        raise errors.invalid(
            "Items are looked up by ?query=WORDS[&count=20], or by "
            f"?id=ID[&id=ID ..]; got {', '.join(sorted(given)) or 'nothing'}."
        )
    query = given["query"][0]
    if len(query) > item_search.LONGEST:
        raise errors.invalid(
            f"A query has {item_search.LONGEST} letters at most; got "
            f"{len(query)}."
        )
    count = given.get("count", ["20"])[-1]
    digits = re.fullmatch("0*([0-9]{1,3})", count)
    if digits is None or not 1 <= int(digits[1]) <= _MOST_FOUND:
        raise errors.invalid(f"count is 1 to {_MOST_FOUND}; got {count}.")
    return Wanted(query=query, count=int(digits[1]))


def target(verb: str, path: str) -> tuple[engine_lib.Target, str]:
    """Returns what a request is for, and the method of the gRPC services.

    Raises:
        ServingError: there is nothing at this path.
    """
    found = _MODEL.fullmatch(path)
    method = None
    if found is not None:
        method = {
            ("GET", None): "GetModelStatus",
            ("GET", "/metadata"): "GetModelMetadata",
            ("GET", "/items"): "FindItems",
            ("GET", "/card"): "GetModelCard",
            ("POST", ":predict"): "Predict",
        }.get((verb, found["method"]))
    if found is None or method is None:
        if not path.startswith("/v1/"):
            raise errors.ServingError(errors.Code.NOT_FOUND, "Not found.")
        if found is not None and found["method"] in (":classify", ":regress"):
            raise errors.ServingError(
                errors.Code.UNIMPLEMENTED, "Only :predict is served."
            )
        raise errors.invalid(f"Malformed request: {verb} {path}")
    version = found["version"]
    if version is not None and int(version[:20]) > version_names.LARGEST:
        raise errors.invalid(f"Failed to convert version: {version[:30]}.")
    return (
        engine_lib.Target(
            urllib.parse.unquote(found["name"]),
            None if version is None else int(version),
            urllib.parse.unquote(found["label"] or ""),
        ),
        method,
    )
