"""Says what training on a cluster costs, before it is rented.

    python -m experiments.cluster_cost --items=100000000 \\
        --samples=10000000000 --hosts=64

Prints hours, bytes and memory by part; each host is a worker and a parameter
server. The rates of a core are those of --rates, measured on this machine by
--measure, which prints them in the same form.
"""

import dataclasses
import json

from absl import flags

from experiments.rehearsal import cost
from experiments.rehearsal import rates
from jtm_tf.command_line import program

_DEFAULT = {field.name: field.default for field in dataclasses.fields(cost.Job)}
_ITEMS = flags.DEFINE_integer("items", None, "Of the corpus.", lower_bound=2)
_SAMPLES = flags.DEFINE_integer(
    "samples", None, "Samples of an epoch.", lower_bound=1
)
_HOSTS = flags.DEFINE_integer("hosts", 1, "Machines.", lower_bound=1)
_CORES = flags.DEFINE_integer(
    "cores", _DEFAULT["cores"], "Of each machine.", lower_bound=1
)
_GIGABITS = flags.DEFINE_float(
    "gigabits",
    _DEFAULT["gigabits"],
    "A second that each machine sends, and receives.",
    lower_bound=0.001,
)
_EMBEDDING_DIM = flags.DEFINE_integer(
    "embedding_dim",
    _DEFAULT["embedding_dim"],
    "As in training.",
    lower_bound=1,
)
_BATCH = flags.DEFINE_integer(
    "batch_size", _DEFAULT["batch"], "As in training.", lower_bound=1
)
_GAP = flags.DEFINE_integer("gap", _DEFAULT["gap"], "As in training.")
_RATES = flags.DEFINE_list(
    "rates",
    ["nodes=220000", "rows=900000", "pairs=700000"],
    "What a core does in a second: nodes that a worker scores in training, "
    "rows that a server reads and updates, pairs that the tree step scores.",
)
_MEASURE = flags.DEFINE_bool(
    "measure", False, "Measure --rates on this machine first, one thread."
)


@program.entry
def main() -> None:
    found = rates.measure() if _MEASURE.value else _given_rates()
    if _MEASURE.value:
        told = [f"{k}={v:.0f}" for k, v in dataclasses.asdict(found).items()]
        print(f"--rates={','.join(told)}")
    if _ITEMS.value is None and _SAMPLES.value is None and _MEASURE.value:
        return
    if _ITEMS.value is None or _SAMPLES.value is None:
        raise ValueError("--items and --samples say what is to be trained.")
    job = cost.Job(
        items=_ITEMS.value,
        samples=_SAMPLES.value,
        hosts=_HOSTS.value,
        cores=_CORES.value,
        gigabits=_GIGABITS.value,
        embedding_dim=_EMBEDDING_DIM.value,
        batch=_BATCH.value,
        gap=_GAP.value,
    )
    estimated = dataclasses.asdict(cost.estimate(job, found))
    for name, value in estimated.items():
        print(f"{name.replace('_', ' '):14}{_told(name, value)}")
    rounded = {name: float(f"{x:.4g}") for name, x in estimated.items()}
    print(json.dumps({**dataclasses.asdict(job), **rounded}))


def _given_rates():
    """Returns --rates."""
    given = program.pairs("rates", _RATES.value)
    names = {field.name for field in dataclasses.fields(cost.Rates)}
    try:
        if given.keys() != names:
            raise ValueError
        return cost.Rates(**{name: float(x) for name, x in given.items()})
    except ValueError:
        raise ValueError(
            "--rates takes nodes=NUMBER,rows=NUMBER,pairs=NUMBER; got "
            f"{','.join(_RATES.value)!r}."
        ) from None


def _told(name, value):
    """Returns a figure with its unit."""
    if name.endswith("hours"):
        return f"{value:,.2f} h"
    if not name.endswith("bytes"):
        return f"{value:,.0f}"
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if value < 1000:
            return f"{value:,.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} PB"


if __name__ == "__main__":
    main()
