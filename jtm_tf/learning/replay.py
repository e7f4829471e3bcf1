"""What a continued run learns from: new samples, and a replay of old ones.

What the earlier run knows it need not be told in full again, and what people
take next is most like what they took last. Old samples keep it from forgetting.
"""

import math

import numpy as np

from jtm_tf.data import interactions
from jtm_tf.data import raw_ids
from jtm_tf.data import splits
from jtm_tf.types import PAD

# Who was not trained on has no row that is known.
_NEVER = np.iinfo(np.int64).min
# Of all samples, at least this share is there to draw from.
_LEAST = 0.1


def known_until(
    was: interactions.Interactions, now: interactions.Interactions
) -> np.ndarray:
    """Returns when each user took the last thing that training knew of.

    Times are compared user by user, since they may be a mere order.

    Args:
        was: what the earlier run was trained on.
        now: today's data; users are the same where their raw ids are.

    Returns:
        [U + 1] int64; of users who were not trained on, the least number.
    """
    spans = splits.sampled(was, splits.SPLITS[0])
    last = np.full(was.num_users + 1, _NEVER)
    last[spans.users] = was.timestamp[spans.last - 1]
    users = raw_ids.numbers_in(was.users["raw_id"], now.users["raw_id"])
    return last[np.append(PAD, users)]


def choose(
    examples: splits.Examples,
    data: interactions.Interactions,
    until: np.ndarray,
    *,
    share: float,
    least: int | None,
    seed: int,
) -> tuple[splits.Examples, dict[str, int]]:
    """Returns the samples to learn from, and how many are new and old.

    All that are new, and of the old ones as many as make up the rest, drawn
    once; more of them where the new ones are few.

    Args:
        examples: the training samples, of all rows or some.
        data: whose they are.
        until: see `known_until`.
        share: wanted of the new ones, in (0, 1].
        least: samples there must be, if there are as many; by default a tenth
            of all.
        seed: of the draw.
    """
    rows = splits.rows_of(splits.sampled(data, splits.SPLITS[0]))
    targets = rows[examples.targets]
    is_new = data.timestamp[targets] > until[data.user[targets]]
    new, old = np.flatnonzero(is_new), np.flatnonzero(~is_new)
    if least is None:
        least = math.ceil(_LEAST * len(examples))
    count = max(math.ceil(len(new) * (1 / share - 1)), least - len(new))
    if count < len(old):
        old = np.random.default_rng(seed).choice(old, count, replace=False)
        examples = examples.take(np.sort(np.append(old, new)))
    return examples, {"samples_new": len(new), "samples_old": len(old)}
