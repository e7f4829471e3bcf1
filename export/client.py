"""Asks a served model for recommendations; prints a line of JSON a user.

    python -m export.client --target=127.0.0.1:8500 --model=jtm \\
        --history=17,4,250
    python -m export.client --rest=http://127.0.0.1:8501 --model=jtm \\
        --input=users.txt --exclude=17

Works against TensorFlow Serving as it is. Over gRPC it starts in seconds,
since the messages need TensorFlow; over REST at once. What is asked for is in
flags or, for many users, in lines of --input: see `calling.user_lines`. Flags
other than --history hold for all users, and a line has its own say over them.
"""

import json
import sys

from absl import flags

from export.calling import clients
from export.calling import user_lines
from jtm_tf.command_line import program

_TARGET = flags.DEFINE_string("target", None, "HOST:PORT, to ask by gRPC.")
_REST = flags.DEFINE_string(
    "rest", None, "http://HOST:PORT, to ask by REST instead."
)
_MODEL = flags.DEFINE_string(
    "model", None, "The model's name on the server.", required=True
)
_HISTORY = flags.DEFINE_list(
    "history", None, "Raw ids of what the user met, oldest first."
)
_INPUT = flags.DEFINE_string(
    "input", None, "Users, a line each, instead of --history; - is stdin."
)
_SIGNATURE = flags.DEFINE_string(
    "signature",
    None,
    "What to ask for; recommend, recommend_filtered or score by the other "
    "flags if not given.",
)
_EXCLUDE = flags.DEFINE_list("exclude", None, "Ids never to return.")
_ALLOW = flags.DEFINE_list(
    "allow_categories", None, "Return items of these categories only."
)
_CANDIDATES = flags.DEFINE_list("candidates", None, "Ids to score.")
_PROFILE = flags.DEFINE_list(
    "profile", None, "Columns of the user's profile, NAME=VALUE."
)
_VERSION = flags.DEFINE_integer(
    "version", None, "Ask this version and no newer one.", lower_bound=1
)
_BATCH = flags.DEFINE_integer("batch", 64, "Users a request.", lower_bound=1)
_TIMEOUT = flags.DEFINE_float(
    "timeout", 30.0, "Seconds that a request may take.", lower_bound=0.001
)


@program.entry
def main() -> None:
    users = [_for_all() | user for user in _users()]
    with clients.Client(
        target=_TARGET.value,
        rest=_REST.value,
        model=_MODEL.value,
        timeout=_TIMEOUT.value,
    ) as client:
        for start in range(0, len(users), _BATCH.value):
            batch = users[start : start + _BATCH.value]
            answer = client.recommend(
                **user_lines.columns(batch),
                signature=_SIGNATURE.value,
                version=_VERSION.value,
            )
            for row, ids in enumerate(answer.ids):
                more = {key: rows[row] for key, rows in answer.more.items()}
                line = {"ids": ids, "scores": answer.scores[row], **more}
                print(json.dumps({**line, "version": answer.version}))


def _users():
    """Returns the users that are asked for."""
    if (_HISTORY.value is None) == (_INPUT.value is None):
        raise ValueError(
            "Give --history or --input, one of them; --history= is a user "
            "without a history."
        )
    if _INPUT.value is None:
        return [{"history": _HISTORY.value}]
    if _INPUT.value == "-":
        users = user_lines.parse(sys.stdin)
    else:
        with open(_INPUT.value, encoding="utf-8") as lines:
            users = user_lines.parse(lines)
    if not users:
        raise ValueError(f"--input={_INPUT.value} has no lines.")
    return users


def _for_all():
    """Returns what flags say of every user."""
    given = {
        "exclude": _EXCLUDE.value,
        "allow_categories": _ALLOW.value,
        "candidates": _CANDIDATES.value,
    }
    if _PROFILE.value is not None:
        given["profile"] = program.pairs("profile", _PROFILE.value)
    return {key: value for key, value in given.items() if value is not None}


if __name__ == "__main__":
    main()
