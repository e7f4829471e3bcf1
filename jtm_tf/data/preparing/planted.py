"""Reads a planted market as if it were a raw file; see `planted_market`."""

import numpy as np
import pyarrow as pa

from jtm_tf.data.preparing import planted_market
from jtm_tf.data.preparing import reader

_BLOCK_ROWS = 1 << 20


class Planted(reader.Reader):
    """A market drawn on the spot: deep enough that pruning matters.

    Every item and user occurs, so those of the prepared folder are the
    market's own: `planted_market.calibrated_world` with the manifest's
    num_items, num_rows and seed gives the hidden tree to compare with.
    """

    home = "A planted market has no input; it is drawn from --seed."
    takes = ("num_items", "num_rows")
    num_items, num_rows = 200_000, 5_000_000

    def find_paths(self):
        if self.options.input is not None:
            raise ValueError(
                f"--input means nothing to this dataset; got "
                f"{self.options.input!r}. {self.home}"
            )
        return []

    def settings(self):
        chosen = {name: getattr(self.options, name) for name in self.takes}
        return {
            name: getattr(self, name) if value is None else value
            for name, value in chosen.items()
        }

    def rows(self, skipped):
        sizes = self.settings()
        drawn = planted_market.calibrated_world(
            sizes["num_items"], sizes["num_rows"], self.options.seed
        )
        self._categories = pa.array(drawn.categories.tolist())
        for start in range(0, len(drawn.item), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            yield pa.RecordBatch.from_pydict(
                {
                    "user": pa.array(drawn.user[block], pa.int64()),
                    "item": pa.array(drawn.item[block], pa.int64()),
                    "timestamp": pa.array(drawn.timestamp[block]),
                }
            )

    def describe_items(self, raw_ids, skipped):
        at = pa.array(np.asarray(raw_ids) - 1)
        return pa.table({"category": self._categories.take(at)})
