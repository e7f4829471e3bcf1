"""What a report says of a run, gathered as plain data: JSON values."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.report import cells
from experiments.report import charts
from experiments.report import person
from experiments.report import source as source_lib
from experiments.runs import paper
from jtm_tf.data import splits
from jtm_tf.runs import folder as run_folder
from jtm_tf.tree import tree as tree_lib

# A run's own tree, and the one it began with. The best iteration may have been
# the one before the first tree step.
INITIAL, LEARNED = "initial", "learned"
UNCHANGED, KEPT = "initial, never changed", "initial, of the best iteration"
NAMES = (INITIAL, LEARNED, UNCHANGED, KEPT)


@dataclasses.dataclass(frozen=True)
class Request:
    """What the reader wants to see.

    Attributes:
        user: raw id of the user whose search is told; see `person.describe`.
        item: raw id of the item that is asked about; likewise.
        num_users: validation users, at most, to measure on.
        max_cells: nodes, at most, that are drawn of a tree.
    """

    user: str | None = None
    item: str | None = None
    num_users: int = 512
    max_cells: int = cells.MAX_CELLS


def gather(
    source: source_lib.Source,
    request: Request = Request(),
    beside: Mapping[str, tree_lib.Tree] | None = None,
) -> dict[str, Any]:
    """Measures and tells everything that a report shows.

    Args:
        source: the run.
        request: what to show.
        beside: other trees of the same items by name, to compare with.

    Returns:
        `title`, `facts` (pairs), `notes`, `branching`, `max_level`, `trees`
        (see `cells.describe`), whether there are `categories`, the texts of
        `labels`, `charts`, and `person`, None if there is no search to tell.
    """
    notes = list(source.notes)
    codes, paths = source_lib.paths(source.data)
    categories = cells.Categories.of(codes, paths)
    tree = source.tree
    if not categories.known:
        notes.append(
            "The items have no categories: the tree is coloured by popularity."
        )
    beside = beside or {}
    shown = {} if tree is None else _trees(source, tree, beside)
    deepest = 0 if tree is None else cells.depth(tree, request.max_cells)
    labels, popularity = cells.Labels(), source.popularity
    drawn = [
        {
            "name": name,
            "searched": other is tree and source.searched,
            "levels": cells.describe(
                other, categories, popularity, labels, deepest
            ),
        }
        for name, other in shown.items()
    ]
    story, unknown = person.describe(
        source, user=request.user, item=request.item, deepest=deepest
    )
    return {
        "title": _title(source),
        "facts": _facts(source, tree),
        "notes": [*notes, *unknown],
        "branching": None if tree is None else tree.branching,
        "max_level": None if tree is None else tree.max_level,
        "trees": drawn,
        "categories": categories.known,
        "labels": labels.texts,
        "charts": [
            *charts.purity(shown, categories.coarse),
            *charts.moves({} if tree is None else source.trees),
            *_measures(source, tree, beside),
            *_under_the_beam(source, request),
            *charts.learning(source.iterations),
        ],
        "person": story,
    }


def trees_beside(
    source: source_lib.Source,
    run_dirs: Mapping[str, str],
    data_dir: str | None = None,
) -> dict[str, tree_lib.Tree]:
    """Returns the trees of other runs by name, to compare the run's own with.

    Args:
        source: the run.
        run_dirs: of the others, by name.
        data_dir: the prepared data, where they were in training by default.

    Raises:
        ValueError: a tree cannot be compared, or its name is taken.
    """
    own = source.tree
    if run_dirs and own is None:
        raise ValueError("--beside: the run has no tree to compare with.")
    found = {}
    for name, run_dir in run_dirs.items():
        if name in NAMES:
            raise ValueError(
                f"--beside: {name!r} is what the run's own tree is called; "
                "give the other one another name."
            )
        other = source_lib.open_run(run_dir, data_dir)
        run_folder.refuse_other_data(
            f"--beside: {run_dir}",
            other.fingerprint,
            source.fingerprint,
            data="the data of the run",
            instead="Leave it out.",
        )
        found[name] = _comparable(other.tree, own, run_dir)
    return found


def _comparable(tree, own, run_dir):
    """Returns the tree of another run if it has the shape of the run's own."""
    if tree is None:
        raise ValueError(f"--beside: {run_dir} has no tree to show.")
    there, here = ((x.max_level, x.branching) for x in (tree, own))
    if there != here:
        raise ValueError(
            f"--beside: levels and branching of the tree of {run_dir} are "
            f"{there}, of the run's own {here}: they cannot be compared."
        )
    return tree


def _trees(source, tree, beside):
    """Returns the trees to show by name, the run's own last."""
    first = source.trees.get(0)
    if first is None:
        return {**beside, LEARNED: tree}
    if not np.array_equal(first.pi, tree.pi):
        return {INITIAL: first, **beside, LEARNED: tree}
    steps = max(source.trees)
    if not steps:  # or their trees cannot be read
        moved = any(r.get("moved_items") for r in source.iterations)
        return {**beside, KEPT if moved else UNCHANGED: tree}
    learned = {_after(steps): source.trees[steps]}
    return {**learned, **beside, KEPT: tree}


def _measures(source, tree, beside):
    """Returns the charts of what every tree of the run tells of users."""
    if tree is None:
        return []
    own = {
        _after(steps) if steps else INITIAL: found
        for steps, found in sorted(source.trees.items())
    }
    if not any(np.array_equal(tree.pi, found.pi) for found in own.values()):
        own[LEARNED] = tree
    # As the run itself measures them.
    seed = source.settings.get("seed") or 0
    samples = splits.examples(source.data).of_some_users(seed=seed)
    return charts.measures(own, beside, samples)


def _after(steps):
    """Returns the name of the tree that so many steps learned."""
    return f"after tree step {steps}"


def _under_the_beam(source, request):
    """Returns the charts of validation users at the run's beam widths."""
    if not source.searched:
        return []
    users = splits.held_out_users(
        source.data,
        "validation",
        source.model.max_history,
        source.settings.get("profile") or (),
    ).first(request.num_users)
    asked = [source.beam_width]
    asked += [k for _, k in source.settings.get("cuts") or []]
    return charts.under_the_beam(source, users, list(dict.fromkeys(asked)))


def _title(source):
    """Returns the heading."""
    method = source.settings.get("method", "A run")
    dataset = source.data.manifest.get("dataset", "unknown data")
    return f"{paper.NAMES.get(method, method)} on {dataset}"


def _facts(source, tree):
    """Returns what the run is, as pairs of texts."""
    facts = [
        ("items", f"{source.data.num_items:,}"),
        ("users", f"{source.data.num_users:,}"),
    ]
    if tree is not None:
        facts += [
            ("levels", str(tree.max_level)),
            ("branching", str(tree.branching)),
        ]
    metrics = source.metrics
    if source.iterations:
        facts.append(("iterations", str(len(source.iterations))))
    if "best_iteration" in metrics:
        facts.append(("best iteration", str(metrics["best_iteration"])))
    test = metrics.get("test")
    if test:
        beam = test.get("beam_width")
        facts.append(
            (
                f"test recall@{test.get('num_results', 'M')}",
                f"{100 * test['recall']:.2f} %"
                + (f" at beam {beam}" if beam else ""),
            )
        )
    if "seed" in source.settings:
        facts.append(("seed", str(source.settings["seed"])))
    if "code" in metrics:
        facts.append(("code", str(metrics["code"])))
    return facts
