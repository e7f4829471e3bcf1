"""What a run needs of its data, taken once: Algorithm 1 sees no more of it.

Here a run is refused whose data cannot give what its settings ask for.
"""

import dataclasses

import numpy as np
import tensorflow as tf
from absl import logging

from jtm_tf import categories as categories_lib
from jtm_tf import files
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.learning import continuing
from jtm_tf.learning import node_vectors
from jtm_tf.learning import replay
from jtm_tf.learning import samples
from jtm_tf.learning import settings
from jtm_tf.runs import folder as run_folder
from jtm_tf.tree import clustering
from jtm_tf.tree import factors
from jtm_tf.tree import initial
from jtm_tf.tree import tree as tree_lib

# Where the log is cut by time, one in so many users is not trained on.
_FOLDS_BY_TIME = 50


@dataclasses.dataclass(frozen=True, eq=False)
class Inputs:
    """What a run learns from and is judged by.

    Attributes:
        examples: the training samples.
        step_examples: those that model steps draw from; of a continued run
            see `replay`.
        unseen: samples of users who are not trained on, to measure Eq. 2 on:
            the validation users.
        validation: the users who pick the best iteration.
        test: the users whom that iteration is judged by.
        first_tree: pi_0.
        first_vectors: [1 + K, N + 1, E] float32, the vectors of items that
            theta starts from, see `model_step.Trainer`; None for a random
            start.
        kin: [N + 1] int, see `categories.kin_groups`.
        visits: whether the scorer sees how often a history went through a
            node.
        profile_sizes: codes of each profile column, that of unknown included.
        earlier: what is taken over from another run; None of a run that
            begins from nothing.
    """

    examples: splits.Examples
    step_examples: splits.Examples
    unseen: splits.Examples
    validation: splits.HeldOutUsers
    test: splits.HeldOutUsers
    first_tree: tree_lib.Tree
    first_vectors: np.ndarray | None
    kin: np.ndarray
    visits: bool
    profile_sizes: tuple[int, ...]
    earlier: continuing.Earlier | None = None

    def kept(self, folder: run_folder.RunFolder) -> "Inputs":
        """Returns these inputs with their vectors in a file of the run.

        There they are found when the run goes on, and need no memory.
        """
        if self.first_vectors is None:
            return self
        if not folder.factors.exists():
            with files.replacing(folder.factors) as temporary:
                _save(temporary, self.first_vectors)
        return dataclasses.replace(self, first_vectors=_mapped(folder.factors))


def take(
    config: settings.JointConfig,
    data: interactions.Interactions,
    folder: run_folder.RunFolder,
) -> Inputs:
    """Returns what a run needs.

    Args:
        config: the run's settings.
        data: the prepared interactions.
        folder: the run's, where it may have kept the vectors.

    Raises:
        OSError: the file of the first tree, or the run that is continued,
            cannot be read.
        ValueError: there is no such profile column, the first tree is to
            follow categories and there are none, its file holds no tree of
            these items, the run that is continued is of another shape, or
            nothing is there to train on.
    """
    paths = categories(config, data)
    examples, unseen = _samples(config, data)
    held_out = {
        split: splits.held_out_users(
            data, split, config.max_history, config.profile
        )
        for split in ("validation", "test")
    }
    if config.initial_tree == "auto":
        kind = "factors" if paths is None else "category"
        config = dataclasses.replace(config, initial_tree=kind)
    visits = _sees_visits(config, examples)
    earlier = continuing.take(
        config, data, examples, paths, folder, visits=visits
    )
    vectors = _factors(config, examples, data.num_items, folder, earlier)
    if earlier is not None and earlier.model is not None:
        vectors, earlier = _turned(vectors, earlier, folder)
    first = None if vectors is None else vectors[0]
    if earlier is not None:
        tree = earlier.tree
    else:
        tree = _first_tree(config, data.num_items, paths, first)
    step_examples, earlier = _replayed(config, data, examples, earlier)
    samples.check(step_examples, tree, config.training.negatives)
    _tell_of_the_beam(config, examples)
    if tf.config.functions_run_eagerly():
        logging.warning(
            "TensorFlow runs functions eagerly, many times slower than as "
            "graphs: call tf.config.run_functions_eagerly(False)."
        )
    return Inputs(
        examples=examples,
        step_examples=step_examples,
        unseen=unseen,
        **held_out,
        first_tree=tree,
        first_vectors=vectors if config.initial_vectors == "factors" else None,
        kin=categories_lib.kin_groups(paths, data.num_items),
        visits=visits if earlier is None else earlier.visits,
        profile_sizes=tuple(
            1 + len(data.profile_values(name)) for name in config.profile
        ),
        earlier=earlier,
    )


def _samples(config, data):
    """Returns the training samples, and some of users whom it never sees.

    Where the log is cut by time everybody is trained on; so a few are not,
    since a model knows by heart, in the old tree's words, what it has learned.
    """
    examples = splits.examples(data, config.profile)
    if data.periods is None:
        return examples, splits.examples(
            data, config.profile, split="validation"
        )
    fold = examples.fold_of(_FOLDS_BY_TIME, seed=config.seed)
    if len(np.unique(fold)) < 2:  # there are too few users
        return examples, examples
    return (
        examples.take(np.flatnonzero(fold != 0)),
        examples.take(np.flatnonzero(fold == 0)),
    )


