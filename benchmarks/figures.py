"""How a benchmark of this machine is started and shows its figures."""

import argparse
import json
import os
from collections.abc import Callable
from typing import Any

from experiments.search_cost import timing


def main(
    run: Callable[[bool], dict[str, Any]], description: str | None
) -> None:
    """Runs a benchmark as a program: --json and --quick, result on stdout.

    Args:
        run: maps `quick` to the figures.
        description: the module's docstring.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object"
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds, smaller sizes"
    )
    args = parser.parse_args()
    result = {
        **run(args.quick),
        "quick": args.quick,
        "machine": timing.machine(),
    }
    if args.json:
        text = json.dumps(result)
    else:
        width = max(map(len, result))
        text = "\n".join(f"{k:<{width}}  {v}" for k, v in result.items())
    os.write(1, f"{text}\n".encode())
