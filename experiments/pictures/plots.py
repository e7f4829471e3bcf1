"""Pictures of runs: learning curves, and accuracy against cost."""

import dataclasses
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from jtm_tf import files

try:
    import matplotlib
    import matplotlib.figure
    import matplotlib.ticker
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "Pictures need matplotlib: install jtm_tf[demo]."
    ) from error

# Okabe and Ito's colours, told apart by all eyes, and a marker for each.
_STYLES = (
    ("#0072b2", "o"),
    ("#d55e00", "s"),
    ("#009e73", "^"),
    ("#cc79a7", "D"),
)
_REFERENCE = {"color": "#8a8a8a", "linewidth": 1.0, "zorder": 1}

# A colour a method and, since colours alone do not tell eleven lines apart, a
# marker a line; the indexes of one model share its colour.
_PRODUCT = "#cc79a7"
_COST_STYLES = {
    "item_cf": ("#000000", "P", ":"),
    "youtube_dnn/flat": (_PRODUCT, "D", "-"),
    "youtube_dnn/ivf": (_PRODUCT, "v", "--"),
    "youtube_dnn/hnsw": (_PRODUCT, "X", ":"),
    "hsm": ("#8a8a8a", "h", "-"),
    "tdm": ("#009e73", "^", "-"),
    "dnn": ("#000000", "*", ":"),
    "jtm_j": ("#56b4e9", ">", "-"),
    "jtm_h": ("#0072b2", "s", "-"),
    "jtm": ("#d55e00", "o", "-"),
    "tdm_cluster": ("#e69f00", "<", "-"),
}
_KNOBS = {"beam_width": "beam"}

_TITLES = {
    "precision": "Precision@{}, %",
    "recall": "Recall@{}, %",
    "f_measure": "F-measure@{}, %",
}


@dataclasses.dataclass(frozen=True)
class Curves:
    """A method's metrics over its iterations, averaged over runs.

    Attributes:
        iteration: [I] int.
        values: mean and spread by metric, [I] float each, fractions; the
            spread is None of a single run.
        is_reference: whether to draw it thin and grey.
    """

    iteration: np.ndarray
    values: Mapping[str, tuple[np.ndarray, np.ndarray | None]]
    is_reference: bool = False


