"""A run that begins where another one ended: the items of today, its theta.

Items are the same where their raw ids are. Those that are gone leave the tree;
new ones are seated as `tree.placement` does it, on leaves that are free, and
where there are too few the tree gets one more level. Vectors of nodes and
their optimiser slots stay with their codes, and so with the items that stay.
Where vectors began from a factorisation they move on as that does: what today
tells of an item is in its vector before a step is taken, and what training made
of it beside that is kept.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np
import pyarrow as pa

from jtm_tf import categories
from jtm_tf import files
from jtm_tf.data import interactions
from jtm_tf.data import raw_ids
from jtm_tf.data import splits
from jtm_tf.learning import model_step
from jtm_tf.learning import moments as moments_lib
from jtm_tf.learning import replay
from jtm_tf.learning import settings
from jtm_tf.models import growing
from jtm_tf.models import tree_model
from jtm_tf.runs import folder as run_folder
from jtm_tf.runs import trained
from jtm_tf.tree import placement
from jtm_tf.tree import tree as tree_lib
from jtm_tf.types import PAD

# What must be as it was: the method, and all that shapes theta.
_ALIKE = (
    "method",
    "branching",
    "embedding_dim",
    "windows",
    "whole_window",
    "hidden",
    "scorer",
    "direct",
    "profile",
)


@dataclasses.dataclass(frozen=True, eq=False)
class Earlier:
    """What a run takes over from another one.

    Attributes:
        tree: pi_0, of the items of the new data.
        record: what metrics.json says of it.
        model: what was learned, on a tree of the new one's shape that numbers
            its items otherwise; None where the run goes on from a checkpoint
            of its own.
        item_before: [N + 1] int, the number of each item in `model`, PAD of
            those that are new.
        code_before: for each profile column, what code a value had, [codes].
        moments: where those of that model's variables are; None where they
            begin empty.
        run: where all that is from.
        factors: [N + 1, E], the first vectors of items as the data of then
            tell them, turned to the model's, zeros of new items; None where
            the model did not begin from any.
        known_until: see `replay.known_until`; None where a checkpoint is of
            before it was noted.
    """

    tree: tree_lib.Tree
    record: dict[str, Any]
    model: tree_model.TreeModel | None = None
    item_before: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros(0, np.int64)
    )
    code_before: tuple[np.ndarray, ...] = ()
    moments: moments_lib.Saved | None = None
    run: trained.TrainedRun | None = None
    factors: np.ndarray | None = None
    known_until: np.ndarray | None = None

    @property
    def scale(self) -> float | None:
        """What first vectors are multiplied with; None if that is open."""
        return self.record.get("scale")

    @property
    def visits(self) -> bool:
        """Whether the scorer sees visits."""
        return self.record["visits"]

    @property
    def steps(self) -> int:
        """Optimiser steps behind the moments; 0 where they begin empty."""
        return self.record["steps"]

    @property
    def new(self) -> np.ndarray:
        """The items that the earlier run did not have, [A], ascending."""
        return np.flatnonzero(self.item_before == PAD)[1:]

    def item_vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns which items stay, [K], and their vectors, [K, E].

        Raises:
            ValueError: the run goes on from a checkpoint of its own.
        """
        if self.model is None:
            raise ValueError(
                "The vectors that the run began from, factors.npy in its "
                "folder, are gone, and cannot be made anew in its middle. "
                "Delete its checkpoints to start it anew."
            )
        stay = np.flatnonzero(self.item_before)
        leaves = self.model.tree.pi[self.item_before[stay]]
        return stay, self.model.embedding.rows.gather(leaves).numpy()


