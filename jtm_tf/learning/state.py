"""A run's moving parts: what a checkpoint holds, and the steps that move it."""

import contextlib
import dataclasses
import functools
import pathlib
import re
import shutil
import time
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tqdm
from absl import logging

from jtm_tf import files
from jtm_tf.data import splits
from jtm_tf.learning import continuing
from jtm_tf.learning import inputs as inputs_lib
from jtm_tf.learning import mirrored_step
from jtm_tf.learning import model_step
from jtm_tf.learning import remote_step
from jtm_tf.learning import settings
from jtm_tf.learning import tree_step
from jtm_tf.models import hsm
from jtm_tf.models import tree_model
from jtm_tf.runs import folder as run_folder
from jtm_tf.tree import statistics as tree_statistics
from jtm_tf.tree import tree as tree_lib

# Samples, at most, on which a tree step must not raise Eq. 2.
_PROMISED = 10_000
# What a checkpoint is in, beside the file that names the last one.
_CHECKPOINT = re.compile(r"ckpt-\d+\..+")
# And where TensorFlow writes one, which stays behind if that fails.
_HALF = re.compile(r"ckpt-\d+_temp")
# What it calls the rounds that are done.
_ITERATION = "iteration/.ATTRIBUTES/VARIABLE_VALUE"
# Relative difference of two measures of Eq. 2 that tells of nothing.
_ALIKE = 1e-6
# What a tree step begins from, by `JointConfig.clusters_first`; the best wins.
_STARTS = {
    "auto": ("pi", "clusters"),
    "yes": ("clusters",),
    "no": ("pi",),
}


