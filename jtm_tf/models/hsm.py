"""HSM, hierarchical softmax: a rival that takes the tree as a probability.

p(item|u) is the product of the branch probabilities down the path, and each
branch is a softmax over the children of one node (Morin and Bengio, 2005;
paper Sec. 4.2). It trains on the siblings of a path only, so it never learns
to compare nodes of different parents, which is what a beam search does.
"""

import keras
import tensorflow as tf

from jtm_tf import tree as tree_lib
from jtm_tf.models import tree_model


@keras.saving.register_keras_serializable("jtm_tf")
class HSM(tree_model.TreeModel):
    """Scores nodes by log p(node|parent, user); a search adds up the path.

    Args: those of `TreeModel`, but `path_weight`, which is 1: the sum of the
    logarithms of a path.
    """

    siblings = True

    def __init__(self, *args, **settings):
        super().__init__(*args, **{**settings, "path_weight": 1.0})
        self.occupied = self.add_weight(
            shape=(tree_lib.num_codes(self.max_level, self.branching),),
            dtype="bool",
            initializer="zeros",
            trainable=False,
            name="occupied",
        )

    def set_tree(self, tree: tree_lib.Tree) -> None:
        """Takes another pi; the nodes' embeddings stay with their codes."""
        super().set_tree(tree)
        self.occupied.assign(tree.occupied_codes())

    def score(self, history, nodes, level: int):
        """Returns log p(node|parent, user), [B, W]; a `ScoreFn`.

        Args:
            history: [B, user_width] int32 users.
            nodes: [B, W] int32 codes on `level`, in whole families: W is a
                multiple of b and every b neighbours are siblings.
            level: Python integer.
        """
        logits = super().score(history, nodes, level)
        live = tf.gather(self.occupied.value, nodes)
        logits = tf.where(live, logits, tree_model.NEVER)
        families = tf.reshape(logits, [-1, self.branching])
        return tf.reshape(tf.nn.log_softmax(families), tf.shape(nodes))
