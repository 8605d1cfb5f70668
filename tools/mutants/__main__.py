"""Try a random sample of mutations: ``make mutants``, or ``python -m tools.mutants``."""

import sys

from tools.mutants.trial import main

if __name__ == "__main__":
    sys.exit(main())
