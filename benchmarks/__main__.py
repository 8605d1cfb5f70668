"""Measure everything, each part in a process of its own, and write the tables of the documentation.

python -m benchmarks                    # all parts
python -m benchmarks networks simulator # some of them; the results of the others stay
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

PARTS = ("losses", "memory", "growth", "training_step", "networks", "verification", "simulator")


def main() -> None:
    """Run the parts one after the other."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    chosen = parser.parse_args().parts or PARTS
    unknown = sorted(set(chosen) - set(PARTS))
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}. Parts are {', '.join(PARTS)}.")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for part in chosen:
        subprocess.run([sys.executable, "-m", f"benchmarks.{part}"], env=environment, check=True)
    raise SystemExit(subprocess.run([sys.executable, "-m", "benchmarks.table"], check=False).returncode)


if __name__ == "__main__":
    main()
