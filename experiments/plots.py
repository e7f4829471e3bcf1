"""Pictures of runs: learning curves."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.figure
import matplotlib.ticker

from jtm_tf import files

# Okabe and Ito's colours, told apart by all eyes, and a marker for each.
_STYLES = (
    ("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "^"), ("#cc79a7", "D"),
)  # fmt: skip


def learning_curves(
    runs: Mapping[str, Sequence[dict[str, Any]]],
    path: files.Path,
    *,
    title: str,
) -> None:
    """Draws validation recall and loss over the iterations of some runs.

    Args:
        runs: the `iterations` of each run's metrics.json, by name.
        path: the PNG to write.
        title: above the picture.
    """
    figure = matplotlib.figure.Figure(figsize=(9, 3.6), layout="constrained")
    recall, loss = figure.subplots(1, 2)
    for (name, records), (color, marker) in zip(runs.items(), _STYLES):
        style = {"label": name, "color": color, "marker": marker}
        at = [record["iteration"] for record in records]
        found = [100 * record["validation"]["recall"] for record in records]
        recall.plot(at, found, **style)
        loss.plot(at, [record["loss"] for record in records], **style)
    cut = next(iter(runs.values()))[0]["validation"]["num_results"]
    recall.set_title(f"Recall@{cut} of validation users, %")
    loss.set_title("Training loss (Eq. 2, sampled), nats")
    for axes in (recall, loss):
        axes.set_xlabel("iteration")
        axes.xaxis.set_major_locator(
            matplotlib.ticker.MaxNLocator(integer=True)
        )
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.suptitle(title)
    with files.replacing(pathlib.Path(path)) as temporary:
        figure.savefig(temporary, dpi=150)
