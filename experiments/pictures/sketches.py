"""Pictures for notebooks: a run while it learns, a tree, a step of learning.

Each function returns a figure; `%matplotlib inline` shows it.
"""

import collections
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import matplotlib.colors
import matplotlib.figure
import matplotlib.patches
import matplotlib.ticker
import numpy as np

from experiments.pictures import plots
from jtm_tf.tree import tree as tree_lib

# Okabe and Ito's colours, told apart by all eyes, brown for their black; grey
# is for the rest.
COLORS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#d55e00",
    "#f0e442",
    "#7a5230",
)
_REST, _EMPTY = "#b8b8b8", "#ffffff"


class LiveCurves:
    """Draws the learning curves of some runs anew as each round ends.

    Args:
        title: above the picture.

    A run takes part by `on_round=curves.of("its name")`.
    """

    def __init__(self, title: str = ""):
        self._title = title
        self._runs: dict[str, list[dict[str, Any]]] = {}
        self._shown = None

    def of(self, name: str) -> Callable[[dict[str, Any]], None]:
        """Returns what `jtm_tf.fit` is to call with each round's record."""
        self._runs[name] = []

        def on_round(record):
            self._runs[name].append(record)
            self._draw()

        return on_round

    def _draw(self):
        from IPython import display  # there in a notebook, and only there

        runs = {name: run for name, run in self._runs.items() if run}
        figure = plots.learning_curves(runs, title=self._title)
        if self._shown is None:
            self._shown = display.display(figure, display_id=True)
        else:
            self._shown.update(figure)


