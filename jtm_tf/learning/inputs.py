"""What a run needs of its data, taken once: Algorithm 1 sees no more of it.

Here a run is refused whose data cannot give what its settings ask for.
"""

import dataclasses

import numpy as np

from jtm_tf import categories as categories_lib
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.learning import samples
from jtm_tf.learning import settings
from jtm_tf.tree import clustering
from jtm_tf.tree import factors
from jtm_tf.tree import initial
from jtm_tf.tree import tree as tree_lib


@dataclasses.dataclass(frozen=True, eq=False)
class Inputs:
    """What a run learns from and is judged by.

    Attributes:
        examples: the training samples.
        unseen: samples of the validation users, to measure Eq. 2 on.
        validation: the users who pick the best iteration.
        test: the users whom that iteration is judged by.
        first_tree: pi_0.
        first_vectors: [N + 1, E] float32, the vectors of items that theta
            starts from; None for a random start.
        kin: [N + 1] int, see `categories.kin_groups`.
        visits: whether the scorer sees how often a history went through a
            node.
        profile_sizes: codes of each profile column, that of unknown included.
    """

    examples: splits.Examples
    unseen: splits.Examples
    validation: splits.HeldOutUsers
    test: splits.HeldOutUsers
    first_tree: tree_lib.Tree
    first_vectors: np.ndarray | None
    kin: np.ndarray
    visits: bool
    profile_sizes: tuple[int, ...]


def take(
    config: settings.JointConfig, data: interactions.Interactions
) -> Inputs:
    """Returns what a run needs.

    Raises:
        OSError: the file of the first tree cannot be read.
        ValueError: there is no such profile column, the first tree is to
            follow categories and there are none, its file holds no tree of
            these items, or nothing is there to train on.
    """
    paths = categories(config, data)
    examples = splits.examples(data, config.profile)
    held_out = {
        split: splits.held_out_users(
            data, split, config.max_history, config.profile
        )
        for split in ("validation", "test")
    }
    vectors = _factors(config, examples, data.num_items)
    tree = _first_tree(config, data.num_items, paths, vectors)
    samples.check(examples, tree, config.training.negatives)
    return Inputs(
        examples=examples,
        unseen=splits.examples(data, config.profile, split="validation"),
        **held_out,
        first_tree=tree,
        first_vectors=vectors if config.initial_vectors == "factors" else None,
        kin=categories_lib.kin_groups(paths, data.num_items),
        visits=config.visits == "yes"
        or config.visits == "auto"
        # Else the counts are nearly all zero, and cost a search their time.
        and splits.repeat_share(examples) > settings.REPEATS,
        profile_sizes=tuple(
            1 + len(data.profile_values(name)) for name in config.profile
        ),
    )


def categories(
    config: settings.JointConfig, data: interactions.Interactions
) -> np.ndarray | None:
    """Returns the items' paths, [N] or None, as coarse as the run wants."""
    paths = data.categories()
    if paths is None or config.category_parts is None:
        return paths
    coarse = [
        categories_lib.prefix(path, config.category_parts) or None
        for path in paths
    ]
    return np.array(coarse, object)


def _factors(config, examples, num_items):
    """Returns the items' factors, [N + 1, E], if anything starts from them."""
    for_tree = config.initial_tree == "factors" and not config.traits.flat
    if not for_tree and config.initial_vectors != "factors":
        return None
    taken = factors.taken(examples.starts, examples.target_items(), num_items)
    return factors.item_vectors(taken, config.embedding_dim, seed=config.seed)


def _first_tree(config, num_items, paths, vectors):
    """Returns pi_0."""
    if config.traits.flat:
        return initial.flat(num_items)
    if config.initial_tree.endswith(settings.TREE_FILE):
        return _saved_tree(config, num_items)
    shape = {"branching": config.branching, "seed": config.seed}
    if config.initial_tree == "factors":
        # Items that nobody took have no direction; they stay with their kind.
        start = (
            _random_tree(config, num_items)
            if paths is None
            else initial.by_category(paths, **shape)
        )
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit = vectors / np.maximum(length, np.finfo(np.float32).tiny)
        return clustering.cluster(start, unit, seed=config.seed)
    if config.initial_tree == "random":
        return _random_tree(config, num_items)
    if paths is None:
        raise ValueError(
            "The data has no categories, which the initial tree needs: name "
            "their column at experiments.prepare, or use initial_tree=random."
        )
    return initial.by_category(paths, **shape)


def _random_tree(config, num_items):
    """Returns the items in an order that tells nothing."""
    # Not of the seed alone: a planted world's hidden tree is drawn from its
    # seed, and a run of the same one would begin with all there is to find.
    return initial.random(
        num_items, branching=config.branching, seed=(config.seed, 1)
    )


def _saved_tree(config, num_items):
    """Returns pi_0 from a file."""
    tree = tree_lib.Tree.load(config.initial_tree)
    there, here = (
        (tree.num_items, tree.branching),
        (num_items, config.branching),
    )
    if there != here:
        raise ValueError(
            f"initial_tree={config.initial_tree} holds a tree of (items, "
            f"branching) {there}; the run has {here}. Take one of a run on the "
            "same data."
        )
    return tree
