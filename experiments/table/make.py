"""Makes Table 1: trains what is missing, then writes what is there."""

import dataclasses
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence

from experiments.runs import finished
from experiments.runs import launch
from experiments.runs import paper
from experiments.table import compare
from experiments.table import text as table_text
from jtm_tf import files
from jtm_tf.data import interactions
from jtm_tf.runs import folder as run_folder


@dataclasses.dataclass(frozen=True)
class TableConfig:
    """What the table is of, and where it goes.

    Attributes:
        data_dirs: prepared folder by short name.
        runs_dir: run folders are RUNS_DIR/DATA/METHOD-SEED.
        out_dir: folder of table1.md, table1.csv and runs.json.
        methods: rows, in any order.
        seeds: to average over.
        compared_with: the paper's data set by short name.
        collect_only: whether to train nothing.
        train_flags: see `launch.schedule`.
        jobs: runs trained at a time.
        allow_code_versions: whether the runs may be of different code.
    """

    data_dirs: Mapping[str, str]
    runs_dir: files.Path
    out_dir: files.Path
    methods: Sequence[str] = tuple(paper.NAMES)
    seeds: Sequence[int] = (0, 1, 2)
    compared_with: Mapping[str, str] = dataclasses.field(default_factory=dict)
    collect_only: bool = False
    train_flags: Sequence[str] = ()
    jobs: int = 1
    allow_code_versions: bool = False

    def __post_init__(self):
        if not self.methods or not set(self.methods) <= set(paper.NAMES):
            raise ValueError(
                f"--methods takes {', '.join(paper.NAMES)}; got "
                f"{','.join(self.methods)!r}."
            )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(
                f"--seeds takes each seed once; got {list(self.seeds)}."
            )
        for name, found in self.compared_with.items():
            if name not in self.data_dirs or found not in paper.RECALL_200:
                raise ValueError(
                    "--paper takes a name of --data "
                    f"({', '.join(self.data_dirs)}) and one of "
                    f"{', '.join(paper.RECALL_200)}; got {name}={found}."
                )
        # In the paper's order.
        methods = tuple(name for name in paper.NAMES if name in self.methods)
        object.__setattr__(self, "methods", methods)


def make(
    config: TableConfig, *, command: str, progress: bool = False
) -> list[launch.Job]:
    """Trains the missing runs, then writes table1.md, .csv and runs.json.

    Args:
        config: see `TableConfig`.
        command: what to copy to make the table again.
        progress: whether to draw a progress bar.

    Returns:
        The runs that failed, which are missing from the table.

    Raises:
        ValueError: the runs are unlike, or not those that their folders say.
        FileNotFoundError: there is no prepared data to train on.
    """
    fingerprints = _fingerprints(config)
    runs = _finished(config, fingerprints)
    failed = []
    if not config.collect_only:
        jobs = launch.schedule(
            config.data_dirs,
            config.methods,
            config.seeds,
            config.runs_dir,
            config.train_flags,
        )
        if len(runs) < len(jobs):
            _refuse_other_code(config, runs)
        failed = launch.run_all(jobs, workers=config.jobs, progress=progress)
        runs = _finished(config, fingerprints)
    rows = [
        row
        for data in config.data_dirs
        for row in compare.rows(runs, data, config.methods, config.seeds)
    ]
    text = table_text.markdown(
        rows,
        compared_with=config.compared_with,
        command=command,
        code=finished.code_versions(runs),
    )
    out_dir = pathlib.Path(config.out_dir)
    for name, content in (
        ("table1.md", text),
        ("table1.csv", table_text.csv_text(rows)),
    ):
        with files.replacing(out_dir / name) as temporary:
            temporary.write_text(content, "utf-8")
    finished.write_summaries(out_dir / "runs.json", runs)
    return failed


def _finished(config, fingerprints):
    """Returns the finished runs, found alike."""
    runs = finished.read_all(
        config.runs_dir, config.data_dirs, config.methods, config.seeds
    )
    finished.refuse_unlike(
        runs,
        fingerprints=fingerprints,
        allow_code_versions=config.allow_code_versions,
    )
    return runs


def _fingerprints(config):
    """Returns the fingerprints of the prepared data that are there."""
    found = {}
    for name, folder in config.data_dirs.items():
        manifest = interactions.read_manifest(folder)
        if manifest is not None:
            found[name] = manifest["fingerprint"]
        elif not config.collect_only:
            raise FileNotFoundError(
                f"{folder} is not prepared data: it has no "
                f"{interactions.MANIFEST}. "
                "Write it with experiments.prepare, or pass --collect_only."
            )
    return found


def _refuse_other_code(config, runs):
    """Refuses before the training, not after, to mix code versions."""
    now, then = run_folder.code_version(), finished.code_versions(runs)
    if not config.allow_code_versions and then not in ([], [now]):
        raise ValueError(
            f"The runs in {config.runs_dir} were made by code {then[0]}; this "
            f"is {now}. Go back to that version, choose another --runs_dir, "
            "or pass --allow_code_versions."
        )
