"""--pool and --ray_address: who does work that may be handed out."""

from absl import flags

from jtm_tf.pools import ray_pool
from jtm_tf.pools import serial

# Who may do work that may be handed out, see `define`.
CHOICES = ("here", "serial", "ray")

Pool = ray_pool.Pool | serial.Pool


def define(work: str, folder: str) -> tuple[flags.FlagHolder, flags.FlagHolder]:
    """Defines both flags.

    Args:
        work: what is done, as in "Who ..".
        folder: the flag of the folder that all workers must see.
    """
    return (
        flags.DEFINE_enum(
            "pool",
            "here",
            CHOICES,
            f"Who {work}. here: this process, from its memory; serial: this "
            "process, part by part, as workers do; ray: workers of Ray, see "
            "--ray_address. Extra cluster.",
        ),
        flags.DEFINE_string(
            "ray_address",
            None,
            f"Of a Ray cluster that sees {folder} under the same names; auto "
            "for the one that this machine belongs to; by default one is "
            "started here.",
        ),
    )


def chosen(pool: flags.FlagHolder, address: flags.FlagHolder) -> Pool | None:
    """Returns who does the work, None for this process from its memory.

    Raises:
        ValueError: an address without Ray, or Ray is not installed.
    """
    if pool.value == "ray":
        return ray_pool.Pool(address.value)
    if address.value is not None:
        raise ValueError("--ray_address is of --pool=ray.")
    return serial.Pool() if pool.value == "serial" else None
