"""Measure everything, each part in a process of its own, and write the figures into ``docs/benchmarks.md``.

python -m benchmarks                    # all parts
python -m benchmarks networks simulator # some of them; the figures of the others stay
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from benchmarks.report import BROKEN, KEEP_MEMORY, PAGE, fill_page, machine

PARTS = ("losses", "passes", "training_step", "backends", "networks", "verification", "simulator", "profiles")


def main() -> None:
    """Run the parts one after the other; status 1 if a bound is broken."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    chosen = parser.parse_args().parts or PARTS
    unknown = sorted(set(chosen) - set(PARTS))
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}. Parts are {', '.join(PARTS)}.")
    environment = {**os.environ, **KEEP_MEMORY, "OMP_NUM_THREADS": "1"}
    broken = []
    for part in chosen:
        command = [sys.executable, "-m", f"benchmarks.{part}"]
        ran = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
        if ran.returncode not in (0, BROKEN):
            raise SystemExit(f"{part} failed with status {ran.returncode}; the page is as it was.")
        page = fill_page(PAGE.read_text(), "machine", machine())
        PAGE.write_text(fill_page(page, part, ran.stdout))
        print(ran.stdout)
        broken += [part] if ran.returncode else []
    raise SystemExit(f"A bound is broken in {', '.join(broken)}." if broken else 0)


if __name__ == "__main__":
    main()
