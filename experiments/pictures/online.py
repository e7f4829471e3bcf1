"""The table and the picture of an online test."""

from collections.abc import Mapping
from typing import Any

import matplotlib.figure

from jtm_tf.command_line import markdown

_NAMES = {
    "item_cf": "Item-CF, the control",
    "item_cf_again": "Item-CF again (A/A)",
    "tdm": "TDM",
    "jtm_published": "JTM, as published",
    "jtm": "JTM",
}
# The paper's Table 2: lifts over Item-CF of CTR and of RPM, %.
_PAPER = {"tdm": (5.4, 7.6), "jtm_published": (11.3, 12.9)}
_COLORS = {
    "item_cf": "#000000",
    "item_cf_again": "#8a8a8a",
    "tdm": "#009e73",
    "jtm_published": "#56b4e9",
    "jtm": "#d55e00",
}
_DAILY = {
    "ctr": ("CTR, %", 100),
    "rpm": ("RPM", 1),
    "coverage": ("items shown to anybody, %", 100),
    "new": ("impressions of new items, %", 100),
}
_STEPS = ("train", "export", "swap")
_LATENCY = ("p50", "p99")


def table(report: Mapping[str, Any]) -> str:
    """Returns the report as Markdown."""
    titles = ["bucket", "people", "impressions", "CTR, %", "RPM"]
    titles += ["CTR over control, %", "paper", "RPM over control, %", "paper"]
    rows = []
    for name, found in report["buckets"].items():
        row = [_NAMES[name], f"{found['people']:,}"]
        row += [f"{found['impressions']:,}", f"{100 * found['ctr']:.2f}"]
        row += [f"{found['rpm']:.1f}"]
        paper = _PAPER.get(name, ("", ""))
        for of, printed in zip(("ctr", "rpm"), paper):
            over = found.get("over_control", {}).get(of)
            row += [
                _lift(over) if over else "",
                f"{printed:+}" if printed else "",
            ]
        rows.append(row)
    lines = markdown.table(titles, rows, right=True)
    nights = [
        [
            _NAMES[name],
            night["day"],
            *(str(night["seconds"].get(x, "")) for x in _STEPS),
            night["requests"],
            night["failed"],
            *(f"{night['latency_ms'].get(x, '')}" for x in _LATENCY),
            night["error"] or "",
        ]
        for name, of in report["nights"].items()
        for night in of
    ]
    if nights:
        head = ["night of", "day", *(f"{x}, s" for x in _STEPS), "requests"]
        head += ["failed", *(f"{x}, ms" for x in _LATENCY), "error"]
        lines += ["", *markdown.table(head, nights, right=True)]
        if (together := report["nights_at_a_time"]) > 1:
            lines += [
                "",
                f"Nights of {together} methods at a time, which share the "
                "cores with the servers.",
            ]
    return "\n".join([*lines, "", "Made by", "", f"    {report['command']}"])


def week(report: Mapping[str, Any]) -> matplotlib.figure.Figure:
    """Draws each bucket's figures by day; `plots.save` writes the picture."""
    figure = matplotlib.figure.Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots(2, 2).reshape(-1)
    for (name, (title, scale)), axis in zip(_DAILY.items(), axes):
        for bucket, found in report["buckets"].items():
            days = [scale * day[name] for day in found["days"]]
            axis.plot(
                range(1, len(days) + 1),
                days,
                label=_NAMES[bucket],
                color=_COLORS[bucket],
                marker="o",
                markersize=3,
            )
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("day")
        axis.set_ylim(bottom=0)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(fontsize=8, frameon=False)
    return figure


def _lift(found):
    """Returns a lift with its interval, in %."""
    low, high = (100 * x for x in found["interval"])
    return f"{100 * found['lift']:+.1f} [{low:+.1f}, {high:+.1f}]"
