"""The nodes' embeddings for TensorBoard's projector, with what they hold."""

import pathlib

import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorboard.plugins.projector import projector_config_pb2

from experiments.report import cells
from experiments.report import source as source_lib
from jtm_tf import files
from jtm_tf.tree import tree as tree_lib

# Points that a browser still turns smoothly.
MAX_POINTS = 5000

_VECTORS, _METADATA = "nodes.tsv", "nodes-metadata.tsv"
_CONFIG = "projector_config.pbtxt"  # Where TensorBoard looks for it.
_COLUMNS = ("node", "level", "items", "interactions", "category", "share")


def write(
    source: source_lib.Source,
    folder: files.Path,
    max_points: int = MAX_POINTS,
) -> int:
    """Writes the embeddings of the upper levels' nodes.

    Args:
        source: a run with a model whose tree is not flat.
        folder: of TensorBoard's files; the run's own by default.
        max_points: nodes at most; levels are whole.

    Returns:
        How many nodes were written; nodes without items are left out.

    Raises:
        ValueError: the run has no nodes to show.
    """
    if not source.searched:
        raise ValueError("A run without a tree has no nodes to project.")
    folder = pathlib.Path(folder)
    rows = _described(source, max_points)
    nodes = tf.constant([row[0] for row in rows], tf.int32)
    vectors = source.model.embedding(nodes).numpy()
    _write_rows(
        folder / _VECTORS, [[f"{x:.5g}" for x in row] for row in vectors]
    )
    _write_rows(folder / _METADATA, [_COLUMNS, *rows])
    config = projector_config_pb2.ProjectorConfig()
    config.embeddings.add(
        tensor_name="nodes", tensor_path=_VECTORS, metadata_path=_METADATA
    )
    with files.replacing(folder / _CONFIG) as temporary:
        temporary.write_text(text_format.MessageToString(config), "utf-8")
    return len(rows)


def _described(source, max_points):
    """Returns the nodes below the root that have items, `_COLUMNS` of each."""
    tree, labels = source.model.tree, cells.Labels()
    levels = cells.describe(
        tree,
        cells.Categories.of(*source_lib.paths(source.data)),
        source.popularity,
        labels,
        cells.depth(tree, max_points),
    )
    return [
        (
            tree_lib.first_code(level, tree.branching) + int(place),
            level,
            cell["items"][place],
            cell["popularity"][place],
            labels.texts[cell["label"][place]] or "unknown",
            cell["share"][place],
        )
        for level, cell in enumerate(levels[1:], 1)
        for place in np.flatnonzero(cell["items"])
    ]


def _write_rows(path, rows):
    """Writes rows as tab-separated text; a tab in a name becomes a space."""
    lines = [
        "\t".join(" ".join(str(value).split()) for value in row) for row in rows
    ]
    with files.replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
