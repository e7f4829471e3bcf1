"""Users to ask for, a line each: ids with commas between, or JSON.

    17,4,250
    ["milk, whole", "bread"]
    {"history": [17, 4], "exclude": [4], "profile": {"age_group": "A"}}

Without a history a line is empty, or []. The keys of an object are the
fields of `questions.Question`, `history` for its `histories`.
"""

import json
from collections.abc import Iterable
from typing import Any

# What a user may bring, and what stands for nothing.
KEYS: dict[str, type] = {
    "history": list,
    "exclude": list,
    "allow_categories": list,
    "candidates": list,
    "profile": dict,
}


def parse(lines: Iterable[str]) -> list[dict[str, Any]]:
    """Returns a dict a line, with keys of `KEYS`.

    Raises:
        ValueError: a line is none of the above; it says which.
    """
    users = []
    for number, line in enumerate(lines, 1):
        try:
            users.append(_user(line.strip()))
        except ValueError as error:
            raise ValueError(f"Line {number}: {error}") from error
    return users


def columns(users: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Returns the fields of a `questions.Question` of users."""
    there = [key for key in KEYS if any(key in user for user in users)]
    found = {
        key: [user.get(key, KEYS[key]()) for user in users] for key in there
    }
    empty: list[Any] = [[] for _ in users]
    return {"histories": found.pop("history", empty), **found}


def _user(text):
    """Returns one user."""
    if not text.startswith(("{", "[")):
        ids = [part.strip() for part in text.split(",")] if text else []
        if "" in ids:
            raise ValueError(
                f"an id is empty; got {text!r}. Expected ids with single "
                "commas between them."
            )
        return {"history": ids}
    user = json.loads(text)
    if isinstance(user, list):
        user = {"history": user}
    for key, value in user.items():
        if key not in KEYS:
            raise ValueError(f"expected keys {', '.join(KEYS)}; got {key!r}.")
        parts = value.values() if isinstance(value, dict) else value
        if type(value) is not KEYS[key] or not all(map(_is_id, parts)):
            raise ValueError(
                f"expected {key} to be a {KEYS[key].__name__} of strings or "
                f"integers; got {json.dumps(value)}."
            )
    return user


def _is_id(value):
    """Tells whether a JSON value may be an id; true is no 1."""
    return isinstance(value, (int, str)) and not isinstance(value, bool)
