"""Makes a version: the SavedModel, its warm-up, its origin and its card."""

import pathlib
from typing import Any

import tensorflow as tf

from export.artefact import model_card
from export.artefact import origin as origin_lib
from export.artefact import saved_model
from export.artefact import versions
from export.artefact import warmup

# How much of the answer to an empty history is shown on the card.
_SHOWN = 10


def publish(
    origin: origin_lib.Origin, base: pathlib.Path, version: int
) -> pathlib.Path:
    """Writes BASE/`version`, whole or not at all; returns the folder.

    Args:
        origin: what to make it from.
        base: its name is the served model's.
        version: one that does not exist.
    """
    tf.get_logger().setLevel("WARNING")  # else it names every file it writes
    run = origin.run
    served = saved_model.ServedModel(
        run.model,
        run.data,
        profile=run.settings.profile,
        config=origin.config,
    )
    with versions.publishing(base, version) as folder:
        served.save(folder)
        if origin.warming:
            made = warmup.requests(served)
            warmup.write(folder, made, model_name=base.name)
        origin_lib.write(folder, origin)
        card = model_card.describe(
            run,
            served,
            name=base.name,
            version=version,
            nobody=_answer_to_nobody(folder, served),
            updates=origin.updates,
        )
        model_card.write(folder, card)
    return base / str(version)


def _answer_to_nobody(
    folder: pathlib.Path, served: saved_model.ServedModel
) -> dict[str, list[Any]]:
    """Returns what a written SavedModel recommends on an empty history."""
    recommend = tf.saved_model.load(str(folder)).signatures["recommend"]
    profile = {name: tf.constant([""]) for name in served.profile.inputs}
    nothing = tf.zeros([1, 0], served.items.dtype)
    answer = recommend(history=nothing, **profile)
    items, scores = (
        answer[name][0, :_SHOWN].numpy().tolist()
        for name in ("item_ids", "scores")
    )
    if served.items.dtype is tf.string:
        items = [item.decode() for item in items]
    return {"item_ids": items, "scores": scores}
