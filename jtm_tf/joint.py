"""Algorithm 1: joint learning of the model and the tree, resumable.

Repeats: minimise L over theta for a fixed tree (`training`), then maximise
-L over pi for a fixed model (`tree_learning`). Every iteration is judged on
the validation users, and the best is kept. A run killed at any moment and
started again with the same configuration ends as if undisturbed.
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

from jtm_tf import files
from jtm_tf import judge
from jtm_tf import run_folder
from jtm_tf import training as training_lib
from jtm_tf import tree_init
from jtm_tf import tree_learning as tree_learning_lib
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.models import layers
from jtm_tf.models import tree_model

INITIAL_TREES = ("category", "random")

METHODS = {  # Rows of Table 1, below the dashed line.
    "tdm": {"hierarchical": False, "learn_tree": False},
    "jtm_h": {"hierarchical": True, "learn_tree": False},
    "jtm": {"hierarchical": True, "learn_tree": True},
}


@dataclasses.dataclass(frozen=True)
class JointConfig:
    """Everything that decides the outcome of a run, beside the data.

    Attributes:
        method: row of Table 1, a key of `METHODS`.
        seed: of initial tree, initial weights and samples.
        joint_iterations: rounds of Algorithm 1. A method that leaves the
            tree alone trains as many epochs and is judged as often.
        epochs_per_iteration: epochs of a model step.
        tree_steps: tree steps at most; later rounds only train. A tree is
            best learned early, by a model that has not memorised its samples.
        branching: b.
        initial_tree: how pi_0 seats the items, one of `INITIAL_TREES`.
        embedding_dim: E.
        windows: lengths of the history's time windows; T is their sum.
        hidden: widths of the scorer's hidden layers.
        loss: one of `tree_model.LOSSES`.
        carry_embeddings: whether a leaf's vector moves with its item.
        num_results: M of the metrics.
        beam_width: k of the metrics.
        training: how theta is trained.
        tree_learning: how pi is learned.
    """

    method: str = "jtm"
    seed: int = 0
    joint_iterations: int = 8
    epochs_per_iteration: int = 1
    tree_steps: int = 3
    branching: int = 2
    initial_tree: str = "category"
    embedding_dim: int = 24
    windows: tuple[int, ...] = layers.WINDOWS
    hidden: tuple[int, ...] = (128, 64, 32)
    loss: str = "softmax"
    carry_embeddings: bool = True
    num_results: int = 200
    beam_width: int = 400
    training: training_lib.TrainingConfig = training_lib.TrainingConfig()
    tree_learning: tree_learning_lib.TreeLearningConfig = (
        tree_learning_lib.TreeLearningConfig(
            kin_strength=5.0, score_leaves=False
        )
    )

    def __post_init__(self):
        for name, allowed in (
            ("method", METHODS),
            ("initial_tree", INITIAL_TREES),
            ("loss", tree_model.LOSSES),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(
                    f"{name} must be one of {sorted(allowed)}; got {value!r}."
                )
        if min(self.joint_iterations, self.epochs_per_iteration) < 1:
            raise ValueError(
                "joint_iterations and epochs_per_iteration must be >= 1; got "
                f"{self.joint_iterations} and {self.epochs_per_iteration}."
            )
        if self.tree_steps < 0:
            raise ValueError(f"tree_steps must be >= 0; got {self.tree_steps}.")

    @property
    def hierarchical(self) -> bool:
        """Whether users are described in nodes of the scored level."""
        return METHODS[self.method]["hierarchical"]

    @property
    def learn_tree(self) -> bool:
        """Whether pi is learned."""
        return METHODS[self.method]["learn_tree"]


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What a run does beside its outcome: no result depends on it.

    Attributes:
        data_dir: where the data came from, noted for `experiments.evaluate`.
        checkpoint_seconds: time between checkpoints inside an epoch.
        progress: whether to draw progress bars.
        on_record: called with the record of each iteration as it ends, and
            first with those that a continued run has already.
    """

    data_dir: str | None = None
    checkpoint_seconds: float = 120.0
    progress: bool = False
    on_record: Callable[[dict[str, Any]], None] = lambda record: None