def tree_icicle(
    trees: Mapping[str, tree_lib.Tree], labels: Sequence[Any], *, levels: int
) -> matplotlib.figure.Figure:
    """Draws the upper levels of some trees, a colour a label.

    A row is a level and a box a node; it has the colour of the commonest
    label below it, the paler the smaller that label's share.

    Args:
        trees: by title.
        labels: [N] the label of each item; the commonest are told apart.
        levels: how many levels below the root to draw.
    """
    names, codes = _commonest(labels)
    has_rest = bool(np.any(codes == len(names)))
    palette = matplotlib.colors.to_rgba_array([*COLORS[: len(names)], _REST])
    figure = matplotlib.figure.Figure(
        figsize=(9, 0.6 + 2.1 * len(trees)), layout="constrained"
    )
    rows = figure.subplots(len(trees), 1, squeeze=False)[:, 0]
    for axes, (title, tree) in zip(rows, trees.items()):
        shown = min(levels, tree.max_level)
        image = _icicle(tree, codes, palette, shown)
        axes.imshow(image, aspect="auto", interpolation="nearest")
        axes.set_title(title, loc="left", fontsize="medium")
        axes.set_ylabel("level")
        axes.set_yticks(range(0, shown + 1, max(1, shown // 4)))
        axes.set_xticks([])
    shown_names = names + ["others"] * has_rest
    figure.legend(
        handles=[
            matplotlib.patches.Patch(color=color, label=name[:24].capitalize())
            for name, color in zip(shown_names, palette)
        ],
        loc="outside lower center",
        ncols=4,
        frameon=False,
    )
    return figure


def _commonest(labels):
    """Returns the commonest labels, and [N] the number of each item's.

    What is not among them has the number behind the last.
    """
    labels = np.array(["unknown" if x is None else str(x) for x in labels])
    common = collections.Counter(labels.tolist()).most_common(len(COLORS))
    names = [name for name, _ in common]
    codes = np.full(len(labels), len(names))
    for code, name in enumerate(names):
        codes[labels == name] = code
    return names, codes


def _icicle(tree, codes, palette, shown):
    """Returns the levels down to `shown` as rows of an image, [L, W, 4]."""
    width = tree.branching**shown
    image = np.ones((shown + 1, width, 4))
    for level in range(shown + 1):
        nodes = tree.branching**level
        first = tree_lib.first_code(level, tree.branching)
        counts = np.zeros((nodes, len(palette)), np.int64)
        np.add.at(counts, (tree.ancestors(level)[1:] - first, codes), 1)
        total = counts.sum(axis=1)
        share = counts.max(axis=1) / np.maximum(total, 1)
        color = palette[counts.argmax(axis=1)]
        color[:, :3] = 1 - share[:, None] * (1 - color[:, :3])
        color[total == 0] = matplotlib.colors.to_rgba(_EMPTY)
        image[level] = np.repeat(color, width // nodes, axis=0)
    return image


def assignment_step(
    weights: np.ndarray,
    seats: np.ndarray,
    choice: np.ndarray,
    groups: np.ndarray,
) -> matplotlib.figure.Figure:
    """Draws one sub-problem of Algorithm 2: wishes, queues, and who got in.

    Args:
        weights: [n, D] edge weights of items and nodes.
        seats: [D] int, what each node may hold.
        choice: [n] int, the node of each item after rebalancing.
        groups: [n] int, items that belong together; rows are sorted by it.
    """
    figure = matplotlib.figure.Figure(figsize=(9, 3.4), layout="constrained")
    wanted, queues, got = figure.subplots(1, 3)
    order = np.argsort(groups, kind="stable")
    figure.colorbar(_wishes(wanted, weights[order]), ax=wanted)
    _queues(queues, weights, seats, choice)
    members = np.zeros((groups.max() + 1, len(seats)), np.int64)
    np.add.at(members, (groups, choice), 1)
    _members(got, members)
    for axes in (wanted, queues, got):
        axes.set_xlabel("node")
        axes.set_xticks(np.arange(len(seats)))
    return figure


def _wishes(axes, weights):
    """Draws what each node is worth to each item; returns the image."""
    gain = weights - weights.mean(axis=1, keepdims=True)
    limit = np.abs(gain).max()
    axes.set_title("Edge weights over the item's mean, nats", fontsize=9)
    axes.set_ylabel("item, by hidden subtree")
    return axes.imshow(
        gain,
        aspect="auto",
        cmap="PuOr",
        vmin=-limit,
        vmax=limit,
        interpolation="nearest",
    )


def _queues(axes, weights, seats, choice):
    """Draws who would like to be at each node, who is, and the seats."""
    nodes = np.arange(len(seats))
    before = np.bincount(weights.argmax(axis=1), minlength=len(nodes))
    after = np.bincount(choice, minlength=len(nodes))
    axes.bar(nodes - 0.2, before, 0.4, color=COLORS[1], label="greedy")
    axes.bar(nodes + 0.2, after, 0.4, color=COLORS[0], label="rebalanced")
    axes.step(
        np.append(nodes, len(nodes)) - 0.5,
        np.append(seats, seats[-1]),
        where="post",
        color="#000000",
        label="seats",
    )
    axes.set_title("Items at each node")
    axes.set_ylim(0, 1.6 * max(before.max(), seats.max()))
    axes.legend(frameon=False)


def _members(axes, members):
    """Draws how many items of each group are at each node, [G, D]."""
    axes.imshow(members, aspect="auto", cmap="Blues")
    for row, column in np.argwhere(members):
        dark = members[row, column] > members.max() / 2
        axes.text(
            column,
            row,
            str(members[row, column]),
            ha="center",
            va="center",
            color="white" if dark else "black",
        )
    axes.set_title("Hidden subtree by node")
    axes.set_ylabel("hidden subtree")
    axes.set_yticks(range(len(members)))


def shares(
    curves: Mapping[str, Mapping[int, float]],
    *,
    title: str,
    xlabel: str = "level",
) -> matplotlib.figure.Figure:
    """Draws shares over the levels of the tree, or over steps, in percent.

    Args:
        curves: shares by level, by label.
        title: above the picture.
        xlabel: what the shares are by.
    """
    figure = matplotlib.figure.Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    for (label, curve), color, marker in zip(curves.items(), COLORS, "os^Dv"):
        axes.plot(
            list(curve),
            [100 * x for x in curve.values()],
            label=label,
            color=color,
            marker=marker,
        )
    axes.set(xlabel=xlabel, ylabel="%", title=title, ylim=(-3, 104))
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    axes.legend(frameon=False)
    return figure