def take(
    config: settings.JointConfig,
    data: interactions.Interactions,
    examples: splits.Examples,
    paths: np.ndarray | None,
    folder: run_folder.RunFolder,
    *,
    visits: bool,
) -> Earlier | None:
    """Returns what a run takes over, None if it begins from nothing.

    Args:
        config: the run's settings; `continue_from` says of which.
        data: the prepared interactions.
        examples: its training samples.
        paths: [N] the items' category paths; None where there are none.
        folder: the run's own.
        visits: whether the data have visits that a scorer should see. One
            that sees them already goes on to.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: it is of another shape, of ids of another type, or has no
            item in common.
    """
    if config.continue_from is None:
        return None
    if moments_lib.latest(folder) is not None:
        tree = tree_lib.Tree.load(folder.tree(0))
        until = None
        if folder.known_until.exists():
            until = np.load(folder.known_until)
        record = files.read_json(folder.carried)
        return Earlier(tree, record, known_until=until)
    run = _finished(config.continue_from)
    _refuse_other_shape(config, run)
    before = numbers_before(run, data)
    codes = tuple(codes_before(run.data, data, name) for name in config.profile)
    model = _with_room(run.model, data.num_items)
    tree, placed = _seated(config, model, before, examples, codes, paths)
    moments = moments_lib.find(run)
    kept = int(np.count_nonzero(before))
    record = {
        "run": str(pathlib.Path(config.continue_from).resolve()),
        "data": run.config["data"],
        "items_kept": kept,
        "items_new": data.num_items - kept,
        "items_gone": model.num_items - kept,
        "placed": {rule: placed.count(rule) for rule in placement.RULES},
        "levels": [run.model.max_level, tree.max_level],
        "slots": moments is not None,
        "steps": moments.steps if moments else 0,
        "visits": visits or model.visits is not None,
    }
    return Earlier(
        tree,
        record,
        model,
        before,
        codes,
        moments,
        run,
        known_until=replay.known_until(run.data, data),
    )


def _seated(config, model, before, examples, codes, paths):
    """Returns the tree of the new items, and how each new one was seated.

    Args:
        model: what was learned, on a tree with room for all.
        before: [N + 1] int, the number of each item in it, PAD if new.
        examples: the training samples.
        codes: see `Earlier.code_before`.
        paths: [N] the items' category paths, or None.
    """
    stay, new = np.flatnonzero(before), np.flatnonzero(before == PAD)[1:]
    # Until all are seated items are in the order of before, then the new ones.
    items = np.concatenate([[PAD], stay[np.argsort(before[stay])], new])
    known = np.sort(np.append(before[stay], PAD))
    gone = np.setdiff1d(np.arange(1, model.num_items + 1), known)
    kept, _ = placement.remove(model.tree, gone)
    kin = weigh = None
    if paths is not None:
        ordered = paths[items[1:] - 1].tolist()
        kin = categories.nearest_kin(ordered[: len(stay)], ordered[len(stay) :])
    samples = _renumbered(examples, items, codes, len(stay))
    if len(samples):
        weigh = growing.edge_weights_of(model, known, samples, len(new))
    seated = placement.add(
        kept,
        len(new),
        kin=kin,
        weigh=weigh,
        kin_strength=config.tree_learning.kin_strength,
        gap=config.tree_learning.gap,
    )
    pi = np.empty_like(seated.pi)
    pi[items] = seated.pi
    placed = placement.rules(len(new), kin=kin, weigh=weigh)
    return dataclasses.replace(seated, pi=pi), placed


def fill(trainer: model_step.Trainer, earlier: Earlier) -> None:
    """Gives a new model and its optimiser what an earlier one has learned."""
    old, model = earlier.model, trainer.model
    assert old is not None
    leaves = earlier.tree.pi[earlier.new]
    model.embedding.assign(
        growing.started(old.embedding.numpy(), old.tree, earlier.tree, leaves)
    )
    growing.see_visits(model, old)
    for mine, theirs, rows in _network(model, earlier):
        mine.assign(theirs.numpy()[rows])
    trainer.start_items(earlier.new)
    if earlier.factors is not None:
        trainer.follow(earlier.factors, np.flatnonzero(earlier.item_before))
    if earlier.moments is not None:
        with earlier.moments.of(old.trainable_variables) as moments:
            _fill_moments(trainer, earlier, moments)
        trainer.optimizer.iterations.assign(earlier.steps)


def _network(model, earlier):
    """Yields variables beside the table: new, old, which rows of the old."""
    for mine, theirs in growing.alike(model, earlier.model):
        yield mine, theirs, ...
    yield from zip(
        model.profile.tables,
        earlier.model.profile.tables,
        earlier.code_before,
    )


def _fill_moments(trainer, earlier, moments):
    """Gives a new optimiser the moments of an earlier one."""
    old, model, optimizer = earlier.model, trainer.model, trainer.optimizer
    for mine, theirs, rows in _network(model, earlier):
        for slot, saved in zip(optimizer.slots(mine), moments(theirs)):
            slot.assign(saved[rows])
    # Nodes of which the earlier model knows nothing have none yet.
    fresh = earlier.tree.occupied_codes() & ~old.tree.occupied_codes()
    fresh[earlier.tree.pi[earlier.new]] = True
    before, levels = _shallow(old.tree, earlier.record["levels"][0])
    slots = optimizer.slot_rows(model.embedding.tables)
    for slot, saved in zip(slots, moments(old.embedding.tables[0])):
        rows = growing.lengthened(saved, before, levels)
        rows[fresh] = 0
        slot.assign(rows)


