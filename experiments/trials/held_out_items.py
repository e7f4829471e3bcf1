"""Data without some of their items, to try how well new items are placed.

The items are held out of everything that training sees. What training users
did with them comes back as the histories of an update; what test users did
with them is what an index should find.
"""

import dataclasses
import hashlib

import numpy as np
import pyarrow as pa

from jtm_tf import ragged
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.types import PAD


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOutItems:
    """The items that a model never saw.

    Attributes:
        data: all there is, N items.
        rest: the same without the held-out items and all that was done with
            them; its items are numbered 1..N' in the same order.
        items: [A] int, the items of `data` that are held out, ascending.
        renumbered: [N + 1] int, where an update puts each item of `data`:
            the rest first, then the held-out ones.
    """

    data: interactions.Interactions
    rest: interactions.Interactions
    items: np.ndarray
    renumbered: np.ndarray

    def examples(self, most: int | None, seed: int) -> splits.Examples:
        """Returns the training samples whose targets were held out.

        Args:
            most: samples of an item, drawn at random; None for all.
            seed: of the draw.

        Returns:
            Samples in the numbers of `renumbered`, held-out items in
            histories as PAD: the model knows none of them.
        """
        examples = splits.examples(self.data)
        targets = self.renumbered[examples.target_items()]
        samples = np.flatnonzero(targets > self.rest.num_items)
        if most is not None:
            draw = np.random.default_rng(seed).permutation(len(samples))
            by_item = samples[
                draw[np.argsort(targets[samples[draw]], kind="stable")]
            ]
            _, counts = np.unique(targets[by_item], return_counts=True)
            samples = np.sort(by_item[ragged.ranges(counts) < most])
        numbered = self.renumbered[examples.items].astype(np.int32)
        return dataclasses.replace(examples.take(samples), items=numbered)

    def test_users(self, max_history: int) -> splits.HeldOutUsers:
        """Returns the test users of `data` in the numbers of `renumbered`."""
        users = splits.held_out_users(self.data, "test", max_history)
        return dataclasses.replace(
            users,
            history=self.renumbered[users.history].astype(np.int32),
            full_history=self._renumbered(users.full_history),
            truth=self._renumbered(users.truth),
        )

    def _renumbered(self, items):
        """Returns a `Ragged` of items in other numbers."""
        numbers = self.renumbered[items.values].astype(np.int32)
        return ragged.Ragged(numbers, items.offsets)


def hold_out(
    data: interactions.Interactions, *, share: float, seed: int
) -> HeldOutItems:
    """Draws the items that a model is not to see.

    Args:
        data: prepared data.
        share: of the items that training users had, in (0, 1).
        seed: of the draw.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be in (0, 1); got {share}.")
    trained = np.unique(splits.examples(data).items)
    count = max(1, round(share * len(trained)))
    rng = np.random.default_rng(seed)
    items = np.sort(rng.choice(trained, count, replace=False))
    kept = np.ones(data.num_items + 1, bool)
    kept[items] = False
    renumbered = np.cumsum(kept) - 1
    renumbered[items] = data.num_items - len(items) + 1 + np.arange(len(items))
    renumbered[PAD] = PAD
    rows = kept[data.item]
    table = data.items.filter(pa.array(kept[1:]))
    numbers = pa.array(np.arange(1, table.num_rows + 1, dtype=np.int32))
    drawn = f"{data.manifest['fingerprint']} without {share} by {seed}"
    rest = interactions.Interactions(
        data.user[rows],
        renumbered[data.item[rows]].astype(np.int32),
        data.timestamp[rows],
        table.set_column(0, "item", numbers),
        data.users,
        data.manifest
        | {"fingerprint": hashlib.sha256(drawn.encode()).hexdigest()},
    )
    return HeldOutItems(data, rest, items, renumbered)
