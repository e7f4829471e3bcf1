"""Algorithm 1: joint learning of the model and the tree, resumable.

Repeats: minimise L over theta for a fixed tree (`model_step`), then maximise
-L over pi for a fixed model (`tree_step`). Every iteration is judged on the
validation users, and the best is kept. A run killed at any moment and started
again with the same configuration ends as if undisturbed: to the bit on one
machine with as many threads, where TensorFlow's ops are deterministic as
`experiments.train` has them.
"""

import dataclasses
import pathlib
import shutil
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from jtm_tf import files
from jtm_tf.data import interactions
from jtm_tf.learning import inputs as inputs_lib
from jtm_tf.learning import settings
from jtm_tf.learning import state as state_lib
from jtm_tf.models import saving
from jtm_tf.runs import folder as run_folder
from jtm_tf.runs import forking
from jtm_tf.search import diagnosis
from jtm_tf.search import judging
from jtm_tf.search import model_search
from jtm_tf.search import read_out
from jtm_tf.search import retrieval


def run(
    config: settings.JointConfig,
    data: interactions.Interactions,
    out_dir: files.Path,
    options: settings.RunOptions = settings.RunOptions(),
) -> dict[str, Any]:
    """Trains, learns the tree, keeps the best iteration and tests it.

    Args:
        config: the run's settings.
        data: the prepared interactions.
        out_dir: the run folder: new, or of the same run, finished or not.
        options: see `settings.RunOptions`.

    Returns:
        The contents of `metrics.json`.

    Raises:
        ValueError: `out_dir` holds a run of other settings or other data, or
            is damaged; or the data cannot give what the settings ask for.
        FloatingPointError: the loss diverged.
    """
    forking.check()
    folder = run_folder.RunFolder(pathlib.Path(out_dir))
    _check_cuts(config)
    header = folder.check(
        dataclasses.asdict(config),
        data_fingerprint=data.manifest["fingerprint"],
        before=settings.BEFORE,
    )
    metrics = folder.read_metrics()
    if "test" in metrics:
        for record in metrics["iterations"]:
            options.on_record(record)
        logging.info("%s is finished; nothing to do.", folder.path)
        return metrics
    inputs = inputs_lib.take(config, data, folder)
    if options.hosts is not None:
        # The others find its vectors, and no model is made without them.
        folder.claim(header, data_dir=options.data_dir)
        inputs = inputs.kept(folder)
        options.hosts.note.lead(_asked_of_all(header, options))
    state = state_lib.State(config, inputs, folder, options)
    # Not before all is known to be well: a refused run leaves no trace.
    folder.claim(header, data_dir=options.data_dir)
    state.begin()
    if inputs.earlier is not None:
        header["carried"] = inputs.earlier.record
    inputs = state.inputs  # whose vectors need no memory any more
    # A kill may have come between a record and the checkpoint behind it.
    records = metrics.get("iterations", [])[: state.iterations_done]
    for record in records:
        options.on_record(record)
    while state.iterations_done < config.rounds:  # Algorithm 1
        record = _round(config, state, inputs, folder, records, options)
        records.append(record)
        metrics = {
            **header,
            "iterations": records,
            "best_iteration": _best_of(records),
        }
        folder.write_metrics(metrics)
        _write_curves(folder, record)
        logging.info("%s", format_record(record))
        options.on_record(record)
        state.finish_iteration()
    saving.restore(state.model, folder.model)
    metrics |= _read_out(config, state.model, inputs.validation)
    if state.model.readout is not None:
        saving.save(state.model, folder.model)
    tested, table = _tested(config, state.model, inputs.test)
    folder.write_test_users(table)
    metrics |= tested  # last, since what has a test is finished
    folder.write_metrics(metrics)
    for path in (folder.factors, folder.known_until, folder.chief):
        path.unlink(missing_ok=True)
    for work in (folder.cluster, folder.samples):
        shutil.rmtree(work, ignore_errors=True)
    return metrics


