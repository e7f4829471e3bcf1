"""The model step by workers, on parameters that lie on servers of their own.

A call to a worker is a stretch of steps on one file of users: it reads the
file, draws its batches and takes its steps, whatever the others do meanwhile.
A call says all that it depends on, so that a lost worker's is given to
another. Nothing is done by one machine that takes all samples, and nothing is
held by a worker beyond its file of users and the tree.

Workers do not wait for each other: a gradient may be taken at parameters that
others have moved on from, and two runs differ. One worker that takes one call
after the other does what a single process does.
"""

import dataclasses
import itertools
import math
import pathlib
import shutil
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from jtm_tf.data import splits
from jtm_tf.learning import model_step
from jtm_tf.learning import samples
from jtm_tf.learning import work_files
from jtm_tf.models import tree_model

# Samples in a file of users, at most: a worker reads it at each call.
_SHARD_SAMPLES = 1 << 22
# Targets from which busy nodes are drawn, at most.
_BUSY = 1 << 20
# Calls in a row, for each worker, until all have ended and a checkpoint may
# be taken.
_CALLS = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Cluster:
    """Where steps are taken.

    Attributes:
        strategy: places variables.
        coordinator: gives calls to workers.
        workers: how many there are.
        folder: a folder that all machines see under this name.
        steps_per_call: at most.
    """

    strategy: tf.distribute.Strategy
    coordinator: Any
    workers: int
    folder: pathlib.Path
    steps_per_call: int = 100


@dataclasses.dataclass(frozen=True, eq=False)
class _Work:
    """Files of users.

    folders: of each, and `samples` in it.
    layout: see `work_files`.
    targets: items, at most `_BUSY` of all samples' targets.
    """

    folders: list[str]
    samples: list[int]
    layout: work_files.Layout
    targets: np.ndarray


class _Known:
    """What is written and traced already.

    work: files of users, by what tells their samples apart.
    pi, trees: of the files of users, pi and where the tree of it is written.
    graphs: by files of users and the nodes of the tree's levels.
    names: numbers of folders.
    """

    def __init__(self):
        self.work: dict[int, _Work] = {}
        self.pi: dict[int, np.ndarray] = {}
        self.trees: dict[int, tuple[pathlib.Path, work_files.Layout]] = {}
        self.graphs: dict[Any, Callable] = {}
        self.names = itertools.count()


