"""Run folders made up from numbers, for the programs that read them."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from experiments.runs import finished as finished_runs

CUTS = ((200, 400), (20, 40), (20, 20))
UNTRAINED = ("item_cf", "popular", "repeat", "als", "ease")
SCANS = (*UNTRAINED, "youtube_dnn", "dnn", "sasrec")


def recalls(seed, users=6):
    """Returns [users] recalls, multiples of 1/8."""
    return np.random.default_rng(seed).integers(1, 8, users) / 8


def write(
    runs_dir,
    data,
    method,
    seed,
    *,
    recall=None,
    filtered=False,
    finished=True,
    iterations=3,
    **changes,
):
    """Writes a run folder and returns its path.

    The recall at M = 20 is half the one at M = 200, precision a tenth and
    F-measure a fifth of recall.

    Args:
        runs_dir: parent of the data sets' folders.
        data: name of the data set.
        method: of the run.
        seed: of the run.
        recall: [U] at M = 200; random if not given.
        filtered: whether it was judged without known items too: a quarter.
        finished: whether the run has test metrics.
        iterations: records; one if the method is not trained.
        **changes: entries of metrics.json that are to be different.
    """
    folder = finished_runs.run_dir(runs_dir, data, method, seed)
    folder.mkdir(parents=True, exist_ok=True)
    if recall is None:
        recall = recalls([seed, len(method)])
    recall = np.asarray(recall, float)
    cuts = CUTS
    if method in SCANS:
        cuts = ((200, None), (20, None))
    table, tested = [], []
    for num_results, beam in cuts:
        at = recall * (1 if num_results == 200 else 0.5)
        columns = {
            "user": pa.array(np.arange(len(at)) + 7, pa.int32()),
            "num_results": pa.array([num_results] * len(at), pa.int32()),
            "beam_width": pa.array([beam] * len(at), pa.int32()),
            "precision": at / 10,
            "recall": at,
            "f_measure": at / 5,
        }
        if filtered:
            columns["filtered_recall"] = at / 4
        table.append(pa.table(columns))
        tested.append(_metrics(at.mean(), num_results, beam, len(at)))
    records = [
        {
            "iteration": i,
            "validation": _metrics(0.1 * i + 0.01 * seed, *cuts[0], 5),
            "seconds_model": 60.0,
            "seconds_tree": 0,
            "moved_items": 0,
        }
        for i in range(1, 2 if method in UNTRAINED else 1 + iterations)
    ]
    for record in records[method in UNTRAINED :]:
        record |= {"loss": 9.0 / record["iteration"], "level_losses": [1.0]}
    metrics = {
        "method": method,
        "seed": seed,
        "config": {
            "method": method,
            "seed": seed,
            "training": {"rate": 0.1},
            "tree_learning": {"gap": 7, "seed": seed},
        },
        "data_fingerprint": f"of {data}",
        "code": "1.0+abc",
        "iterations": records,
        "best_iteration": len(records),
        "test": tested[0],
        "cuts": tested,
    }
    if filtered:
        metrics["filtered"] = [
            {**found, "recall": found["recall"] / 4} for found in tested
        ]
    if not finished:
        del metrics["test"], metrics["cuts"]
    metrics |= changes
    (folder / "metrics.json").write_text(json.dumps(metrics))
    pq.write_table(pa.concat_tables(table), folder / "test_users.parquet")
    return folder


def _metrics(recall, num_results, beam, users):
    """Returns metrics as metrics.json has them, rounded."""
    return {
        "precision": round(float(recall) / 10, 6),
        "recall": round(float(recall), 6),
        "f_measure": round(float(recall) / 5, 6),
        "num_results": num_results,
        "beam_width": beam,
        "users": users,
    }
