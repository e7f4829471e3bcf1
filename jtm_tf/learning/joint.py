"""Algorithm 1: joint learning of the model and the tree, resumable.

Repeats: minimise L over theta for a fixed tree (`model_step`), then maximise
-L over pi for a fixed model (`tree.learning`). Every iteration is judged on
the validation users, and the best is kept. A run killed at any moment and
started again with the same configuration ends as if undisturbed: to the bit on
one machine with as many threads, where TensorFlow's ops are deterministic as
`experiments.train` has them.
"""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tqdm
from absl import logging

from jtm_tf import categories
from jtm_tf import files
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.learning import model_step as model_step_lib
from jtm_tf.learning import settings
from jtm_tf.learning import tree_step
from jtm_tf.models import hsm
from jtm_tf.models import saving
from jtm_tf.models import tree_model
from jtm_tf.runs import folder as run_folder
from jtm_tf.search import diagnosis
from jtm_tf.search import judging
from jtm_tf.search import model_search
from jtm_tf.search import retrieval

# Validation users, at most, whose recall is measured level by level.
_LEVEL_USERS = 512


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What a run does beside its outcome: no result depends on it.

    Attributes:
        data_dir: where the data came from, noted for `experiments.evaluate`.
        checkpoint_seconds: time between checkpoints inside an epoch.
        progress: whether to draw progress bars.
        measure_loss: whether each record says, as `half_steps`, what Eq. 2
            is after the model step and after the tree step, on the same
            training samples and the same samples of validation users.
        on_record: called with the record of each iteration as it ends, and
            first with those that a continued run has already.
    """

    data_dir: str | None = None
    checkpoint_seconds: float = 120.0
    progress: bool = False
    measure_loss: bool = False
    on_record: Callable[[dict[str, Any]], None] = lambda record: None


def run(
    config: settings.JointConfig,
    data: interactions.Interactions,
    out_dir: files.Path,
    options: RunOptions = RunOptions(),
) -> dict[str, Any]:
    """Trains, learns the tree, keeps the best iteration and tests it.

    Args:
        config: the run's settings.
        data: the prepared interactions.
        out_dir: the run folder: new, or of the same run, finished or not.
        options: see `RunOptions`.

    Returns:
        The contents of `metrics.json`.

    Raises:
        ValueError: `out_dir` holds a run of other settings or other data,
            or is damaged.
        FloatingPointError: the loss diverged.
    """
    folder = run_folder.RunFolder(pathlib.Path(out_dir))
    _check_cuts(config)
    is_new = not (folder.path / "config.json").exists()
    header = folder.claim(
        dataclasses.asdict(config),
        data_fingerprint=data.manifest["fingerprint"],
        data_dir=options.data_dir,
    )
    metrics = folder.read_metrics()
    if "test" in metrics:
        for record in metrics["iterations"]:
            options.on_record(record)
        logging.info("%s is finished; nothing to do.", folder.path)
        return metrics
    try:
        state = _State(config, data, folder, options)
    except ValueError:
        if is_new:  # refused: the folder is free for better settings
            (folder.path / "config.json").unlink()
        raise
    # A kill may have come between a record and the checkpoint behind it.
    records = metrics.get("iterations", [])[: state.iterations_done]
    for record in records:
        options.on_record(record)
    cut: dict[str, Any] = {
        "num_results": config.num_results,
        "beam_width": config.beam_width,
    }
    validation = state.held_out("validation")
    while state.iterations_done < config.joint_iterations:  # Algorithm 1
        record = {"iteration": state.iterations_done + 1}
        records.append(record)
        record |= state.model_step()  # line 3
        record["validation"] = judging.judge_model(
            state.model, validation, **cut
        )
        record["level_recall"] = _level_recall(config, state.model, validation)
        best = np.argmax([r["validation"]["recall"] for r in records])
        if records[best] is record:
            saving.save(state.model, folder.model)
        half_steps = {"model_step": state.losses()}
        record |= state.tree_step()  # line 4
        half_steps["tree_step"] = state.losses()
        if options.measure_loss:
            record["half_steps"] = half_steps
        metrics = {
            **header,
            "iterations": records,
            "best_iteration": int(best) + 1,
        }
        folder.write_metrics(metrics)
        _write_curves(folder, record)
        logging.info("%s", format_record(record))
        options.on_record(record)
        state.finish_iteration()
    saving.restore(state.model, folder.model)
    metrics |= _test(config, folder, state.model, state.held_out("test"))
    folder.write_metrics(metrics)
    return metrics


def _check_cuts(config):
    """Raises where a beam is too narrow for the results it is to give."""
    if config.traits.flat:
        return
    for results, beam in (
        (config.num_results, config.beam_width),
        *config.cuts,
    ):
        retrieval.check_beam(beam, results, branching=config.branching)


def _test(config, folder, model, users):
    """Judges the best model on test users; returns its part of the metrics."""
    cuts, table = judging.judge_cuts(
        lambda num_results, beam_width: model_search.recommend_users(
            model, users, num_results=num_results, beam_width=beam_width
        ),
        users,
        [(config.num_results, config.beam_width), *config.cuts],
        scans=model.flat,
    )
    folder.write_test_users(table)
    return {"test": cuts[0], "cuts": cuts}


def format_record(record: dict[str, Any]) -> str:
    """Returns an iteration's record as one readable line."""
    validation = record["validation"]
    return (
        f"iteration {record['iteration']}: loss {record['loss']:.4f}, "
        f"validation recall@{validation['num_results']} "
        f"{100 * validation['recall']:.2f} %, precision "
        f"{100 * validation['precision']:.3f} %, model "
        f"{record['seconds_model']:.0f} s, tree {record['seconds_tree']:.0f} s"
        f", {record['moved_items']} items moved"
    )


