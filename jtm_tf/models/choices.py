"""What a model may be asked to be: names and defaults, without TensorFlow."""

# The time windows of a history, oldest first; T = 69 is their sum.
WINDOWS = (20, 20, 10, 10, 2, 2, 2, 1, 1, 1)

# Layers that map a user and nodes to logits, see `models.scorers`.
SCORERS = ("mlp", "attention", "product")

# Readings of Eq. 2, see `tree_model.TreeModel`.
LOSSES = ("softmax", "bce", "beam")
