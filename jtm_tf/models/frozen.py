"""A trained model laid out for search: the same scores, sooner.

- Siblings lie side by side and are fetched as one row of the table.
- A leaf's vector belongs to its item: leaves without items take no memory.
- Users are described for all levels at once.
- The tables may be of float16, which halves them; all is computed in float32.
"""

from collections.abc import Mapping
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from jtm_tf.models import preference
from jtm_tf.models import rows as rows_lib
from jtm_tf.models import tree_model
from jtm_tf.tree import tree as tree_lib

# What tables may be of.
DTYPES = ("float32", "float16")


def round_vectors(model: tree_model.TreeModel, dtype: str) -> None:
    """Gives a model the vectors that tables of `dtype` hold.

    It then finds what a `FrozenModel` of such tables finds.

    Raises:
        ValueError: vectors are beyond the range of `dtype`.
    """
    if dtype == "float32":
        return
    table, tree = model.embedding.numpy(), model.tree
    # Leaves without items have vectors that nobody reads.
    for nodes in (slice(tree.first_leaf), tree.pi):
        table[nodes] = _narrowed(table[nodes], dtype)
    model.embedding.assign(table)


class FrozenEmbedding(tf.Module):
    """The vectors of a tree's nodes, to be read only.

    Args:
        table: [num_codes, E] of `NodeEmbedding`.
        tree: the index.
        dtype: of the tables, one of `DTYPES`.

    Attributes:
        dim: E.
        inner: a variable, the vectors of inner nodes, siblings side by side.
        items: a variable, [N + 1, E], the vectors of leaves by their items.
        leaf_items: a variable, [num_leaves] int32.
    """

    def __init__(
        self, table: np.ndarray, tree: tree_lib.Tree, dtype: str = "float32"
    ):
        super().__init__()
        self.dim = table.shape[1]
        self._branching, self._max_level = tree.branching, tree.max_level
        self._first_leaf = tree.first_leaf
        # The children of n are the rows b n .. b n + b - 1.
        self._shift = tree.branching - 2
        families = -(-(tree.first_leaf + self._shift) // tree.branching)
        inner = np.zeros([families * tree.branching, self.dim], dtype)
        codes = np.arange(tree.first_leaf, dtype=np.int32)
        _fill(inner[self._shift :], table, codes)
        self.inner = tf.Variable(inner, trainable=False)
        del inner, codes
        items = np.empty([len(tree.pi), self.dim], dtype)
        _fill(items, table, tree.pi)
        self.items = tf.Variable(items, trainable=False)
        self.leaf_items = tf.Variable(tree.leaf_items(), trainable=False)

    def __call__(self, nodes: tf.Tensor, level: int) -> tf.Tensor:
        """Maps [...] nodes of a level to their vectors, [..., E]."""
        return self._vectors(nodes, level)

    def of_levels(self, nodes: Mapping[int, tf.Tensor]) -> dict[int, tf.Tensor]:
        """Maps nodes of several levels, [..] each, to [.., E]."""
        return {level: self(of, level) for level, of in nodes.items()}

    def _vectors(self, nodes, level):
        """Maps [...] nodes of a level to [..., E]."""
        if level < self._max_level:
            return _rows(self._inner_rows(), nodes + self._shift)
        places = tf.maximum(nodes - self._first_leaf, 0)
        items = tf.gather(self.leaf_items, places)
        return _rows(self._item_rows(), items)

    def families(self, nodes: tf.Tensor, level: int) -> tf.Tensor:
        """Maps [B, W] nodes of a level, in whole families, to [B, W, E].

        On the leaf level nodes may stand in any order.
        """
        if level == self._max_level:
            return self._vectors(nodes, level)
        branching, width = self._branching, self.dim
        table = tf.reshape(self._inner_rows(), [-1, branching * width])
        parents = (nodes[:, ::branching] + self._shift) // branching
        rows = _rows(table, parents)
        return tf.reshape(rows, [-1, nodes.shape[1], width])

    def means(
        self,
        leaves: tf.Tensor,
        segments: tf.Tensor,
        levels: Sequence[int],
        count: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the mean vectors of ancestors of leaves, [L * count, E].

        Where they lie: no row of float32 is copied on its way.

        Args:
            leaves: [R] leaves, none of them PAD.
            segments: [R] int32, ascending, to which mean each belongs.
            levels: of the ancestors, ascending, L of them.
            count: means of a level; those of no leaf are zero.
        """
        parts = []
        inner = [level for level in levels if level < self._max_level]
        place = leaves - self._first_leaf
        if inner:
            firsts = [tree_lib.first_code(x, self._branching) for x in inner]
            widths = [self._branching ** (self._max_level - x) for x in inner]
            nodes = place // tf.constant(widths)[:, None]
            nodes += tf.constant(firsts)[:, None] + self._shift
            level = tf.range(len(inner))[:, None] * count
            parts.append(
                _means(
                    self._inner_rows(),
                    tf.reshape(nodes, [-1]),
                    tf.reshape(level + segments, [-1]),
                    len(inner) * count,
                )
            )
        if len(inner) < len(levels):
            items = tf.gather(self.leaf_items, place)
            parts.append(_means(self._item_rows(), items, segments, count))
        return tf.concat(parts, 0)

    def _inner_rows(self):
        """Returns the table of inner nodes, which is not copied.

        A variable that `tf.gather` reads by rows even once is copied whole
        by whoever reads all of it, so nobody may.
        """
        return self.inner.read_value()

    def _item_rows(self):
        """Returns the table of items, which is not copied either."""
        return self.items.read_value()


class FrozenModel(preference.Preference, tf.Module):
    """A model that only scores; as `model` did when it was frozen.

    Args:
        model: a trained model with its tree.
        index: another tree for the same network, and the vectors of its nodes,
            [num_codes, E]; the model's own by default.
        dtype: of the tables of vectors, one of `DTYPES`.

    Attributes:
        tree: the index.
        theta: all variables, to save them.
    """

    def __init__(
        self,
        model: tree_model.TreeModel,
        index: tuple[tree_lib.Tree, np.ndarray] | None = None,
        dtype: str = "float32",
    ):
        super().__init__()
        tree, table = index or (model.tree, model.embedding.numpy())
        for name in preference.NETWORK:
            setattr(self, name, getattr(model, name))
        self.tree, self.num_items = tree, tree.num_items
        self.max_level, self.branching = tree.max_level, tree.branching
        self.embedding = FrozenEmbedding(table, tree, dtype)
        self.leaf_items = self.embedding.leaf_items
        self.pi = keras.Variable(tree.pi, trainable=False, dtype="int32")
        own = [self.pi]
        if self.siblings:
            self.occupied = keras.Variable(
                tree.occupied_codes(), trainable=False, dtype="bool"
            )
            own.append(self.occupied)
        # Versions are saved, and thawed, by this order.
        self.theta = [
            self.embedding.inner,
            self.embedding.items,
            self.leaf_items,
            *[variable.value for variable in own + _weights(model)],
        ]

    def described(self, history, levels):
        """Returns the leaves of users and their kernels on each level."""
        if self.scorer_name != "mlp":
            return super().described(history, levels)
        spoken = levels if self.hierarchical else [self.max_level]
        leaves, of_users = self._of_all(history, spoken)
        folded = self.scorer.folded(of_users)
        # Of each level apart.
        kernels = list(zip(*[tf.split(x, len(spoken)) for x in folded]))
        if not self.hierarchical:
            kernels *= len(levels)
        return self._visited(leaves), dict(zip(levels, kernels))

    def read_out(self, history, levels):
        """Returns what `score_read_out` takes for users on `levels`."""
        spoken = levels if self.hierarchical else [self.max_level]
        leaves, of_users = self._of_all(history, spoken)
        by_level = (tf.split(x, len(spoken)) for x in of_users)
        return self._read_out(leaves, by_level, levels)

    def score_read_out(self, users, nodes, level):
        """Scores [B, W] nodes in whole families by the read-out."""
        vectors = self.embedding.families(nodes, level)
        return self._by_read_out(users, nodes, vectors, level)

    def _of_all(self, history, levels):
        """Returns users' leaves, and what the scorer has of them, [L * B, ..].

        Level by level, one after another.
        """
        leaves, profile = self._leaves_and_profile(history)
        users = self._pooled(leaves, levels)  # [L * B, windows * E]
        if self.profile.dim:
            profile = tf.tile(profile, [len(levels), 1])
            users = tf.concat([users, profile], 1)
        return leaves, self.scorer.of_users(users)

    def _logits(self, users, nodes, level):
        """Returns the logits of [B, W] nodes in whole families."""
        if self.scorer_name != "mlp":
            return super()._logits(users, nodes, level)
        visited, kernels = users
        return self.scorer.scores(
            self.embedding.families(nodes, level),
            kernels[level],
            self._pairs(visited, nodes, level),
        )

    def _pooled(self, leaves, levels):
        """Does what `UserRepresentation` does, for all levels at once."""
        describe = self.user_representation
        known, segment = describe.behaviours(leaves)
        count = tf.shape(leaves)[0] * describe.count
        means = self.embedding.means(known, segment, levels, count)
        return describe.described(means, leaves)


def _fill(rows, table, nodes):
    """Sets the first rows to those of some nodes, whatever their type.

    By blocks: the table may lie in a file and be larger than the memory.
    """
    for block in rows_lib.blocks(len(nodes)):
        rows[block] = _narrowed(table[nodes[block]], rows.dtype)


def _narrowed(table, dtype):
    """Returns a table of another dtype, if it is one."""
    if table.dtype == dtype:
        return table
    most = max(table.max(initial=0), -table.min(initial=0))
    if most > np.finfo(dtype).max:
        raise ValueError(
            f"Tables of {dtype} hold numbers up to {np.finfo(dtype).max:g}; "
            f"the vectors have {most:g}. Use tables of float32."
        )
    return table.astype(dtype)


def _rows(table, rows):
    """Returns rows of a table, float32."""
    return tf.cast(tf.gather(table, rows), tf.float32)


def _means(table, rows, segments, count):
    """Returns the means of segments of rows of a table, float32."""
    if table.dtype != tf.float32:
        # Means of float16 would be rounded too.
        distinct, rows = tf.unique(rows)
        table = _rows(table, distinct)
    return tf.sparse.segment_mean(table, rows, segments, num_segments=count)


def thaw(model: tree_model.TreeModel, theta: Sequence[np.ndarray]) -> None:
    """Gives a model what it had when it was frozen: its tree and its weights.

    Leaves without items have lost their vectors, which no score depends on;
    they are zero.

    Args:
        model: of the same settings.
        theta: `FrozenModel.theta`.

    Raises:
        ValueError: theta is of another model.
    """
    inner, items, _, pi, *weights = theta
    if model.siblings:
        del weights[0]  # occupied codes
    tree = tree_lib.Tree(pi, model.max_level, model.branching)
    model.set_tree(tree)
    table = np.zeros([tree.num_codes, items.shape[1]], np.float32)
    table[: tree.first_leaf] = inner[tree.branching - 2 :][: tree.first_leaf]
    table[tree.pi] = items
    model.embedding.assign(table)
    for variable, value in zip(_weights(model), weights, strict=True):
        variable.assign(value)


def _weights(model):
    """Returns the network's variables beside the vectors of nodes."""
    read_out = model.readout.weights if model.readout else []
    return [*model.scorer.weights, *model.profile.weights, *read_out]
