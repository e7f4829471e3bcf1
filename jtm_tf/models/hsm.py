"""HSM, hierarchical softmax: a rival that takes the tree as a probability.

p(item|u) is the product of the branch probabilities down the path, and each
branch is a softmax over the children of one node (Morin and Bengio, 2005;
paper Sec. 4.2). It trains on the siblings of a path only, so it never learns
to compare nodes of different parents, which is what a beam search does.
"""

import keras

from jtm_tf.models import tree_model
from jtm_tf.tree import tree as tree_lib


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