def _replayed(config, data, examples, earlier):
    """Returns the samples of model steps, and the run continued, if any.

    Its record then says how many of the samples are new and how many are old.
    """
    if earlier is None or earlier.known_until is None or not config.new_share:
        return examples, earlier
    chosen, counts = replay.choose(
        examples,
        data,
        earlier.known_until,
        share=config.new_share,
        least=config.training.samples_per_epoch,
        seed=config.seed,
    )
    return chosen, dataclasses.replace(earlier, record=earlier.record | counts)


def _sees_visits(config, examples):
    """Returns whether the scorer sees how often histories visit a node."""
    if config.visits != "auto":
        return config.visits == "yes"
    # Else the counts are nearly all zero, and cost a search their time.
    return splits.repeat_share(examples) > settings.REPEATS


def _tell_of_the_beam(config, examples):
    """Tells of settings of beam training that do less than they look."""
    if config.method_loss != "beam":
        return
    beam, targets = config.training.train_beam, config.training.targets
    fewest = min(results for results, _ in config.all_cuts)
    if beam < fewest:
        logging.warning(
            "train_beam=%d is below the fewest results that are judged, %d: a "
            "search for them keeps nodes that training never compares. Take "
            "at least as many.",
            beam,
            fewest,
        )
    longest = int((examples.ends - examples.starts).max())
    if targets > longest:
        logging.warning(
            "targets=%d is more than any training user has rows, %d: all "
            "histories repeat their targets. Take fewer.",
            targets,
            longest,
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


def _factors(config, examples, num_items, folder, earlier):
    """Returns the items' factors, [1 + K, N + 1, E], if any are needed."""
    for_tree = (
        config.initial_tree == "factors"
        and not config.traits.flat
        and earlier is None
    )
    for_vectors = config.initial_vectors == "factors"
    if not for_tree and not for_vectors:
        return None
    if folder.factors.exists():
        return _mapped(folder.factors)
    if earlier is not None and earlier.model is None:
        earlier.item_vectors()  # says that they are gone
    taken = factors.taken(examples.starts, examples.target_items(), num_items)
    # Rows of `taken` are users in the order of their starts.
    _, one_of = np.unique(examples.starts, return_index=True)
    count = config.factor_folds if for_vectors else 1
    return _filed(
        factors.cross_fitted(
            taken,
            examples.fold_of(count, seed=config.seed)[one_of],
            count,
            config.embedding_dim,
            seed=config.seed,
        ),
        folder,
    )


def _turned(tables, earlier, folder):
    """Returns factors turned to an earlier model's vectors, and the earlier
    run with what its own were; from there on only changes are added to those.

    Today's are turned to those of then, which they are most alike, and both
    together to the vectors.
    """
    if tables is None:
        return None, earlier
    stay, learned = earlier.item_vectors()
    run = earlier.run
    if run.settings.initial_vectors != "factors":
        turn = factors.rotation(tables[0][stay], learned)
        return _filed((table @ turn for table in tables), folder), earlier
    examples, _ = _samples(run.settings, run.data)
    taken = factors.taken(
        examples.starts, examples.target_items(), run.data.num_items
    )
    was = factors.item_vectors(
        taken, run.settings.embedding_dim, seed=run.settings.seed
    )[earlier.item_before]
    turn = factors.rotation(tables[0][stay], was[stay])
    both = factors.rotation(was[stay], learned)
    # The network knows products of vectors of this length.
    scale = run.metrics.get("carried", {}).get("scale")
    if scale is None:
        stddev = earlier.model.embedding.stddev
        scale = node_vectors.scale_of(was, stddev)
    earlier = dataclasses.replace(
        earlier, factors=was @ both, record=earlier.record | {"scale": scale}
    )
    return _filed((table @ turn @ both for table in tables), folder), earlier


def _filed(tables, folder):
    """Returns tables, [N + 1, E] each, as one that needs no memory.

    Its file has no name: a run that is refused leaves no trace.
    """
    with files.unnamed(folder.path) as file:
        count = 0
        for table in tables:
            file.write(np.ascontiguousarray(table))
            count, shape = count + 1, table.shape
        file.flush()
        return np.memmap(file, np.float32, "r", shape=(count, *shape))


def _save(path, tables):
    """Does what `np.save` does, a table at a time."""
    form = np.lib.format
    with open(path, "wb") as file:
        form.write_array_header_1_0(
            file, form.header_data_from_array_1_0(tables)
        )
        for table in tables:
            file.write(np.ascontiguousarray(table))
            files.let_go(tables)


def _mapped(file):
    """Returns the vectors of a file, read as they are used."""
    try:
        return np.load(file, mmap_mode="r")
    except ValueError as error:
        raise ValueError(
            f"{file} is damaged: {error}. Delete it, and it is made anew, but "
            "of a run that continues another."
        ) from error


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
            "their column at experiments.prepare, or use initial_tree=factors."
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
