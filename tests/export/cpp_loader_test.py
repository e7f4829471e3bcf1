"""Tests of `export.cpp`: C++ without Python gets what Python gets."""

import dataclasses
import os
import subprocess

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from export.artefact import saved_model
from export.cpp import build
from jtm_tf.data import interactions
from tests.support import close
from tests.support import served_models
from tests.support import worlds

pytestmark = [
    pytest.mark.skipif(
        build.compiler() is None, reason="no C++ compiler on Linux"
    ),
    pytest.mark.slow,  # to compile it
]

CONFIG = saved_model.SearchConfig(beam_width=8, num_results=6)
USERS = 12
TASTES = ("sweet", "", "?")


@pytest.fixture(name="program", scope="module")
def _program():
    """What an earlier run compiled from the same, else compiled now."""
    return build.build(build.default_folder())


@pytest.fixture(name="data", scope="module")
def _data(tmp_path_factory):
    return interactions.load(worlds.prepare(tmp_path_factory.mktemp("world")))


def serve_numbers(data):
    """Returns a model whose ids are numbers, 0 and negative ones too."""
    ids = pa.array([i - 7 for i in range(served_models.ITEMS)])
    items = data.items.set_column(1, "raw_id", ids)
    return saved_model.ServedModel(
        served_models.untrained(path_weight=0.5),
        dataclasses.replace(data, items=items),
        config=CONFIG,
    )


def serve_names(data):
    """Returns a model whose ids are strings, with a profile."""
    return saved_model.ServedModel(
        served_models.untrained(path_weight=0.5, profile_sizes=(3,)),
        served_models.named(data),
        profile=("taste",),
        config=CONFIG,
    )


@pytest.fixture(name="exported", scope="module")
def _exported(data, tmp_path_factory):
    """Pairs of a model and the folder it was saved to."""
    made = {}
    for name, serve in (("numbers", serve_numbers), ("names", serve_names)):
        made[name] = serve(data), tmp_path_factory.mktemp(name)
        made[name][0].save(made[name][1])
    return made


def draw(served):
    """Returns users: each what it sends, input to values."""
    rng = np.random.default_rng(3)
    raw_ids = (
        served.items.raw_ids(tf.range(1, served_models.ITEMS + 1))
        .numpy()
        .tolist()
    )

    def some(values, most):
        return rng.choice(values, rng.integers(0, most + 1)).tolist()

    users = [
        {
            "history": some(raw_ids, 9),
            "exclude": some(raw_ids, served_models.ITEMS // 2),
            "allow_categories": some(served.categories.names, 2),
            **{name: [TASTES[i % 3]] for name in served.profile.inputs},
        }
        for i in range(USERS)
    ]
    return [*users, {name: [""] for name in served.profile.inputs}]


def run(program, folder, signature, *fields, users=()):
    """Runs the program; returns exit status, rows of fields, and message."""
    done = subprocess.run(
        [str(program), str(folder), signature, *fields],
        input="".join(f"{line}\n" for line in users),
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return done.returncode, rows, done.stderr


def text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def fields(user, inputs):
    """Returns what a user sends to a signature, as NAME=VALUE."""
    return [
        f"{name}={text(value)}"
        for name, values in user.items()
        if name in inputs
        for value in values
    ]


def by_user(rows):
    """Returns the ids and the scores of each user, of rows in their order."""
    ids, scores = [], []
    for number, item, score in rows:
        assert int(number) in (len(ids) - 1, len(ids))
        if int(number) == len(ids):
            ids.append([])
            scores.append([])
        ids[-1].append(item)
        scores[-1].append(float(score))
    return ids, scores


@pytest.mark.parametrize("ids", ["numbers", "names"])
def test_the_same_ids_as_in_python(program, exported, ids):
    served, folder = exported[ids]
    loaded = tf.saved_model.load(str(folder)).signatures
    users = draw(served)
    for name in ("recommend", "recommend_filtered"):
        inputs = loaded[name].structured_input_signature[1]
        want = []
        for user in users:
            answer = loaded[name](
                **{
                    key: tf.constant(
                        user.get(key, []),
                        spec.dtype,
                        [1, len(user.get(key, []))][-spec.shape.rank :],
                    )
                    for key, spec in inputs.items()
                }
            )
            items, scores = (
                answer[key][0].numpy().tolist()
                for key in ("item_ids", "scores")
            )
            want.append(([text(item) for item in items], scores))
        lines = ["\t".join(fields(user, inputs)) for user in users]
        status, got, message = run(program, folder, name, users=lines)
        assert status == 0, message
        close.rankings(*by_user(got), *zip(*want))


def test_one_user_and_errors(program, exported):
    served, folder = exported["numbers"]
    user = [f"history={i}" for i in (3, 0, -2)]
    status, got, _ = run(program, folder, "recommend", *user)
    want = served_models.call(served, "recommend", history=[[3, 0, -2]])
    assert status == 0
    ids = [[text(item) for item in want["item_ids"][0]]]
    close.rankings(*by_user(got), ids, want["scores"])
    for wrong, complaint in (
        (["history=x"], "Error: expected an integer id; got x"),
        (["history=1"] * 1025, "expected history of at most 1024 columns"),
    ):
        status, got, message = run(program, folder, "recommend", *wrong)
        assert (status, got) == (1, [])
        assert complaint in message
