"""Table 1 as text: Markdown for people, CSV for programs."""

import csv
import io
import itertools
import math
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

from experiments.runs import paper
from experiments.table import compare
from jtm_tf.command_line import markdown as markdown_lib
from jtm_tf.search import metrics

_MISSING = "–"
# Name, title and decimals in %: precision at M = 200 is small.
_METRICS = (
    ("recall", "recall", 2),
    ("precision", "precision", 3),
    ("f_measure", "F-measure", 3),
)

_INTRODUCTION = """\
# Table 1

All figures in %, mean ± sample standard deviation over seeds. The methods
that scan all items have no beam: one figure at every beam of the same M.
*JTM's lift* is its recall over the row's; *JTM − row* is the difference in
points of recall with its 95 % interval over test users (paired bootstrap of
the recall averaged over the seeds that both have). *Without known* is the
recall where no item that a user is known to have is recommended, and the
difference of that. "–" is a missing run.
Below the paper's rows stand two rules and the paper's Figure 2, then the
rivals of today: ALS, EASE and SASRec, tuned on validation users.
"""


def csv_text(rows: Iterable[compare.Row]) -> str:
    """Returns a line for each data set, method and cut; fractions, not %.

    What is missing is an empty cell.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["data", "method", "num_results", "beam_width"]
        + [f"{x}_{y}" for x in metrics.NAMES for y in ("mean", "spread")]
        + ["seeds", "users", "minutes", "jtm_lift", "jtm_difference"]
        + ["jtm_difference_low", "jtm_difference_high"]
        + ["filtered_recall_mean", "filtered_recall_spread"]
        + ["jtm_filtered_difference", "jtm_filtered_difference_low"]
        + ["jtm_filtered_difference_high"]
    )
    for row in rows:
        figures = [
            figure
            for name in metrics.NAMES
            for figure in row.metrics.get(name, (None, None))
        ]
        versus = row.versus
        against = (
            [versus.lift, versus.difference, *versus.interval]
            if versus
            else [None] * 4
        )
        writer.writerow(
            [row.data, row.method, *row.cut]
            + [_cell(figure) for figure in figures]
            + [len(row.seeds), row.users, _cell(row.minutes)]
            + [_cell(figure) for figure in against]
            + [_cell(figure) for figure in _filtered(row)]
        )
    return out.getvalue()


def _filtered(row):
    """Returns the figures without what users are known to have."""
    versus = row.versus_filtered
    against = [versus.difference, *versus.interval] if versus else [None] * 3
    return [*(row.filtered or (None, None)), *against]


def _cell(value):
    return "" if value is None else f"{value:.6g}"


def markdown(
    rows: Sequence[compare.Row],
    *,
    compared_with: Mapping[str, str],
    command: str,
    code: Sequence[str],
) -> str:
    """Returns the tables, by data set and cut, and how they were made.

    Args:
        rows: by data set, then cut, then method.
        compared_with: key of `paper.RECALL_200` for a data set; one without
            has no columns of the paper.
        command: what made the table.
        code: versions that made the runs.
    """
    parts = [_INTRODUCTION]
    for data, group in itertools.groupby(rows, lambda row: row.data):
        of_data = list(group)
        parts += [f"## {data}\n", _about(of_data, compared_with.get(data))]
        for cut, at_cut in itertools.groupby(of_data, lambda row: row.cut):
            title = f"### M = {cut[0]}, beam {cut[1]}\n"
            in_paper = compared_with.get(data) if cut[0] == 200 else None
            parts += [title, *_tables(list(at_cut), in_paper)]
        parts += _missing(of_data)
    indented = command.replace("\n", "\n    ")
    versions = ", ".join(code) or "none, there are no runs"
    return "\n".join(
        [*parts, "## Made by\n", f"    {indented}\n", f"Code: {versions}.\n"]
    )


def _about(rows, in_paper):
    """Returns who was asked, and what of the paper stands beside."""
    users = max((row.users for row in rows if row.users), default=None)
    text = f"{users:,} test users." if users else "No runs yet."
    if in_paper:
        text += (
            f" Beside: the paper's Recall@200 on {paper.DATA_SETS[in_paper]}."
        )
    return text + "\n"


def _tables(rows, in_paper):
    """Yields the rows of the paper, then apart from them the others."""
    published = paper.RECALL_200.get(in_paper)
    for names, beside in (
        (paper.ROWS, published),
        (paper.BESIDE, None),
        (paper.TODAY, None),
    ):
        chosen = [row for row in rows if row.method in names]
        if chosen:
            yield _table(chosen, beside)


def _table(rows, published):
    """Returns one Markdown table; `published` recalls add two columns."""
    titles = ["method", *(title for _, title, _ in _METRICS)]
    titles += ["paper's recall"] * bool(published)
    titles += ["JTM's lift"]
    titles += ["paper's lift"] * bool(published)
    titles += ["JTM − row [95 %]"]
    known = any(row.filtered for row in rows)
    titles += ["without known", "JTM − row [95 %]"] * known
    titles += ["seeds", "minutes"]
    lines = []
    for row in rows:
        # JTM is not compared with itself: blank, which is not missing.
        nothing = "" if row.method == paper.OURS else _MISSING
        versus = row.versus
        cells = [paper.NAMES[row.method]]
        cells += [_figure(row, name, digits) for name, _, digits in _METRICS]
        if published:
            cells.append(f"{published[row.method]:.2f}")
        lift = versus.lift if versus else None
        cells.append(nothing if lift is None else f"{100 * lift:+.1f}")
        if published:
            lift = published[paper.OURS] / published[row.method] - 1
            is_ours = row.method == paper.OURS
            cells.append("" if is_ours else f"{100 * lift:+.1f}")
        cells.append(_difference(versus) if versus else nothing)
        if known:
            cells.append(_spread(row.filtered, 2) if row.filtered else _MISSING)
            versus = row.versus_filtered
            cells.append(_difference(versus) if versus else nothing)
        cells.append(str(len(row.seeds)) if row.seeds else "missing")
        cells.append(_MISSING if row.minutes is None else _minutes(row.minutes))
        lines.append(cells)
    return "\n".join([*markdown_lib.table(titles, lines, right=True), ""])


def _figure(row, name, digits):
    """Returns mean ± spread in %."""
    return _spread(row.metrics[name], digits) if row.metrics else _MISSING


def _spread(figure, digits):
    """Returns mean ± spread in %."""
    mean, spread = figure
    text = f"{100 * mean:.{digits}f}"
    return text if spread is None else f"{text} ± {100 * spread:.{digits}f}"


def _difference(versus):
    """Returns the difference in points and its interval."""
    low, high = versus.interval
    return (
        f"{100 * versus.difference:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"
    )


def _minutes(minutes):
    return f"{minutes:.1f}" if minutes < 10 else f"{math.floor(minutes + 0.5)}"


def _missing(rows):
    """Returns a line that names the missing runs, if there are any."""
    names = [
        f"{paper.NAMES[row.method]} (seed {', '.join(map(str, row.missing))})"
        for row in rows
        if row.missing and row.cut == rows[0].cut
    ]
    return [f"Missing: {'; '.join(names)}.\n"] if names else []
