"""The curves of a report as plain data; page and pictures draw the same."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.report import source as source_lib
from jtm_tf.data import splits
from jtm_tf.search import diagnosis
from jtm_tf.tree import statistics as tree_statistics
from jtm_tf.tree import tree as tree_lib

Chart = dict[str, Any]

# The `id` that a chart may have.
NAMES = (
    "purity",
    "moves",
    "entropy",
    "information",
    "busiest",
    "recall",
    "heap",
    "learning",
    "recalls",
    "losses",
)


def purity(
    trees: Mapping[str, tree_lib.Tree], groups: np.ndarray
) -> list[Chart]:
    """Returns how pure the nodes of each level are, by tree.

    Args:
        trees: by name, of the same items.
        groups: [N + 1] int, the coarse category of each item, 0 if unknown.

    Returns:
        No chart where no category is known.
    """
    if not groups.any() or not trees:
        return []
    tree = list(trees.values())[-1]
    mixed = np.append(0, np.random.default_rng(0).permutation(groups[1:]))
    lines = [
        _line(name, 100 * tree_statistics.purity(tree, groups))
        for name, tree in trees.items()
    ]
    by_chance = 100 * tree_statistics.purity(tree, mixed)
    lines.append(_line("items at random", by_chance, dashed=True))
    return [
        _chart(
            "purity",
            "Category purity by level",
            "Share of the items that are of the largest coarse category under "
            "their node. Deep nodes hold few items and are pure by themselves: "
            "what counts is the distance to the same tree with its items "
            "shuffled.",
            lines,
        )
    ]


def moves(trees: Mapping[int, tree_lib.Tree]) -> list[Chart]:
    """Returns who changed the node in each tree step; see `Source.trees`."""
    lines = [
        _line(
            f"tree step {number}",
            100
            * tree_statistics.moved(trees[number - 1], tree)
            / tree.num_items,
        )
        for number, tree in sorted(trees.items())
        if number - 1 in trees
    ]
    if not lines:
        return []
    return [
        _chart(
            "moves",
            "Items that changed their node",
            "Share of all items with another ancestor on the level than before "
            "the tree step. Who moves on a level moves on all below.",
            lines,
        )
    ]


def measures(
    own: Mapping[str, tree_lib.Tree],
    beside: Mapping[str, tree_lib.Tree],
    samples: splits.Examples,
) -> list[Chart]:
    """Returns what trees are worth without any model; see `statistics`.

    Args:
        own: the trees of a run by name, the first one first.
        beside: other trees of the same items by name.
        samples: of users, whom to know is to know something of their items.
    """
    first, last = next(iter(own)), [*own][-1]
    users, items = samples.starts, samples.target_items()
    anyone = np.random.default_rng(0).permutation(items)
    found, chance = (
        {
            name: tree_statistics.measures(tree, users, taken)
            for name, tree in {**own, **beside}.items()
        }
        for taken in (items, anyone)
    )

    def lines(measure, scale=1):
        return [
            _from_level_1(name, [scale * value for value in values[measure]])
            for name, values in found.items()
        ]

    by_chance = [
        _from_level_1(
            f"shuffled: {name}", chance[name]["information"], dashed=True
        )
        for name in dict.fromkeys((first, last))
    ]
    return [
        _chart(
            "entropy",
            "Entropy of the nodes by level",
            "H(node): what a level costs in Eq. 2 who knows no user. A tree "
            "lowers it by gathering what is popular under few nodes, which "
            f"helps no search. Of {len(samples):,} samples of training users.",
            lines("entropy"),
            y="nats",
        ),
        _chart(
            "information",
            "Information about users by level",
            "I(user; node): what a perfect model gains by knowing the user. A "
            "tree raises it by gathering what the same users take, which "
            "lowers Eq. 2 and helps the search. Of few samples a user much of "
            "it is chance: what counts is the distance to the same tree with "
            "its items shuffled among the samples."
            + _change(found, chance, first, last),
            [*lines("information"), *by_chance],
            y="nats",
        ),
        _chart(
            "busiest",
            "Samples in the 20 busiest nodes",
            "Share of the samples that are of the 20 nodes of a level with the "
            "most of them: how far a tree sorts by popularity.",
            lines("busiest", scale=100),
        ),
    ]


def _change(found, chance, first, last):
    """Returns a sentence on how the last tree differs from the first."""
    if first == last:
        return ""

    def more(measured, name):
        return sum(measured[last][name]) - sum(measured[first][name])

    return (
        f" From {first} to {last}, summed over the levels, entropy changed by "
        f"{more(found, 'entropy'):+.2f} nats and information by "
        f"{more(found, 'information'):+.2f}; with the items shuffled, by "
        f"{more(chance, 'information'):+.2f}."
    )


def under_the_beam(
    source: source_lib.Source,
    users: splits.HeldOutUsers,
    beam_widths: Sequence[int],
) -> list[Chart]:
    """Returns recall and heap violations by level, for validation users."""
    if not source.searched or not len(users):
        return []
    count = f"{len(users)} validation users"
    return [
        _recall_under_the_beam(source.model, users, beam_widths, count),
        _violations(source.model, users, beam_widths[0], count),
    ]


def _recall_under_the_beam(model, users, beam_widths, count):
    """Returns the chart of where targets are lost, a line for each beam."""
    lines = []
    for width in beam_widths:
        recall = diagnosis.level_recall(model, users, beam_width=width)
        shares = [100 * share for share in recall.values()]
        lines.append(_line(f"beam {width}", shares, recall))
    return _chart(
        "recall",
        "Recall by level",
        "Where targets are lost: share of a user's later items whose "
        f"ancestor is still in the beam; {count}. On the last level it "
        "is the recall if the whole beam were recommended.",
        lines,
    )


def _violations(model, users, beam_width, count):
    """Returns the chart of how far scores are from a max-heap."""
    heap = diagnosis.violations(model, users, beam_width=beam_width)
    own, ranks = (100 * np.array(x) for x in zip(*heap.values()))
    lines = [_line("ranks of the search", ranks, heap)]
    if not np.isnan(own).any() and model.path_weight:
        lines.insert(0, _line("nodes' own scores", own, heap))
    return _chart(
        "heap",
        "Max-heap violations by level",
        "Eq. 1 makes a node worth its best child, so of two nodes the "
        "better one has the better best child. Share of the pairs of "
        f"nodes kept on a level (beam {beam_width}) where it has "
        f"not, averaged over {count}: 0 % is a max-heap, 50 % is chance.",
        lines,
    )


def learning(iterations: Sequence[dict[str, Any]]) -> list[Chart]:
    """Returns the curves of training; older records may lack some."""
    return [
        *_by_iteration(iterations),
        *_by_level(
            iterations,
            "level_recall",
            "recalls",
            "Recall by level and iteration",
            "Of validation users under the run's beam, as above, after each "
            "model step.",
            scale=100,
        ),
        *_by_level(
            iterations,
            "level_losses",
            "losses",
            "Training loss by level",
            "Eq. 2, each level against its sampled negatives. Deep levels "
            "have more of them.",
            y="nats",
        ),
    ]


def _by_iteration(iterations):
    """Returns the chart of recall, if there are two points at least."""
    found = [r for r in iterations if r.get("validation")]
    if len(found) < 2:
        return []
    cut = found[0]["validation"].get("num_results", "M")
    recall = [100 * record["validation"]["recall"] for record in found]
    at = [record["iteration"] for record in found]
    return [
        _chart(
            "learning",
            f"Recall@{cut} by iteration",
            "Of all validation users, after each model step.",
            [_line("validation", recall, at)],
            x="iteration",
        )
    ]


def _by_level(iterations, key, name, title, caption, *, scale=1, y="%"):
    """Returns the chart of what some records have for each level, if any."""
    found = [r for r in iterations if len(r.get(key) or ()) > 1]
    if not found:
        return []
    lines = [
        _from_level_1(
            f"iteration {record['iteration']}",
            [scale * value for value in record[key]],
        )
        for record in _few(found)
    ]
    return [_chart(name, title, caption, lines, y=y)]


def _few(records):
    """Returns the first record, the one in the middle and the last."""
    chosen = (records[0], records[len(records) // 2], records[-1])
    return list({record["iteration"]: record for record in chosen}.values())


def _chart(name, title, caption, lines, *, x="level", y="%"):
    """Returns a chart as JSON values."""
    return {
        "id": name,
        "title": title,
        "caption": caption,
        "x": x,
        "y": y,
        "lines": lines,
    }


def _from_level_1(name, values, *, dashed=False):
    """Returns the line of a list over the levels from 1."""
    return _line(name, values, range(1, 1 + len(values)), dashed=dashed)


def _line(name, values, at=None, *, dashed=False):
    """Returns a line as JSON values, from level 0 if not told `at`."""
    values = [round(float(value), 4) for value in values]
    at = list(range(len(values)) if at is None else at)
    return {"name": name, "x": at, "y": values, "dashed": dashed}
