"""--people, --items, --days and --bucket_share: how large a week's shop is."""

from typing import Any

from absl import flags

from experiments.online import week

_DEFAULT = week.Config()


def define() -> dict[str, flags.FlagHolder]:
    """Defines the flags; returns them by the names of `week.Config`."""
    return {
        "people": flags.DEFINE_integer(
            "people", _DEFAULT.people, "How many there are.", lower_bound=10
        ),
        "items": flags.DEFINE_integer(
            "items", _DEFAULT.items, "How many are sold.", lower_bound=50
        ),
        "days": flags.DEFINE_integer(
            "days", _DEFAULT.days, "That are measured.", lower_bound=1
        ),
        "bucket_share": flags.DEFINE_float(
            "bucket_share",
            _DEFAULT.bucket_share,
            "Share of the people in each.",
        ),
    }


def config(size: dict[str, flags.FlagHolder], **others: Any) -> week.Config:
    """Returns the week that the flags ask for.

    Args:
        size: what `define` returned.
        **others: the week's other attributes.
    """
    return week.Config(**{k: x.value for k, x in size.items()}, **others)