def run(
    config: JointConfig,
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
    folder.claim(
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
    state = _State(config, data, folder, options)
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
        record["validation"] = judge.judge_model(
            state.model, validation, **cut
        )
        best = np.argmax([r["validation"]["recall"] for r in records])
        if records[best] is record:
            with files.replacing(folder.model) as temporary:
                state.model.save(temporary)
        record |= state.tree_step()  # line 4
        metrics = {
            "method": config.method,
            "seed": config.seed,
            "config": files.as_json(dataclasses.asdict(config)),
            "data_fingerprint": data.manifest["fingerprint"],
            "code": run_folder.code_version(),
            "iterations": records,
            "best_iteration": int(best) + 1,
        }
        folder.write_metrics(metrics)
        _write_curves(folder, record)
        logging.info("%s", format_record(record))
        options.on_record(record)
        state.finish_iteration()
    metrics["test"] = judge.judge_model(
        judge.load_model(folder.model), state.held_out("test"), **cut
    )
    folder.write_metrics(metrics)
    return metrics


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
        self._examples = splits.training_examples(data)
        keras.utils.set_random_seed(config.seed)
        tree = _initial_tree(config, data)
        self.model = tree_model.TreeModel(
            tree.num_items,
            tree.max_level,
            tree.branching,
            embedding_dim=config.embedding_dim,
            windows=config.windows,
            hidden=config.hidden,
            hierarchical=config.hierarchical,
            loss=config.loss,
        )
        self.model.set_tree(tree)
        self._trainer = training_lib.Trainer(
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

    @property
    def iterations_done(self) -> int:
        return int(self._iteration.numpy())

    def _restore(self):
        """Goes back to the last checkpoint."""
        path = self._manager.latest_checkpoint
        try:
            self._manager.checkpoint.restore(path).assert_consumed()
        except (
            tf.errors.OpError, AssertionError, IndexError, ValueError
        ) as error:
            raise ValueError(
                f"The checkpoint {path} is damaged or of another version: "
                f"{str(error).splitlines()[0]}. Delete "
                f"{self._folder.checkpoints} to start the run anew."
            ) from error

    def held_out(self, split):
        return splits.held_out_users(
            self._data, split, self.model.max_history
        )

    def model_step(self):
        """Trains the iteration's epochs; returns their part of the record."""
        trainer, config = self._trainer, self._config
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
        steps = min(
            self._config.tree_steps, self._config.joint_iterations - 1
        )
        if self.iterations_done >= steps or not self._config.learn_tree:
            return {"seconds_tree": 0.0, "moved_items": 0}
        started = time.monotonic()
        old = self.model.tree
        with tqdm.tqdm(
            desc="tree", unit="pair", unit_scale=True, leave=False,
            disable=not self._options.progress,
        ) as bar:

            def progress(done, total):
                bar.total = total
                bar.update(done - bar.n)

            result = tree_learning_lib.learn(
                old,
                self._examples.target_items(),
                lambda chosen: self._examples.histories(
                    chosen, self.model.max_history
                ),
                tree_model.log_prob_fn(self.model),
                self._config.tree_learning,
                kin=kin_groups(self._data.categories(), old.num_items),
                progress=progress,
            )
        result.tree.save(self._folder.tree(self.iterations_done + 1))
        self._trainer.set_tree(
            result.tree, carry=self._config.carry_embeddings
        )
        return {
            "seconds_tree": round(time.monotonic() - started, 2),
            "moved_items": old.moved_items(result.tree),
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


def _initial_tree(config, data):
    if config.initial_tree == "random":
        return tree_init.random(
            data.num_items, branching=config.branching, seed=config.seed
        )
    categories = data.categories()
    if categories is None:
        raise ValueError(
            "The data has no categories, which the initial tree needs: name "
            "their column at experiments.prepare, or use initial_tree=random."
        )
    return tree_init.by_category(
        categories, branching=config.branching, seed=config.seed
    )


def kin_groups(categories, num_items: int) -> np.ndarray:
    """Returns each item's kin for the tree learner: its finest category.

    Args:
        categories: [N] paths, None where unknown; or None for no categories.
        num_items: N.

    Returns:
        [N + 1] int group ids, -1 for items of unknown category and PAD.
    """
    groups = np.full(num_items + 1, -1)
    if categories is not None:
        known = np.array([c is not None for c in categories])
        names = np.array([c for c in categories if c is not None], str)
        groups[1:][known] = np.unique(names, return_inverse=True)[1]
    return groups


def _write_curves(folder, record):
    """Adds an iteration to TensorBoard's curves."""
    step = record["iteration"]
    with tf.summary.create_file_writer(str(folder.tensorboard)).as_default():
        tf.summary.scalar("loss", record["loss"], step)
        for level, loss in enumerate(record["level_losses"], 1):
            tf.summary.scalar(f"loss_by_level/{level:02d}", loss, step)
        for name in ("precision", "recall", "f_measure"):
            value = record["validation"][name]
            tf.summary.scalar(f"validation/{name}", value, step)
        tf.summary.scalar("moved_items", record["moved_items"], step)
