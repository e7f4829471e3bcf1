"""Runs every benchmark, each in a process of its own, and keeps the figures.

python -m benchmarks [--quick] [--output=benchmarks/results.json]
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

# Each, and what makes it quick.
NAMES = {
    "training": "--quick",
    "retrieval": "--quick",
    "tree_learning": "--quick",
    "prepare": "--rows=100000",
    "report": "--items=20000",
}


def main() -> None:
    """Writes the output file; stops at the first benchmark that fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        default=pathlib.Path(__file__).parent / "results.json",
    )
    args = parser.parse_args()
    results = {}
    for name, quick in NAMES.items():
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json"]
        done = subprocess.run(
            command + [quick] * args.quick,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        line = done.stdout.splitlines()[-1]
        results[name] = json.loads(line)
        os.write(1, f"{name}: {line}\n".encode())
    args.output.write_text(json.dumps(results, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