class RemoteTrainer(model_step.Trainer):
    """A `Trainer` whose steps are taken by workers.

    To be made in the scope of the cluster's strategy, as its model is.

    Args:
        model: the network with its pi.
        examples: the training samples.
        config: how to train.
        cluster: where.
        **settings: see `model_step.Trainer`.
    """

    def __init__(
        self,
        model: tree_model.TreeModel,
        examples: splits.Examples,
        config: Any,
        *,
        cluster: Cluster,
        **settings: Any,
    ):
        self._cluster = cluster
        self._known = _Known()
        # What is left of a killed run may be of another tree, or other users.
        shutil.rmtree(cluster.folder, ignore_errors=True)
        super().__init__(model, examples, config, **settings)
        # What a batch of an epoch is depends on it: files, steps of a call.
        self.layout = tf.Variable([0, 0], dtype=tf.int64)

    def _trace(self):
        super()._trace()
        self._known.graphs.clear()

    def _steps_of(self, examples, max_samples):
        """Returns the steps for that many samples, in whole files."""
        work = self._files(examples)
        return sum(
            self._steps(length) for length in self._lengths(work, max_samples)
        )

    def _take_steps(
        self, examples, on_batch, *, epoch, start_batch, max_samples
    ):
        """Takes the steps of a stretch of an epoch, counted."""
        work = self._files(examples)
        self._keep_layout(len(work.folders), start_batch)
        calls = self._in_turn(self._lengths(work, max_samples), start_batch)
        call, folder = self._call(work)
        coordinator = self._cluster.coordinator
        for wave in _waves(calls, _CALLS * self._cluster.workers):
            before = self.loss_sum.numpy()
            for shard, length, first, last in wave:
                numbers = (epoch, length, first, last)
                coordinator.schedule(
                    call,
                    args=(
                        tf.constant(work.folders[shard]),
                        tf.constant(folder),
                        *(tf.constant(x, tf.int64) for x in numbers),
                    ),
                )
            coordinator.join()
            steps = sum(last - first for *_, first, last in wave)
            losses = (self.loss_sum.numpy() - before) / steps
            self.loss_count.assign_add(steps)
            self.batch.assign_add(steps)
            for _ in range(steps):
                on_batch(losses)

    def _keep_layout(self, count, start_batch):
        """Notes how an epoch is cut; in its middle it may not change.

        Args:
            count: of files.
            start_batch: steps of the epoch so far.

        Raises:
            ValueError: it was cut otherwise before.
        """
        now = [count, self._cluster.steps_per_call]
        was = self.layout.numpy().tolist()
        if start_batch and now != was:
            raise ValueError(
                "The run stopped in the middle of an epoch that was cut into "
                f"{was[0]} files of users (one for each worker at least) and "
                f"--steps_per_call={was[1]}; now there are {now[0]} and "
                f"{now[1]}, which would repeat some samples and miss others. "
                "Go on as it began."
            )
        self.layout.assign(now)

    def _files(self, examples):
        """Returns the files of these samples, written at the first call."""
        targets = examples.target_items()
        key = zlib.crc32(examples.targets.tobytes())
        known = self._known
        if key in known.work:
            return known.work[key]
        count = max(
            self._cluster.workers, math.ceil(len(examples) / _SHARD_SAMPLES)
        )
        folders, sizes, layout = [], [], {}
        for shard in examples.shards(count):
            folder = self._cluster.folder / f"users-{next(known.names)}"
            layout = work_files.write(folder, samples.of_users(shard))
            folders.append(str(folder))
            sizes.append(len(shard))
        if len(targets) > _BUSY:
            some = np.random.default_rng(self._seed)
            targets = some.choice(targets, _BUSY, replace=False)
        known.work[key] = _Work(folders, sizes, layout, targets)
        return known.work[key]

    def _lengths(self, work, max_samples):
        """Returns the histories of an epoch in each file."""
        whole = sum(work.samples)
        most = whole if max_samples is None else min(max_samples, whole)
        return [
            math.ceil(math.ceil(most * size / whole) / self._targets)
            for size in work.samples
        ]

    def _steps(self, length):
        """Returns the steps for that many histories."""
        return math.ceil(length / self._batch_size)

    def _in_turn(self, lengths, skipped):
        """Returns the calls of an epoch but for the first steps.

        Each is (file, its histories, first step, last step), a call of each
        file in turn: files of users are no random part of them.
        """
        most = self._cluster.steps_per_call
        calls = [
            (first, shard, length, min(first + most, self._steps(length)))
            for shard, length in enumerate(lengths)
            for first in range(0, self._steps(length), most)
        ]
        left = []
        for first, shard, length, last in sorted(calls):
            done = min(skipped, last - first)
            skipped -= done
            if first + done < last:
                left.append((shard, length, first + done, last))
        return left

    def _call(self, work):
        """Returns the graph of a call and the folder of what it needs of the
        tree, for the tree as it is now.
        """
        model, tree, known = self.model, self.model.tree, self._known
        strata = None
        if model.loss_name == "beam":
            strata = model.beam_loss.strata(self.config.stratum)
        if not np.array_equal(known.pi.get(id(work), []), tree.pi):
            known.pi[id(work)] = tree.pi
            self._write_tree(work, tree, strata)
        folder, of_tree = known.trees[id(work)]
        nodes = tuple(len(tree.occupied(j)) for j in range(tree.max_level + 1))
        key = id(work), nodes
        if key not in known.graphs:
            known.graphs[key] = self._graph_of(work, tree, strata, of_tree)
        return known.graphs[key], str(folder)

    def _write_tree(self, work, tree, strata):
        """Writes what a call needs of the tree, in place of the old one."""
        known, arrays = self._known, samples.of_tree(tree)
        if strata is not None:
            arrays |= samples.of_far(work.targets, tree, strata)
        if id(work) in known.trees:
            shutil.rmtree(known.trees[id(work)][0], ignore_errors=True)
        folder = self._cluster.folder / f"tree-{next(known.names)}"
        known.trees[id(work)] = folder, work_files.write(folder, arrays)

    def _graph_of(self, work, tree, strata, of_tree):
        """Returns the graph of a call."""
        strategy, model = self._cluster.strategy, self.model

        def call(users, tree_folder, epoch, length, first, last):
            sources = work_files.read(users, work.layout)
            sources |= work_files.read(tree_folder, of_tree)
            batches = self._batches(sources, tree, strata, epoch, length)

            def step(index, total):
                # Not the chief's constant, which each call would send again.
                inputs = batches.batch(index) | {"taken": sources["taken"]}
                losses = strategy.run(model.step, args=(inputs,))
                return index + 1, total + tf.cast(losses, tf.float64)

            start = first, tf.zeros([model.max_level], tf.float64)
            _, total = tf.while_loop(
                lambda index, _: index < last,
                step,
                start,
                parallel_iterations=1,
            )
            # On a server: what a worker returns is lost with it.
            self.loss_sum.assign_add(total)

        text, number = tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64)
        return tf.function(
            call,
            input_signature=[text, text, number, number, number, number],
            autograph=False,
        )

    def _batches(self, sources, tree, strata, epoch, length):
        """Returns the batches of a file of users."""
        model, config = self.model, self.config
        shared = {
            "max_history": model.max_history,
            "length": length,
            "batch_size": self._batch_size,
            "seed": self._seed,
            "epoch": epoch,
        }
        if strata is not None:
            return samples.BeamBatches(
                sources,
                tree,
                targets=self._targets,
                horizon=config.horizon,
                strata=strata,
                **shared,
            )
        counts = samples.negatives_per_level(
            config.negatives, tree, config.spread
        )
        return samples.SampledBatches(
            sources,
            tree,
            counts=None if model.siblings else counts,
            **shared,
        )


def _waves(calls, size):
    """Cuts calls into stretches of a size."""
    return [calls[i : i + size] for i in range(0, len(calls), size)]
