"""Draws Figure 2: learning the tree against clustering it.

    python -m experiments.figure2 --out=figure2.svg \\
        --runs=experiments/results/table1/runs.json

Precision, recall and F-measure of the validation users over the iterations
of JTM and of TDM's clustering, both with hierarchical users; JTM-H, whose
tree stays as it is, in grey. Lines are means over seeds, bands one sample
standard deviation. --runs is the runs.json of experiments.table1, or its
--runs_dir; unfinished runs are left out.
"""

from absl import flags
from absl import logging

from experiments.pictures import curves
from jtm_tf.command_line import program

_RUNS = flags.DEFINE_string(
    "runs",
    None,
    "runs.json, or the --runs_dir of experiments.table1.",
    required=True,
)
_OUT = flags.DEFINE_string(
    "out",
    None,
    "The picture, by its suffix: .svg, .png or .pdf.",
    required=True,
)
_DATA = flags.DEFINE_list(
    "data", [], "Data sets to show, in this order; all if not given."
)
_TITLES = flags.DEFINE_list(
    "titles", [], "NAME=TITLE pairs: how to call the data sets."
)
_ALLOW_CODE_VERSIONS = flags.DEFINE_bool(
    "allow_code_versions",
    False,
    "Accept runs made by different versions of the code.",
)


@program.entry
def main() -> None:
    logging.set_verbosity(logging.INFO)
    curves.draw(
        _RUNS.value,
        _OUT.value,
        data=_DATA.value,
        titles=program.pairs("titles", _TITLES.value),
        allow_code_versions=_ALLOW_CODE_VERSIONS.value,
    )
    print(_OUT.value)


if __name__ == "__main__":
    main()