def follow(
    config: settings.JointConfig,
    data: interactions.Interactions,
    out_dir: files.Path,
    options: settings.RunOptions,
) -> None:
    """Takes part in the model steps of a run that another machine leads.

    Args:
        config: as the chief's.
        data: likewise.
        out_dir: the run folder, which the chief writes.
        options: with `hosts`.

    Raises:
        ValueError: the chief's run is another.
        OSError: the chief is gone.
    """
    forking.check()
    folder = run_folder.RunFolder(pathlib.Path(out_dir))

    def finished():
        return "test" in folder.read_metrics()

    header = run_folder.header(
        dataclasses.asdict(config), data.manifest["fingerprint"]
    )
    options.hosts.note.check(_asked_of_all(header, options), finished)
    inputs = inputs_lib.take(config, data, folder)
    state = state_lib.State(config, inputs, folder, options)
    del inputs  # what it holds is the state's to give up
    for checkpoint in options.hosts.note.orders(finished):
        state.follow(checkpoint)


def _asked_of_all(header, options):
    """Returns what all machines that hold the model must agree on."""
    return header | {"table_shards": options.table_shards}


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


def _check_cuts(config):
    """Raises where a beam is too narrow for the results it is to give."""
    if config.traits.flat:
        return
    for results, beam in config.all_cuts:
        retrieval.check_beam(beam, results, branching=config.branching)


def _round(config, state, inputs, folder, earlier, options):
    """Goes through one iteration after the earlier ones; returns its record."""
    record = {"iteration": state.iterations_done + 1}
    record |= state.model_step()  # line 3: min L(theta, pi) over theta
    # Judged before pi moves: theta has not yet learned with the new one.
    record |= _judged(config, state.model, inputs.validation)
    if _best_of([*earlier, record]) == record["iteration"]:
        saving.save(state.model, folder.model)
    half_steps = {"model_step": state.losses()}
    record |= state.tree_step()  # line 4: max -L(theta, pi) over pi
    half_steps["tree_step"] = state.losses()
    return record | ({"half_steps": half_steps} if options.measure_loss else {})


def _best_of(records):
    """Returns the iteration of the best recall, the first of equals."""
    return 1 + int(np.argmax([r["validation"]["recall"] for r in records]))


def _judged(config, model, users):
    """Returns the part of a record that validation users decide.

    `level_recall` is the recall under the beam by level, from 1; [] if flat.
    """
    asked = {
        "num_results": config.num_results,
        "beam_width": config.beam_width,
    }
    if model.flat:
        validation = judging.judge_model(model, users, **asked)
        return {"validation": validation, "level_recall": []}
    items, shares = diagnosis.followed(model, users, **asked)
    levels = range(1, model.max_level + 1)
    return {
        "validation": judging.judgement(items, users, **asked),
        "level_recall": [round(shares.get(x, 1.0), 6) for x in levels],
    }


def _read_out(config, model, users):
    """Gives the trained model a read-out if it is to search by one.

    Returns the part of the metrics that tells of it: `search`, see
    `read_out.choose`, with `explained`, the R^2 of the read-out by level.
    """
    if config.search == "exact" or not model.may_read_out:
        return {}
    explained = read_out.fit(model, users.history)
    chosen: dict[str, Any] = {"width": model.readout.width}
    if config.search == "auto":
        chosen = read_out.choose(
            model,
            users,
            num_results=config.num_results,
            beam_width=config.beam_width,
        )
    chosen["explained"] = [round(share, 4) for share in explained]
    return {"search": chosen}


def _tested(config, model, users):
    """Judges on test users; returns a part of the metrics, and the table."""

    def rank(num_results, beam_width):
        return model_search.rank_users(
            model, users, num_results=num_results, beam_width=beam_width
        )

    return judging.tested(rank, users, config.all_cuts, scans=model.flat)


def _write_curves(folder, record):
    """Adds an iteration to TensorBoard's curves."""
    step = record["iteration"]
    with tf.summary.create_file_writer(str(folder.tensorboard)).as_default():
        tf.summary.scalar("loss", record["loss"], step)
        for level, loss in enumerate(record["level_losses"], 1):
            tf.summary.scalar(f"loss_by_level/{level:02d}", loss, step)
        for level, share in enumerate(record["level_recall"], 1):
            tf.summary.scalar(f"recall_by_level/{level:02d}", share, step)
        for name, values in record["tree"].items():
            for level, value in enumerate(values, 1):
                tf.summary.scalar(
                    f"tree_{name}_by_level/{level:02d}", value, step
                )
        for name in ("precision", "recall", "f_measure"):
            value = record["validation"][name]
            tf.summary.scalar(f"validation/{name}", value, step)
        tf.summary.scalar("moved_items", record["moved_items"], step)
