"""The lines of Figure 2: validation metrics over iterations, by method."""

import pathlib
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
from absl import logging

from experiments.pictures import plots
from experiments.runs import finished
from experiments.table import compare
from jtm_tf import files
from jtm_tf.search import metrics

LINES = {
    "jtm": "JTM: the tree is learned",
    "tdm_cluster": "clustering",
    "jtm_h": "JTM-H: the initial tree",
}
_REFERENCE = "jtm_h"
_SUFFIXES = (".svg", ".png", ".pdf")


def draw(
    path: files.Path,
    out: files.Path,
    *,
    data: Sequence[str] = (),
    titles: Mapping[str, str] | None = None,
    allow_code_versions: bool = False,
) -> None:
    """Draws the figure.

    Args:
        path: runs.json, or a folder of DATA/METHOD-SEED.
        out: the picture, by its suffix.
        data: data sets to show, in this order; all if not given.
        titles: how to call data sets.
        allow_code_versions: whether the runs may be of different code.

    Raises:
        ValueError: there are no runs of a data set, or unlike ones.
    """
    titles = titles or {}
    out = pathlib.Path(out)
    if out.suffix not in _SUFFIXES:
        raise ValueError(
            f"--out must end in {', '.join(_SUFFIXES)}; got {out.name!r}."
        )
    runs = read(path)
    found = list(dict.fromkeys(run.data for run in runs))
    wanted = list(data) or found
    unknown = sorted((set(wanted) | set(titles)) - set(found))
    if unknown or not found:
        raise ValueError(
            f"{path} has no finished run of {', '.join(LINES)} on "
            f"{', '.join(unknown) or 'any data'}; it has "
            f"{', '.join(found) or 'none'}. Train them with "
            "experiments.table1."
        )
    runs = [run for run in runs if run.data in wanted]
    finished.refuse_unlike(runs, allow_code_versions=allow_code_versions)
    figure = plots.iteration_curves(
        {titles.get(name, name): curves(runs, name) for name in wanted},
        cut=_cut(runs),
    )
    plots.save(figure, out)


def read(path: files.Path) -> list[finished.Run]:
    """Reads the finished runs of the figure's methods.

    Args:
        path: runs.json, or a folder of DATA/METHOD-SEED.

    Raises:
        FileNotFoundError: there is nothing at `path`.
    """
    source = pathlib.Path(path)
    if source.is_file():
        runs = finished.read_summaries(source)
        return [run for run in runs if run.method in LINES]
    if not source.is_dir():
        raise FileNotFoundError(
            f"{source} is neither a runs.json nor a folder of runs; give the "
            "--runs_dir or the --out_dir/runs.json of experiments.table1."
        )
    found = []
    for folder in sorted(source.glob("*/*-*/")):
        method, _, seed = folder.name.rpartition("-")
        if method in LINES and seed.isdecimal():
            run = finished.read(
                folder, data=folder.parent.name, method=method, seed=int(seed)
            )
            if run is None:
                logging.warning("%s is unfinished; left out.", folder)
            else:
                found.append(run)
    return found


def curves(runs: Sequence[finished.Run], data: str) -> dict[str, plots.Curves]:
    """Returns the lines of a data set by label, those there are runs of.

    Args:
        runs: finished runs, alike.
        data: the data set.

    Returns:
        Per label the iterations and, by metric, mean and spread over seeds.
    """
    result = {}
    for method, label in LINES.items():
        found = [
            finished.validation_curve(run)
            for run in runs
            if (run.data, run.method) == (data, method)
        ]
        if not found:
            logging.warning("There is no %s on %s.", method, data)
            continue
        result[label] = plots.Curves(
            iteration=found[0]["iteration"],
            values={
                name: compare.mean_and_spread(
                    np.stack([curve[name] for curve in found])
                )
                for name in metrics.NAMES
            },
            is_reference=method == _REFERENCE,
        )
    return result


def _cut(runs):
    """Returns the M of all validation metrics."""
    cuts = {
        record["validation"]["num_results"]
        for run in runs
        for record in run.metrics["iterations"]
    }
    if len(cuts) != 1:
        raise ValueError(
            f"The runs must be judged at one M; got {sorted(cuts)}. Give the "
            "same --num_results to all, or choose by --data."
        )
    return cuts.pop()
