"""The demo's tables: the data, the rounds, and the methods on test users."""

from jtm_tf.data import interactions

NAMES = {
    "tdm": "TDM",
    "jtm": "JTM",
    "repeat": "own purchases, then best-sellers",
    "popular": "best-sellers",
}


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


ROUNDS = (
    "iteration    loss   recall  precision   items moved   model s   tree s"
)


def round_of(record: dict) -> str:
    """Returns an iteration under `ROUNDS`, judged on validation users."""
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
            f"{NAMES[name]:<34}{100 * found['recall']:>8.2f} %"
            f"{100 * found['precision']:>10.2f} %"
            f"{100 * found['f_measure']:>10.2f} %"
        )
    return "\n".join(lines)
