"""What a soak promises: nothing fails, and nothing grows."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

# By then a server has met all kinds of requests and a few swaps.
WARM_SECONDS = 300.0
# Of a soak that is short.
WARM_SHARE = 1 / 6

# How much larger each may be at the end. One or two handles and threads come
# and go with the moment; one more a version would be twice as many.
ALLOWED = {"resident_mib": 1.05, "handles": 1.1, "threads": 1.1}
# A sample may meet a version that is being loaded.
_AROUND = 3


def ratios(
    samples: Sequence[Mapping[str, float]], seconds: float
) -> dict[str, Any]:
    """Compares what a server held at the end with what it held once warm.

    Args:
        samples: in order of their `seconds`; the last is of the end, when
            all is quiet again.
        seconds: how long the soak was to last.

    Returns:
        `warm_seconds`, when it was warm, and `resident_mib`, `handles` and
        `threads` at the end over the median of a few samples from then on.

    Raises:
        ValueError: there is no sample from then on but the last.
    """
    warm = min(WARM_SECONDS, WARM_SHARE * seconds)
    there = [s for s in samples[:-1] if s["seconds"] >= warm][:_AROUND]
    if not there:
        raise ValueError(
            f"There is no sample between {warm:g} s and the end of "
            f"{seconds:g} s; sample more often, or soak for longer."
        )
    found: dict[str, Any] = {"warm_seconds": round(there[0]["seconds"], 1)}
    for name in ALLOWED:
        before = float(np.median([sample[name] for sample in there]))
        found[name] = round(samples[-1][name] / before, 4)
    return found


def broken(report: Mapping[str, Any]) -> list[str]:
    """Returns a line for each promise that a soak's report breaks."""
    good, rubbish, new = (report[x] for x in ("good", "rubbish", "versions"))
    lines = []
    if good["failed"] or not good["answered"]:
        lines.append(
            f"{good['failed']} of {good['asked']} good requests failed: "
            f"{good['errors']}, {good['misshapen']} of another shape."
        )
    if rubbish["wrong"]:
        lines.append(
            f"{rubbish['wrong']} of {rubbish['sent']} bad requests were "
            f"answered otherwise than they should be: "
            f"{rubbish['wrong_examples']}."
        )
    if not new["seen"]:
        lines.append(
            f"Of {new['published']} new versions none answered: the soak "
            "shows nothing of swaps."
        )
    grown = report["end_over_warm"]
    for name, most in ALLOWED.items():
        if not grown[name] <= most:
            lines.append(
                f"{name} grew to {grown[name]:g} times what they were after "
                f"{grown['warm_seconds']:g} s; at most {most:g} is allowed."
            )
    return lines
