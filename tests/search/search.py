"""The long search, ``make search``: thousands of random networks, each refused with a reason or exported exactly.

First each change and each operation by itself on networks of every kind, then random networks in rounds. A failure is
shrunk and printed as a network that can be pasted into a test, and the search goes on. Settings are environment
variables: SEARCH_EXAMPLES (5000), SEARCH_SECONDS (3600: it ends after that time), SEARCH_SEED (to repeat a search).
"""

from __future__ import annotations

import os
import random
import re
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from judging import Verdict, examine
from random_networks import Network, networks

_ROUND = 250  # networks between two restarts of the search, each with the next seed
_LAVA_SHARE = 20  # one network in so many runs on Lava, too


@dataclass
class Search:
    """What was tried so far, and what was found."""

    folder: Path
    ends: float
    verdicts: list[Verdict] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def over(self) -> bool:
        return time.monotonic() > self.ends

    def round(self, number: int, size: int) -> None:
        """One round of random networks, up to its first failure, which is shrunk."""

        @seed(number)
        @settings(
            max_examples=size,
            database=None,
            deadline=None,
            print_blob=True,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(networks())
        def search(spec: Network) -> None:
            if not self.over:
                on_lava = len(self.verdicts) % _LAVA_SHARE == 0
                self.verdicts.append(examine(spec, self.folder, on_lava=on_lava))

        try:
            search()
        except Exception as error:  # the failure of the smallest network; hypothesis raises a group for several
            texts = [str(one) for one in getattr(error, "exceptions", [error])]
            self.failures += [f"{type(error).__name__}: {text}" for text in texts]
            print(f"\nFAILED (round of seed {number}):", *self.failures[-len(texts) :], sep="\n", flush=True)

    def report(self) -> None:
        """Print what was counted."""
        outcomes = Counter(verdict.outcome for verdict in self.verdicts)
        print(f"\n{len(self.verdicts)} networks: {outcomes['exported']} exported, {outcomes['refused']} refused")
        print(f"proved: {sum(verdict.proved for verdict in self.verdicts)}")
        print(f"judged on Lava: {sum(verdict.on_lava for verdict in self.verdicts)}")
        print(f"plain: {sum(verdict.plain for verdict in self.verdicts)}")
        print(f"failures: {len(self.failures)}")
        reasons = Counter(_reason(verdict) for verdict in self.verdicts if verdict.outcome == "refused")
        for reason, count in reasons.most_common(30):
            print(f"{count:6} {reason}")


def _reason(verdict: Verdict) -> str:
    """A refusal without what is particular to one network."""
    return re.sub(r"[\d.]+", "#", verdict.reason)[:140]


def main() -> int:
    examples, seconds = (int(os.environ.get(f"SEARCH_{name}", text)) for name, text in _DEFAULTS)
    first = int(os.environ.get("SEARCH_SEED", random.SystemRandom().randrange(10**6)))
    print(f"Search of {examples} networks in at most {seconds} s. To repeat it: SEARCH_SEED={first}", flush=True)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        search = Search(Path(folder), time.monotonic() + seconds)
        number = first
        while len(search.verdicts) < examples and not search.over:
            search.round(number, min(_ROUND, examples - len(search.verdicts)))
            number += 1
            print(f"{len(search.verdicts)} networks, {len(search.failures)} failures", flush=True)
        search.report()
    return 1 if search.failures else 0


_DEFAULTS = (("EXAMPLES", "5000"), ("SECONDS", "3600"))

if __name__ == "__main__":
    sys.exit(main())
