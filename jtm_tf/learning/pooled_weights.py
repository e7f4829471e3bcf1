"""L_c^{s,e} of Algorithm 2 by a pool: a file of samples is a piece of work.

The samples of an item do not depend on pi, so that they are written once, a
file for each part of the users and stretch of items. Whoever is given a file
loads the model of that part of the users and weighs what is in it.
"""

import contextlib
import dataclasses
import functools
import pathlib
import shutil
import time
import zlib
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jtm_tf import files
from jtm_tf.data import splits
from jtm_tf.models import log_prob
from jtm_tf.models import saving
from jtm_tf.models import tree_model
from jtm_tf.pools import serial
from jtm_tf.tree import edge_weights
from jtm_tf.tree import learning as tree_learning
from jtm_tf.tree import tree as tree_lib

# Samples in a file, at most, but for those of a single item.
_FILE_SAMPLES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Part:
    """A file of samples.

    Attributes:
        path: of the file.
        fold: the part of the users.
        first, last: its items, first <= c < last, counted from 0.
    """

    path: pathlib.Path
    fold: int
    first: int
    last: int


@dataclasses.dataclass(frozen=True, eq=False)
class Piece:
    """What is asked of a file of samples.

    Attributes:
        path: of the file.
        model: the folder of the model.
        first, last: see `Part`.
        items, nodes, level, gap: see `EdgeWeights.__call__`.
    """

    path: str
    model: str
    first: int
    last: int
    items: np.ndarray
    nodes: np.ndarray
    level: int
    gap: int


def write(
    folder: pathlib.Path,
    examples: splits.Examples,
    num_items: int,
    config: tree_learning.TreeLearningConfig,
    *,
    max_history: int,
    fold_of: np.ndarray | None = None,
    known: np.ndarray | None = None,
    file_samples: int | None = None,
) -> list[Part]:
    """Writes the samples that a tree step weighs; what is there stays.

    Args:
        folder: of the files.
        examples: the samples.
        num_items: N.
        config: how many of them are weighed, and how many histories stand
            for a user's.
        max_history: T.
        fold_of: [S] int, the part of the users of each sample.
        known: [N + 1] int, what histories call an item; its number if None.
        file_samples: samples of a file, about; a million by default.

    Returns:
        The files, part by part.
    """
    targets = examples.target_items()
    described, history_of = examples, np.arange(len(examples))
    if config.histories_per_user is not None:
        described, history_of = examples.shared_histories(
            config.histories_per_user
        )
    kept = edge_weights.kept(
        targets, config.max_samples_per_item, seed=config.seed
    )
    counts = np.bincount(targets[kept], minlength=num_items + 1)[1:]
    whole = np.cumsum(counts)
    most = _FILE_SAMPLES if file_samples is None else file_samples
    # From the first item that has any: those before cost nothing.
    cuts = np.searchsorted(whole, np.arange(1, whole[-1] + 1, most))
    bounds = np.unique([*cuts, num_items])
    parts = []
    folds = 1 if fold_of is None else 1 + int(fold_of.max())
    for fold in range(folds):
        own = kept if fold_of is None else kept[fold_of[kept] == fold]
        item = targets[own] - 1
        for first, last in zip(bounds[:-1], bounds[1:]):
            path = folder / f"samples-{fold}-{first}.parquet"
            parts.append(Part(path, fold, int(first), int(last)))
            if path.exists():
                continue
            here = own[(first <= item) & (item < last)]
            numbers, at = np.unique(history_of[here], return_inverse=True)
            write_samples(
                path,
                targets[here],
                described.histories(numbers, max_history, known=known),
                at,
            )
    return parts


def write_samples(
    path: pathlib.Path,
    targets: np.ndarray,
    histories: np.ndarray,
    history_of: np.ndarray,
) -> None:
    """Writes samples, each with its history.

    Args:
        path: of the file.
        targets: [S] items.
        histories: [H, user_width] int32.
        history_of: [S] int, rows of `histories`.
    """
    rows = histories[history_of]
    width = rows.shape[1]
    flat = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), width)
    table = pa.table(
        {
            "item": pa.array(targets.astype(np.int32)),
            "number": pa.array(history_of.astype(np.int32)),
            "history": flat,
        }
    )
    with files.replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def _read(path):
    """Returns the targets of samples, histories and which is whose."""
    table = pq.read_table(path)
    numbers = table["number"].to_numpy()
    lists = table["history"].combine_chunks()
    rows = lists.flatten().to_numpy().reshape(-1, lists.type.list_size)
    _, first, of = np.unique(numbers, return_index=True, return_inverse=True)
    return table["item"].to_numpy(), rows[first], of