def learning_curves(
    runs: Mapping[str, Sequence[dict[str, Any]]], *, title: str
) -> matplotlib.figure.Figure:
    """Draws validation recall and loss over the iterations of some runs.

    Args:
        runs: the `iterations` of each run's metrics.json, by name.
        title: above the picture.

    Returns:
        The figure; `save` writes it.
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
        _plain(axes)
        axes.legend(frameon=False)
        axes.xaxis.set_major_locator(
            matplotlib.ticker.MaxNLocator(integer=True)
        )
    figure.suptitle(title)
    return figure


def iteration_curves(
    data: Mapping[str, Mapping[str, Curves]], *, cut: int
) -> matplotlib.figure.Figure:
    """Draws the metrics of some methods: a row a data set, as in Figure 2.

    Args:
        data: curves by data set, then by label.
        cut: M of the metrics, for their titles.

    Returns:
        The figure; `save` writes it.
    """
    figure = matplotlib.figure.Figure(
        figsize=(9, 0.7 + 2.4 * len(data)), layout="constrained"
    )
    grid = figure.subplots(len(data), len(_TITLES), sharex=True, squeeze=False)
    styles: dict[str, dict[str, Any]] = {}
    handles = {}
    for row, (title, lines) in zip(grid, data.items()):
        for axes, metric in zip(row, _TITLES):
            for label, curve in lines.items():
                style = styles.setdefault(label, _style(curve, len(styles)))
                handles[label] = _line(axes, curve, metric, style)
            _plain(axes)
        row[0].set_ylabel(title, fontsize="large")
    for axes, name in zip(grid[0], _TITLES.values()):
        axes.set_title(name.format(cut))
    for axes in grid[-1]:
        axes.set_xlabel("iteration")
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside upper center",
        ncols=len(handles),
        frameon=False,
    )
    return figure


def half_steps(
    found: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]
) -> matplotlib.figure.Figure:
    """Draws Eq. 2 after each half-step of Algorithm 1.

    Args:
        found: figures of runs, as `experiments.ablations` writes them.
        titles: the runs to draw, those that there are, and how to call them.

    Returns:
        The figure; `save` writes it.
    """
    figure = matplotlib.figure.Figure(figsize=(9, 3.6), layout="constrained")
    grid = figure.subplots(1, 2, sharey=True)
    handles = {}
    for (name, title), (color, marker) in zip(titles.items(), _STYLES):
        records = found.get(name, {}).get("half_steps", [])
        if not records or not all(records):
            continue
        at = np.arange(2 * len(records) - 1) / 2 + 1  # the last has no tree
        for axes, users in zip(grid, ("train", "validation")):
            steps = [
                half[step][users]
                for half in records
                for step in ("model_step", "tree_step")
            ]
            (handles[title],) = axes.plot(
                at, steps[: len(at)], color=color, marker=marker, markersize=4
            )
    for axes, users in zip(grid, ("training", "validation")):
        axes.set_title(f"Eq. 2 of {users} users, sampled, nats")
        axes.set_xlabel("round: model step, then (half-way) tree step")
        _plain(axes)
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside upper center",
        ncols=len(handles),
        frameon=False,
    )
    return figure


def cost_curves(
    lines: Sequence[Mapping[str, Any]],
    *,
    cut: int,
    batch_size: int,
    threads: int,
) -> matplotlib.figure.Figure:
    """Draws recall over time, each method a line from fast to accurate.

    Args:
        lines: records of `search_cost.points.measure`.
        cut: M.
        batch_size: users a search, for the label.
        threads: of each method, for the label.

    Returns:
        The figure; `save` writes it.
    """
    figure = matplotlib.figure.Figure(figsize=(9, 5.4), layout="constrained")
    axes = figure.subplots()
    for line in lines:
        color, marker, dashes = _cost_style(line["name"])
        points = line["points"]
        label = line["title"]
        if line["knob"] is not None:
            first, last = (points[i]["setting"] for i in (0, -1))
            knob = _KNOBS.get(line["knob"], line["knob"])
            label += f", {knob} {first}–{last}"
        axes.plot(
            [point["milliseconds"] for point in points],
            [100 * point["recall"] for point in points],
            label=label,
            color=color,
            marker=marker,
            linestyle=dashes if len(points) > 1 else "none",
            markersize=9 if marker == "*" else 6,
        )
    _plain(axes)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_title(_TITLES["recall"].format(cut))
    users = "user" if batch_size == 1 else "users"
    plural = "s" * (threads > 1)
    axes.set_xlabel(
        f"milliseconds a user, {batch_size} {users} a search, "
        f"{threads} thread{plural}"
    )
    figure.legend(
        loc="outside lower center", ncols=3, frameon=False, fontsize="small"
    )
    return figure


def _cost_style(name):
    """Returns colour, marker and dashes of a line; exact searches dotted."""
    method = name.removesuffix("/exact")
    color, marker, dashes = _COST_STYLES[method]
    return color, marker, dashes if name == method else ":"


def save(figure: matplotlib.figure.Figure, path: files.Path) -> None:
    """Writes a figure by its suffix; the same figure gives the same SVG."""
    path = pathlib.Path(path)
    metadata = {"Date": None} if path.suffix == ".svg" else None
    with (
        matplotlib.rc_context({"svg.hashsalt": path.name}),
        files.replacing(path) as temporary,
    ):
        figure.savefig(temporary, dpi=150, metadata=metadata)


def _style(curve, number):
    """Returns the style of the `number`-th label."""
    if curve.is_reference:
        return _REFERENCE
    color, marker = _STYLES[number % len(_STYLES)]
    return {"color": color, "marker": marker, "markersize": 4}


def _line(axes, curve, metric, style):
    """Draws the mean and, around it, the spread; returns the line."""
    mean, spread = curve.values[metric]
    (line,) = axes.plot(curve.iteration, 100 * mean, **style)
    if spread is not None:
        axes.fill_between(
            curve.iteration,
            100 * (mean - spread),
            100 * (mean + spread),
            color=style["color"],
            alpha=0.18,
            linewidth=0,
        )
    return line


def _plain(axes):
    """Takes from the axes what says nothing."""
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