class State:
    """Model, tree and position of a run, whole again after a kill.

    Args:
        config: the run's settings.
        inputs: what it needs of its data.
        folder: where trees and checkpoints go.
        options: see `settings.RunOptions`.

    Attributes:
        model: theta and pi as they are now.
        inputs: as given; once begun, with their vectors in a file.
    """

    def __init__(
        self,
        config: settings.JointConfig,
        inputs: inputs_lib.Inputs,
        folder: run_folder.RunFolder,
        options: settings.RunOptions,
    ):
        if config.rounds_anew and (options.cluster or options.hosts):
            raise ValueError(
                "rounds_anew are of one machine; on a cluster, train a second "
                "run: --method=jtm_h, and --initial_tree= the last of the "
                "first run's trees/."
            )
        self._config, self.inputs = config, inputs
        self._folder, self._options = folder, options
        self._tree_measures: dict[str, list[float]] = {}
        self._iteration = tf.Variable(0, dtype=tf.int64)
        self._seconds = tf.Variable(0.0, dtype=tf.float64)
        self._checkpoint = tf.train.Checkpoint(
            iteration=self._iteration, seconds=self._seconds
        )
        self._make(inputs.first_tree)
        self._manager = tf.train.CheckpointManager(
            self._checkpoint,
            directory=str(folder.checkpoints),
            # The manager would find what to remove by a pattern, and take a
            # folder named run[1] for run1.
            max_to_keep=None,
        )

    def _make(self, tree):
        """Makes the model, on a tree, and who trains it."""
        with self._placed():
            self.model = self._new_model(tree)
            self._trainer = self._new_trainer()
        self._checkpoint.trainer = self._trainer

    def begin(self) -> None:
        """Goes on from the last checkpoint, or notes the first tree.

        Raises:
            ValueError: the checkpoint is damaged.
        """
        self.inputs = self.inputs.kept(self._folder)
        self._trainer.vectors = self.inputs.first_vectors
        if not self._manager.latest_checkpoint:
            self.inputs.first_tree.save(self._folder.tree(0))
            self._start()
        else:
            self._restore(self._manager.latest_checkpoint)
            logging.info(
                "Going on from %s, epoch %d, batch %d.",
                self._manager.latest_checkpoint,
                int(self._trainer.epoch.numpy()) + 1,
                int(self._trainer.batch.numpy()),
            )
        if self.inputs.earlier is not None:  # what it held is in the model now
            self.inputs = dataclasses.replace(self.inputs, earlier=None)
        self._tree_measures = self._measured(self.model.tree)

    def _start(self):
        """Gives a new model what it begins with."""
        earlier = self.inputs.earlier
        if earlier is None:
            self._start_vectors()
            return
        continuing.fill(self._trainer, earlier)
        files.write_json(self._folder.carried, earlier.record)
        if earlier.known_until is not None:
            with files.replacing(self._folder.known_until) as temporary:
                np.save(temporary, earlier.known_until)
        logging.info("Carried from another run: %s", earlier.record)

    @property
    def iterations_done(self) -> int:
        """Rounds of Algorithm 1 behind the run."""
        return int(self._iteration.numpy())

    def model_step(self) -> dict[str, Any]:
        """Trains the round's epochs; returns their part of the record."""
        trainer, config, hosts = (
            self._trainer,
            self._config,
            self._options.hosts,
        )
        trainer.examples = self._half(other=False)
        rounds = self.iterations_done + 1
        if self._is_anew:  # whose trainer counts from its own beginning
            rounds -= config.joint_iterations
        last_epoch = rounds * config.epochs_per_iteration
        if hosts is not None and hosts.leads:
            left = last_epoch - int(trainer.epoch.numpy())
            steps = left * trainer.batches_per_epoch
            # Without a step nobody waits until the others have read it.
            if steps > int(trainer.batch.numpy()):
                hosts.note.order(self._saved().name)
        with self._clock() as clock:
            while int(trainer.epoch.numpy()) < last_epoch:
                epoch = int(trainer.epoch.numpy()) + 1
                with self._bar(
                    desc=f"epoch {epoch}",
                    total=trainer.batches_per_epoch,
                    initial=int(trainer.batch.numpy()),
                    unit="batch",
                ) as bar:
                    trainer.train_epoch(lambda _: (bar.update(), clock()))
        # Whoever is killed while judging or in the tree step trained enough.
        self._save()
        losses = trainer.mean_loss
        return {
            "loss": round(float(losses.sum()), 6),
            "level_losses": [round(float(x), 6) for x in losses],
            "seconds_model": round(float(self._seconds.numpy()), 2),
            "tree": self._tree_measures,
        }

    def follow(self, checkpoint: str) -> None:
        """Takes part in the model step of a run that another machine leads.

        Args:
            checkpoint: the name of what that one begins from.

        Raises:
            ValueError: the checkpoint is damaged.
            OSError: it is not to be seen here.
        """
        path = self._folder.checkpoints / checkpoint
        files.wait_for(path.with_name(f"{checkpoint}.index"))
        if self.inputs.first_vectors is not None:
            files.wait_for(self._folder.factors)  # not to be made again
        self.inputs = dataclasses.replace(
            self.inputs.kept(self._folder), earlier=None
        )
        self._trainer.vectors = self.inputs.first_vectors
        before = self.model.tree
        self._restore(path)
        came = self.model.tree
        # What was made for the nodes in use before is told of the change.
        self.model.pi.assign(before.pi)
        self._trainer.set_tree(came, carry=False)
        self.model_step()

    def tree_step(self) -> dict[str, Any]:
        """Re-solves pi if it will still be used; returns its record.

        A step that raises Eq. 2, once histories are told in the new pi too,
        is not taken but solved again with a larger margin, see
        `JointConfig.tree_tries`.
        """
        if not self._learns_tree:
            return {"seconds_tree": 0.0, "moved_items": 0}
        started, old = time.monotonic(), self.model.tree
        pool = self._options.pool
        with contextlib.nullcontext() if pool is None else pool.kept():
            tried = self._keep_promise() if self._tries else {}
            if not tried:
                start = self._starts[0]
                margin = self._config.tree_learning.margin
                self._take_tree(self._next_tree(start, margin), start)
        tree = self.model.tree
        tree.save(self._folder.tree(self.iterations_done + 1))
        seconds = time.monotonic() - started
        self._tree_measures = self._measured(tree)
        return {
            "seconds_tree": round(seconds, 2),
            "moved_items": old.moved_items(tree),
            **tried,
        }

    def _keep_promise(self):
        """Goes over to a tree with which Eq. 2 is lower, or stays.

        Returns what the record says of it: Eq. 2 before and after, the margin
        of the tree and what it began from; None if it is the old one.
        """
        before = self._promised()
        starts = self._starts
        for margin in _margins(self._config.tree_learning.margin, self._tries):
            found = {start: self._tried(start, margin) for start in starts}
            start = min(found, key=lambda x: found[x][1])
            tree, after = found[start]
            starts = starts[:1]  # one is enough to find a margin
            # The folds' vectors, put in and taken out again, leave their traces
            # in the last bits.
            if after <= before * (1 + _ALIKE):
                self._take_tree(tree, start)
                break
            logging.info(
                "With margin %g Eq. 2 rose from %.4f to %.4f; the tree is not "
                "taken.",
                margin,
                before,
                after,
            )
        else:
            start, margin, after = None, None, before
        return {
            "tree_step": {
                "before": round(before, 5),
                "after": round(after, 5),
                "margin": margin,
                "start": start,
            }
        }

    def _tried(self, start, margin):
        """Returns a tree, and Eq. 2 with it."""
        tree = self._next_tree(start, margin)
        with self._trainer.visit(
            tree,
            carry=self._config.carry_embeddings,
            inner=self._renewal(start),
        ):
            return tree, self._promised()

    @property
    def _starts(self):
        """What a tree step begins from."""
        config = self._config
        # Clusters need vectors that move with their items.
        if config.traits.learner != "joint" or not config.carry_embeddings:
            return ("pi",)
        return _STARTS[config.clusters_first]

    @property
    def _tries(self):
        """How often a tree step may be solved; 0 if it is taken anyway."""
        config = self._config
        # Clustering has no margin, and a model that is drawn anew nothing to
        # measure with.
        if (
            config.traits.learner != "joint"
            or not len(self.inputs.unseen)
            or config.cold_start
        ):
            return 0
        return config.tree_tries

    def _promised(self):
        """Returns Eq. 2 of the samples by which a tree step is judged.

        Of users whom the model has not seen: on others it is lowest for the
        histories that it has learned by heart, and those are the old tree's.
        """
        loss = self._trainer.measure(self.inputs.unseen, max_samples=_PROMISED)
        if self._config.tree_learning.weights == "likelihood":
            return loss
        # What no user tells is no part of the promise.
        tree = self.model.tree
        counts = np.bincount(
            self.inputs.examples.target_items(), minlength=tree.num_items + 1
        )
        return loss - float(tree_statistics.entropy(tree, counts).sum())

    def _next_tree(self, start, margin):
        """Returns the tree that is learned from a start with a margin."""
        config, learning = self._config, self._config.tree_learning
        learning = dataclasses.replace(
            learning,
            margin=margin,
            # The seats that clusters gave are nobody's to keep.
            lazy=learning.lazy and start == "pi",
        )
        config = dataclasses.replace(config, tree_learning=learning)
        with (
            self._bar(desc="tree", unit="pair", unit_scale=True) as bar,
            self._at(start),
        ):

            def progress(done, total):
                bar.total = total
                bar.update(done - bar.n)

            examples = self._half(other=True)
            return tree_step.next_tree(
                config,
                self.model,
                examples,
                self.inputs.kin,
                self._trainer.folds(examples),
                progress,
                pool=self._options.pool,
                folder=self._folder.samples,
            )

    def _at(self, start) -> contextlib.AbstractContextManager:
        """Returns the block in which pi is what a tree step begins from."""
        if start == "pi":
            return contextlib.nullcontext()
        clusters = tree_step.clusters(
            self._config,
            self.model,
            pool=self._options.pool,
            folder=self._folder.samples,
        )
        return self._trainer.visit(clusters, inner="yes")

    def losses(self) -> dict[str, float]:
        """Returns Eq. 2 as it is now; see `RunOptions.measure_loss`."""
        if not self._options.measure_loss:
            return {}
        return {
            "train": round(self._trainer.measure(self.inputs.examples), 5),
            "validation": round(self._trainer.measure(self.inputs.unseen), 5),
        }

    def finish_iteration(self) -> None:
        """Ends a round; whoever is killed after this goes on behind it."""
        config = self._config
        self._trainer.reset_loss()
        self._seconds.assign(0.0)
        self._iteration.assign_add(1)
        if (
            config.rounds_anew
            and self.iterations_done == config.joint_iterations
        ):
            logging.info("The model begins anew from the tree as it is now.")
            tree = self.model.tree
            # First: two models at a time may be more than there is room for.
            del self.model, self._trainer, self._checkpoint.trainer
            self._make(tree)
            self._start_vectors()
        self._save()

    @property
    def _is_anew(self) -> bool:
        """Whether the model is the one that began from the learned tree."""
        config = self._config
        return (
            config.rounds_anew > 0
            and self.iterations_done >= config.joint_iterations
        )

    @property
    def _learns_tree(self) -> bool:
        """Whether a tree step ends this round: its tree will be used."""
        config = self._config
        last = config.joint_iterations - (not config.rounds_anew)
        return config.traits.learner != "none" and self.iterations_done < min(
            config.tree_steps, last
        )

    def _half(self, *, other: bool) -> splits.Examples:
        """Returns the samples to train on, or the `other` ones to weigh."""
        inputs = self.inputs
        examples = inputs.examples if other else inputs.step_examples
        if not (self._config.cross_fit and self._learns_tree):
            return examples
        # Drawn from the seed again and again, so that nothing is to be kept.
        rng = np.random.default_rng(self._config.seed)
        half = rng.random(len(examples.items)) < 0.5
        chosen = half[examples.starts]  # all samples of a user alike
        if (self.iterations_done + other) % 2:
            chosen = ~chosen
        return examples.take(np.flatnonzero(chosen))

    def _measured(self, tree):
        """Returns what a tree tells of the training users, [] if flat."""
        if self.model.flat:
            return {name: [] for name in tree_statistics.MEASURES}
        some = self.inputs.examples.of_some_users(seed=self._config.seed)
        return tree_statistics.measures(tree, some.starts, some.target_items())

    def _take_tree(self, tree, start):
        """Goes over to a pi that was learned from a start, with or without the
        theta of the old.
        """
        config = self._config
        if config.cold_start:
            self._trainer.restart(self._new_model(tree))
            self._start_vectors()
            return
        self._trainer.set_tree(
            tree, carry=config.carry_embeddings, inner=self._renewal(start)
        )

    def _renewal(self, start):
        """What becomes of inner nodes with a tree learned from a start."""
        if self._config.renew_inner != "auto":
            return self._config.renew_inner
        # After clustering a code no longer means what it did: an inner node
        # is worth what its new items are.
        if start == "clusters" or self._config.traits.learner == "cluster":
            return "yes"
        # Algorithm 2 moves few of them.
        return "shift" if self._config.tree_tries else "no"

    def _start_vectors(self):
        """Starts a new model's nodes from what is known of the items."""
        if self.inputs.first_vectors is not None:
            self._trainer.start_from_vectors()

    def _placed(self) -> contextlib.AbstractContextManager:
        """Returns the block in which variables are made where they belong."""
        where = self._options.cluster or self._options.mirrored
        if where is None:
            return contextlib.nullcontext()
        return getattr(where, "strategy", where).scope()

    def _new_trainer(self):
        """Returns who trains the model."""
        config, options = self._config, self._options
        # A model that begins anew has nothing of another run's.
        earlier = None if self._is_anew else self.inputs.earlier
        rounds = (
            config.rounds_anew if self._is_anew else config.joint_iterations
        )
        make: Any = model_step.Trainer
        if options.cluster is not None:
            make = functools.partial(
                remote_step.RemoteTrainer, cluster=options.cluster
            )
        elif options.mirrored is not None:
            make = functools.partial(
                mirrored_step.MirroredTrainer, strategy=options.mirrored
            )
        return make(
            self.model,
            self.inputs.step_examples,
            config.training,
            seed=config.seed,
            epochs=rounds * config.epochs_per_iteration,
            steps_before=earlier.steps if earlier else 0,
            vectors=self.inputs.first_vectors,
            scale=earlier.scale if earlier else None,
        )

    def _new_model(self, tree: tree_lib.Tree) -> tree_model.TreeModel:
        """Returns an untrained model; the same at every call."""
        config, traits = self._config, self._config.traits
        keras.utils.set_random_seed(config.seed)
        network = hsm.HSM if traits.siblings else tree_model.TreeModel
        model = network(
            tree.num_items,
            tree.max_level,
            tree.branching,
            embedding_dim=config.embedding_dim,
            windows=config.windows,
            whole_history=config.whole_window,
            hidden=config.hidden,
            hierarchical=traits.hierarchical,
            loss=config.method_loss,
            train_beam=config.training.train_beam,
            pseudo_targets=config.training.pseudo_targets,
            scorer=traits.scorer or config.scorer,
            direct=config.direct,
            visits=self.inputs.visits,
            profile_sizes=self.inputs.profile_sizes,
            path_weight=config.path_weight,
            table_shards=self._options.table_shards,
        )
        model.set_tree(tree)
        return model

    def _saved(self):
        """Returns the last checkpoint, which is written if there is none."""
        if not self._manager.latest_checkpoint:
            self._save()
        return pathlib.Path(self._manager.latest_checkpoint)

    def _save(self):
        """Writes a checkpoint, then removes those before it."""
        if self._options.hosts is not None and not self._options.hosts.leads:
            return  # the chief does
        with files.full_disk_told(self._folder.checkpoints):
            latest = pathlib.Path(self._manager.save())
        for path in latest.parent.iterdir():
            if path.name.startswith(f"{latest.name}."):
                continue
            if _CHECKPOINT.fullmatch(path.name):
                path.unlink(missing_ok=True)
            elif _HALF.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)

    def _restore(self, path):
        """Goes back to a checkpoint."""
        path = pathlib.Path(path)
        try:
            with files.without_patterns(path.parent) as folder:
                there = str(folder / path.name)
                done = tf.train.load_variable(there, _ITERATION)
                self._iteration.assign(done)
                if self._is_anew:
                    self._make(self.inputs.first_tree)
                self._checkpoint.restore(there).assert_consumed()
        except (
            tf.errors.OpError,
            AssertionError,
            IndexError,
            ValueError,
        ) as error:
            raise ValueError(
                f"The checkpoint {path} is damaged, of another version or of "
                f"another --table_shards: {str(error).splitlines()[0]}. Delete "
                f"{self._folder.checkpoints} to start the run anew."
            ) from error

    def _bar(self, **kwargs) -> tqdm.tqdm:
        """Returns a progress bar, unless none are wanted."""
        return tqdm.tqdm(
            **kwargs, leave=False, disable=not self._options.progress
        )

    @contextlib.contextmanager
    def _clock(self) -> Iterator[Any]:
        """Yields a function that keeps time and, now and then, the state."""
        last_tick = last_save = time.monotonic()

        def tick():
            nonlocal last_tick, last_save
            now = time.monotonic()
            # In a variable, so that time before a kill counts too.
            self._seconds.assign_add(now - last_tick)
            last_tick = now
            if now - last_save > self._options.checkpoint_seconds:
                self._save()
                last_save = time.monotonic()

        yield tick
        tick()


def _margins(margin, tries):
    """Returns the margins of the tries of a tree step, in nats a sample."""
    return [margin, *(margin + 0.1 * 4.0**i for i in range(tries - 1))]
