"""Models as they are served, for tests of `export`."""

import keras
import numpy as np
import tensorflow as tf

from export import saved_model
from export import versions
from export import warmup
from jtm_tf import files
from jtm_tf import tree as tree_lib
from jtm_tf.models import hsm
from jtm_tf.models import tree_model

ITEMS, HISTORY = 50, 4

# Every kind of model that an export must serve: arguments of `untrained`.
KINDS = {
    "tdm": {"hierarchical": False, "branching": 3},
    "jtm": {"path_weight": 0.5, "visits": True},
    "attention": {"scorer": "attention"},
    "hsm": {"model_type": hsm.HSM, "branching": 3},
    "flat": {"branching": ITEMS, "scorer": "product"},
}


def untrained(
    *, model_type=tree_model.TreeModel, branching=2, seed=0, **settings
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
    for variable in model.trainable_variables:  # set scores well apart
        own = seed + len(variable.path)
        noise = keras.random.normal(variable.shape, seed=own)
        variable.assign(variable + noise)
    model.set_tree(tree)
    return model


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
        config=saved_model.ServingConfig(beam_width=8, num_results=5),
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