@contextlib.contextmanager
def pooled(
    pool: Any,
    folder: pathlib.Path,
    model: tree_model.TreeModel,
    examples: splits.Examples,
    config: tree_learning.TreeLearningConfig,
    folds: edge_weights.Folds | None = None,
    *,
    known: np.ndarray | None = None,
    file_samples: int | None = None,
) -> Iterator["PooledWeights"]:
    """Yields the edge weights of a model, by the workers of a pool.

    Args:
        pool: of `jtm_tf.pools`.
        folder: that all workers see under this name.
        model: theta, and the old pi.
        examples: the samples.
        config: of the tree step.
        folds: see `EdgeWeights`.
        known: [N + 1] int, the model's number of each item that may be a
            target, 0 of one that is new; of the same items if None.
        file_samples: see `write`.
    """
    targets = examples.target_items()
    num_items = model.num_items if known is None else len(known) - 1
    same = f"{len(targets)}-{zlib.crc32(examples.targets.tobytes()):08x}"
    parts = write(
        folder / same,
        examples,
        num_items,
        config,
        max_history=model.max_history,
        fold_of=None if folds is None else folds.of,
        known=known,
        file_samples=file_samples,
    )
    models = []
    for fold in range(1 if folds is None else folds.count):
        if folds is not None:
            folds.prepare(fold)
        models.append(folder / f"model-{fold}")
        saving.unpack(model, models[-1])
    kept = edge_weights.kept(
        targets, config.max_samples_per_item, seed=config.seed
    )
    counts, all_counts = (
        np.bincount(some, minlength=num_items + 1)[1:]
        for some in (targets[kept], targets)
    )
    with pool.workers(functools.partial(Weigher, config)) as do:
        yield PooledWeights(
            model.tree, parts, models, do, counts, all_counts, config
        )
    for path in models:
        shutil.rmtree(path, ignore_errors=True)


class PooledWeights(edge_weights.Weights):
    """Edge weights that others sum, file by file.

    Args:
        tree: the old tree; only its shape is used.
        parts: of `write`.
        models: folders of the model, for each part of the users.
        do: maps pieces of work to what `Weigher` makes of them.
        counts, all_counts: see `Weights`.
        config: of the tree step.
    """

    def __init__(
        self,
        tree: tree_lib.Tree,
        parts: Sequence[Part],
        models: Sequence[pathlib.Path],
        do: serial.Map,
        counts: np.ndarray,
        all_counts: np.ndarray,
        config: tree_learning.TreeLearningConfig,
    ):
        super().__init__(
            tree,
            counts,
            all_counts,
            score_leaves=config.score_leaves,
            informative=config.weights == "information",
        )
        self._parts, self._do = list(parts), do
        self._models = [str(model) for model in models]

    def _sums(self, items, nodes, level, gap, progress):
        """Returns sums of log p, as `__call__` promises its weights."""
        began = time.perf_counter()
        order = np.argsort(items, kind="stable")
        bounds = [(part.first, part.last) for part in self._parts]
        ends = np.searchsorted(items[order], bounds)
        asked = [
            (part, order[first:last])
            for part, (first, last) in zip(self._parts, ends)
            if first < last
        ]
        weights = np.zeros((len(items), self._branching**gap), np.float32)
        pieces = (
            Piece(
                str(part.path),
                self._models[part.fold],
                part.first,
                part.last,
                items[rows],
                nodes[rows],
                level,
                gap,
            )
            for part, rows in asked
        )
        for (_, rows), (sums, pairs) in zip(asked, self._do(pieces)):
            weights[rows] += sums
            self.pairs += pairs
            progress()
        self.seconds += time.perf_counter() - began
        return weights


class Weigher:
    """Does a piece of work: what an actor is.

    Args:
        config: of the tree step.
    """

    def __init__(self, config: tree_learning.TreeLearningConfig):
        self._config = config
        # Of the last model that was asked for.
        self._last: dict[str, tuple[tree_lib.Tree, log_prob.LogProb]] = {}

    def __call__(self, piece: Piece) -> tuple[np.ndarray, int]:
        """Returns the weights, see `EdgeWeights.__call__`, and the pairs that
        were scored for them.
        """
        if piece.model not in self._last:
            self._last.clear()
            model = saving.load_unpacked(piece.model)
            self._last[piece.model] = model.tree, log_prob.LogProb(model)
        tree, weighed = self._last[piece.model]
        targets, histories, history_of = _read(piece.path)
        # Items are counted from the file's first: others cost nothing.
        seats = tree.first_leaf + np.arange(piece.last - piece.first)
        weigh = edge_weights.EdgeWeights(
            dataclasses.replace(tree, pi=np.append(tree_lib.PAD, seats)),
            targets - piece.first,
            lambda numbers: histories[numbers],
            weighed,
            describe=weighed.describe,
            history_of=history_of,
            batch_samples=self._config.batch_samples,
            batch_nodes=self._config.batch_nodes,
            score_leaves=self._config.score_leaves,
        )
        items = piece.items - piece.first
        weights = weigh(items, piece.nodes, piece.level, piece.gap)
        return weights, weigh.pairs