class _State:
    """A run's moving parts, restored from its last checkpoint if any."""

    def __init__(self, config, data, folder, options):
        self._config, self._data = config, data
        self._folder, self._options = folder, options
        self._examples = splits.examples(data, config.profile)
        self._visits = config.visits == "yes" or (
            config.visits == "auto"
            and splits.repeat_share(self._examples) > settings.REPEATS
        )
        tree = tree_step.initial_tree(config, data)
        self.model = self._new_model(tree)
        self._trainer = model_step_lib.Trainer(
            self.model, self._examples, config.training, seed=config.seed
        )
        self._iteration = tf.Variable(0, dtype=tf.int64)
        self._seconds = tf.Variable(0.0, dtype=tf.float64)
        self._manager = tf.train.CheckpointManager(
            tf.train.Checkpoint(
                trainer=self._trainer,
                iteration=self._iteration,
                seconds=self._seconds,
            ),
            directory=str(folder.checkpoints),
            max_to_keep=1,
        )
        if self._manager.latest_checkpoint:
            self._restore()
            logging.info(
                "Going on from %s, epoch %d, batch %d.",
                self._manager.latest_checkpoint,
                int(self._trainer.epoch.numpy()) + 1,
                int(self._trainer.batch.numpy()),
            )
        else:
            tree.save(folder.tree(0))

    def _new_model(self, tree):
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
            hidden=config.hidden,
            hierarchical=traits.hierarchical,
            loss=config.loss,
            scorer=traits.scorer or config.scorer,
            visits=self._visits,
            profile_sizes=[
                1 + len(self._data.profile_values(name))
                for name in config.profile
            ],
            path_weight=config.path_weight,
        )
        model.set_tree(tree)
        return model

    @property
    def iterations_done(self) -> int:
        return int(self._iteration.numpy())

    @property
    def _learns_tree(self) -> bool:
        """Whether a tree step ends this round: its tree will be used."""
        steps = min(self._config.tree_steps, self._config.joint_iterations - 1)
        return (
            self._config.traits.learner != "none"
            and self.iterations_done < steps
        )

    def _half(self, other):
        """Returns the samples to train on, or the `other` ones to weigh."""
        if not (self._config.cross_fit and self._learns_tree):
            return self._examples
        rng = np.random.default_rng(self._config.seed)
        half = rng.random(len(self._examples.items)) < 0.5
        chosen = half[self._examples.starts]  # all samples of a user alike
        if (self.iterations_done + other) % 2:
            chosen = ~chosen
        return self._examples.take(np.flatnonzero(chosen))

    def _restore(self):
        """Goes back to the last checkpoint."""
        path = self._manager.latest_checkpoint
        try:
            self._manager.checkpoint.restore(path).assert_consumed()
        except (
            tf.errors.OpError,
            AssertionError,
            IndexError,
            ValueError,
        ) as error:
            raise ValueError(
                f"The checkpoint {path} is damaged or of another version: "
                f"{str(error).splitlines()[0]}. Delete "
                f"{self._folder.checkpoints} to start the run anew."
            ) from error

    def losses(self):
        """Returns Eq. 2 as it is now; see `RunOptions.measure_loss`."""
        if not self._options.measure_loss:
            return {}
        unseen = splits.examples(
            self._data, self._config.profile, split="validation"
        )
        return {
            "train": round(self._trainer.measure(self._examples), 5),
            "validation": round(self._trainer.measure(unseen), 5),
        }

    def held_out(self, split):
        return splits.held_out_users(
            self._data, split, self.model.max_history, self._config.profile
        )

    def model_step(self):
        """Trains the iteration's epochs; returns their part of the record."""
        trainer, config = self._trainer, self._config
        trainer.examples = self._half(other=False)
        last_epoch = (self.iterations_done + 1) * config.epochs_per_iteration
        with self._clock() as clock:
            while int(trainer.epoch.numpy()) < last_epoch:
                epoch = int(trainer.epoch.numpy()) + 1
                with tqdm.tqdm(
                    desc=f"epoch {epoch}",
                    total=trainer.batches_per_epoch,
                    initial=int(trainer.batch.numpy()),
                    unit="batch",
                    leave=False,
                    disable=not self._options.progress,
                ) as bar:
                    trainer.train_epoch(lambda _: (bar.update(), clock()))
        self._manager.save()
        losses = trainer.mean_loss
        return {
            "loss": round(float(losses.sum()), 6),
            "level_losses": [round(float(x), 6) for x in losses],
            "seconds_model": round(float(self._seconds.numpy()), 2),
        }

    def tree_step(self):
        """Re-solves pi if it will still be used; returns its record."""
        if not self._learns_tree:
            return {"seconds_tree": 0.0, "moved_items": 0}
        started = time.monotonic()
        config, old = self._config, self.model.tree
        with tqdm.tqdm(
            desc="tree",
            unit="pair",
            unit_scale=True,
            leave=False,
            disable=not self._options.progress,
        ) as bar:

            def progress(done, total):
                bar.total = total
                bar.update(done - bar.n)

            tree = tree_step.next_tree(
                config,
                self.model,
                self._half(other=True),
                categories.kin_groups(
                    tree_step.categories(config, self._data), old.num_items
                ),
                progress,
            )
        tree.save(self._folder.tree(self.iterations_done + 1))
        if config.cold_start:
            self._trainer.restart(self._new_model(tree))
        else:
            self._trainer.set_tree(
                tree,
                carry=config.carry_embeddings,
                renew_inner=config.renew_inner == "yes"
                or config.renew_inner == "auto"
                and config.traits.learner == "cluster",
            )
        return {
            "seconds_tree": round(time.monotonic() - started, 2),
            "moved_items": old.moved_items(tree),
        }

    def finish_iteration(self):
        self._trainer.reset_loss()
        self._seconds.assign(0.0)
        self._iteration.assign_add(1)
        self._manager.save()

    @contextlib.contextmanager
    def _clock(self):
        """Yields a function that keeps time and, now and then, the state."""
        last_tick = last_save = time.monotonic()

        def tick():
            nonlocal last_tick, last_save
            now = time.monotonic()
            self._seconds.assign_add(now - last_tick)
            last_tick = now
            if now - last_save > self._options.checkpoint_seconds:
                self._manager.save()
                last_save = time.monotonic()

        yield tick
        tick()


def _level_recall(config, model, users):
    """Returns the recall under the beam by level, from 1; [] if flat."""
    if model.flat:
        return []
    shares = diagnosis.level_recall(
        model, users.first(_LEVEL_USERS), beam_width=config.beam_width
    )
    levels = range(1, model.max_level + 1)
    return [round(shares.get(level, 1.0), 6) for level in levels]


def _write_curves(folder, record):
    """Adds an iteration to TensorBoard's curves."""
    step = record["iteration"]
    with tf.summary.create_file_writer(str(folder.tensorboard)).as_default():
        tf.summary.scalar("loss", record["loss"], step)
        for level, loss in enumerate(record["level_losses"], 1):
            tf.summary.scalar(f"loss_by_level/{level:02d}", loss, step)
        for level, share in enumerate(record["level_recall"], 1):
            tf.summary.scalar(f"recall_by_level/{level:02d}", share, step)
        for name in ("precision", "recall", "f_measure"):
            value = record["validation"][name]
            tf.summary.scalar(f"validation/{name}", value, step)
        tf.summary.scalar("moved_items", record["moved_items"], step)
