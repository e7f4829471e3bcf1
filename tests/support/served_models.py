"""Models as they are served, for tests of `export`."""

import dataclasses

import keras
import numpy as np
import pyarrow as pa
import tensorflow as tf

from export.artefact import origin
from export.artefact import saved_model
from export.artefact import versions
from export.artefact import warmup
from jtm_tf import files
from jtm_tf.models import hsm
from jtm_tf.models import tree_model
from jtm_tf.runs import trained
from jtm_tf.tree import tree as tree_lib

ITEMS, HISTORY = 50, 4

# Every kind of model that an export must serve: arguments of `untrained`. Of
# one alone the tree is deep: each level is traced anew.
KINDS = {
    "tdm": {"hierarchical": False, "branching": 3},
    "jtm": {"branching": 2, "path_weight": 0.5, "visits": True},
    "direct": {"direct": True, "whole_history": HISTORY, "path_weight": 0.5},
    "pruned": {
        "direct": True,
        "visits": True,
        "path_weight": 0.5,
        "readout": 2.0,
    },
    "attention": {"scorer": "attention"},
    "hsm": {"model_type": hsm.HSM, "branching": 3},
    "flat": {"branching": ITEMS, "scorer": "product"},
}


def untrained(
    *, model_type=tree_model.TreeModel, branching=4, seed=0, **settings
):
    """Returns a model drawn at random, on a tree in random order."""
    order = np.random.default_rng(seed).permutation(ITEMS) + 1
    tree = tree_lib.Tree.from_order(order, branching=branching)
    keras.utils.set_random_seed(seed)
    model = model_type(
        ITEMS,
        tree.max_level,
        branching,
        embedding_dim=4,
        windows=(HISTORY - 1, 1),
        hidden=(8,),
        **settings,
    )
    # Scores are set well apart, and alike in every process: a variable's path
    # would count the models that were made before.
    for index, variable in enumerate(model.trainable_variables):
        noise = keras.random.normal(variable.shape, seed=100 * seed + index)
        variable.assign(variable + noise)
    if model.readout is not None:
        kernel = model.readout.kernel
        kernel.assign(keras.random.normal(kernel.shape, seed=seed))
    model.set_tree(tree)
    return model


def named(data):
    """Returns the data with strings as ids and a profile of users."""
    ids = pa.array([f"item-{i}" for i in range(1, data.num_items + 1)])
    tastes = pa.array(
        [("sweet", "sour", None)[i % 3] for i in range(data.num_users)]
    )
    return dataclasses.replace(
        data,
        items=data.items.set_column(1, "raw_id", ids),
        users=data.users.append_column("taste", tastes),
    )


def origin_of(data, model, config, profile=()):
    """Returns a model as if it had been trained on the data."""
    trained_as = {
        "config": {"method": "jtm", "profile": list(profile)},
        "data": data.manifest["fingerprint"],
        "code": "none",
    }
    run = trained.TrainedRun(model, data, trained_as, {"best_iteration": 1})
    return origin.Origin(run, config, warming=False)


def call(served, signature, **inputs):
    """Calls a signature with nested lists; returns NumPy arrays."""
    function = served.signatures[signature]
    specs = function.structured_input_signature[1]
    answer = function(
        **{
            name: tf.constant(value, specs[name].dtype)
            for name, value in inputs.items()
        }
    )
    return {name: value.numpy() for name, value in answer.items()}


def publish(base, data, version, *, seed=0, warm=True):
    """Exports a small random model of a data set as BASE/`version`."""
    served = saved_model.ServedModel(
        untrained(seed=seed, branching=4, path_weight=0.5),
        data,
        config=saved_model.SearchConfig(beam_width=8, num_results=5),
    )
    with versions.publishing(base, version) as folder:
        served.save(folder)
        files.write_json(
            folder / "model_card.json", {"ids": {"pad": served.items.pad}}
        )
        if warm:
            made = warmup.requests(served)
            warmup.write(folder, made, model_name=base.name)
    return base / str(version)


class Numbered(tf.Module):
    """A quick SavedModel whose answers tell its version.

    serving_default: history [B, any] to sums [B] and version [B]; an item -13
        makes it fail.
    slow: the same, after as many thousand steps as the first item says.
    """

    def __init__(self, version):
        super().__init__()
        self.version = tf.Variable(version, dtype=tf.int64)

    @tf.function
    def answer(self, history):
        tf.debugging.assert_none_equal(history, tf.constant(-13, tf.int64))
        sums = tf.reduce_sum(history, 1)
        return {"sums": sums, "version": tf.zeros_like(sums) + self.version}

    @tf.function
    def slow(self, history):
        steps = 1000 * tf.reduce_max(history[:, 0])
        count = tf.zeros([], tf.int64)
        for _ in tf.range(steps):
            count += 1
        answer = self.answer(history)
        return {**answer, "version": answer["version"] + 0 * count}


def publish_numbered(base, version, *, warmup_inputs=None):
    """Writes `Numbered` as BASE/`version`; returns its folder."""
    model = Numbered(version)
    spec = tf.TensorSpec([None, None], tf.int64, "history")
    with versions.publishing(base, version) as folder:
        tf.saved_model.save(
            model,
            str(folder),
            signatures={
                "serving_default": model.answer.get_concrete_function(spec),
                "slow": model.slow.get_concrete_function(spec),
            },
        )
        files.write_json(folder / "model_card.json", {"ids": {"pad": 0}})
        if warmup_inputs is not None:
            made = [("serving_default", warmup_inputs)]
            warmup.write(folder, made, model_name=base.name)
    return base / str(version)
