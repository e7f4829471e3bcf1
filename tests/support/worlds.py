"""Small prepared folders for tests of whole programs."""

import csv
import pathlib

from jtm_tf.data import planted_world
from jtm_tf.data.preparing import preparation


def draw(
    *, users: int = 60, items: int = 50, rows: int = 20, seed: int = 0
) -> planted_world.World:
    """Draws a planted world whose items are all seen, so ids stay."""
    return planted_world.planted_world(users, items, rows, seed)


def write_csv(path: pathlib.Path, world: planted_world.World) -> pathlib.Path:
    """Writes a world as the raw file of --dataset=csv."""
    with open(path, "w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["user", "item", "category", "timestamp"])
        for user, item, time in zip(world.user, world.item, world.timestamp):
            rows.writerow([user, item, world.categories[item - 1], time])
    return path


def prepare(folder: pathlib.Path, **shape) -> pathlib.Path:
    """Draws a world as `draw` does and prepares it; returns the data folder."""
    folder.mkdir(parents=True, exist_ok=True)
    raw = write_csv(folder / "raw.csv", draw(**shape))
    manifest, _ = preparation.run(
        preparation.Config(
            dataset="csv", input=str(raw), data_dir=str(folder / "data")
        )
    )
    items = shape.get("items", 50)
    assert manifest["counts"]["items"] == items, "an item was never drawn"
    return folder / "data"