def _finished(path):
    """Returns a finished run, with the data that it was trained on."""
    try:
        run = trained.load(path)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(
            f"{path} cannot be continued: {str(error).rstrip('.')}. (That is "
            "about the earlier run and its own data, which must lie where they "
            "were: prepare each day's log into a folder of its own.)"
        ) from error
    if "test" not in run.metrics:
        raise ValueError(
            f"{path} is not finished, so it cannot be continued by another "
            "run; start its own command again first."
        )
    return run


def _refuse_other_shape(config, run):
    """Raises where theta is of another shape, or there is no tree."""
    if config.traits.flat:
        raise ValueError(
            f"continue_from carries a tree, and method {config.method} has "
            "none: train it anew."
        )

    def shape(of):
        found = {name: getattr(of, name) for name in _ALIKE}
        return found | {"scorer": of.traits.scorer or of.scorer}

    was, now = shape(run.settings), shape(config)
    differences = [
        f"{name} {was[name]!r} there, {now[name]!r} asked"
        for name in _ALIKE
        if was[name] != now[name]
    ]
    if config.visits == "no" and run.model.visits is not None:
        differences.append("visits 'yes' there, 'no' asked")
    if differences:
        raise ValueError(
            f"continue_from={config.continue_from} is of another shape: "
            f"{'; '.join(differences)}. Ask for what is there, or train anew."
        )


def numbers_before(
    run: trained.TrainedRun, data: interactions.Interactions
) -> np.ndarray:
    """Returns the number of each item in an earlier run, [N + 1], PAD if new.

    Raises:
        ValueError: ids are of another type, or no item is common.
    """
    assert run.folder is not None
    was, now = (x.items["raw_id"] for x in (run.data, data))
    if pa.types.is_integer(was.type) != pa.types.is_integer(now.type):
        raise ValueError(
            f"Items of {run.folder.path} have ids of {was.type}, those of the "
            f"data {now.type}: none would be found again. Prepare both from "
            "ids of one type."
        )
    before = np.append(PAD, raw_ids.numbers_in(was, now)).astype(np.int64)
    if not before.any():
        raise ValueError(
            f"The data have no item of {run.folder.path}, such as "
            f"{was[0].as_py()!r}; there is nothing to continue."
        )
    return before


def codes_before(
    was: interactions.Interactions, now: interactions.Interactions, name: str
) -> np.ndarray:
    """Returns the code that each value of a profile column had, 0 if none.

    Args:
        was: the data of then.
        now: those whose codes are asked.
        name: of the column.
    """
    known = {x: code for code, x in enumerate(was.profile_values(name), 1)}
    values = now.profile_values(name)
    return np.array([0, *(known.get(x, 0) for x in values)])


def _with_room(model, num_items):
    """Returns the model on a tree with a leaf for so many items."""
    levels = 0
    while model.branching ** (model.max_level + levels) < num_items:
        levels += 1
    return growing.deepened(model, levels) if levels else model


def _renumbered(examples, items, codes, known):
    """Returns the samples of new items, in other numbers.

    Args:
        items: [N + 1] int, the item that each number stands for.
        codes: of profile values, see `Earlier`.
        known: K, numbers from K + 1 are new.
    """
    number = np.empty(len(items), examples.items.dtype)
    number[items] = np.arange(len(items))
    profile = examples.profile
    if codes:
        columns = [code[profile[:, i]] for i, code in enumerate(codes)]
        profile = np.stack(columns, axis=1).astype(profile.dtype)
    numbered = dataclasses.replace(
        examples, items=number[examples.items], profile=profile
    )
    return numbered.take(np.flatnonzero(numbered.target_items() > known))


def _shallow(tree, max_level):
    """Returns a tree as it was before it got deeper, and by how much."""
    levels = tree.max_level - max_level
    pi = tree_lib.ancestor(
        tree.pi,
        from_level=tree.max_level,
        to_level=max_level,
        branching=tree.branching,
    )
    return tree_lib.Tree(pi, max_level, tree.branching), levels
