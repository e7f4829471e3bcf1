"""Tables for people, as Markdown."""

from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any


def table(
    titles: Sequence[str], rows: Iterable[Sequence[Any]], *, right: bool = False
) -> list[str]:
    """Returns the lines of a table.

    Args:
        titles: of the columns.
        rows: a cell for each column; it is shown as `str` shows it.
        right: whether all columns but the first stand to the right.
    """
    rule = ["---", *["---:" if right else "---"] * (len(titles) - 1)]
    return [_line(row) for row in (titles, rule, *rows)]


def _line(cells):
    """Returns a row; a bar in a cell is no border."""
    shown = (str(cell).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(shown)} |"
