"""The long search, ``make search``: thousands of random networks, each refused with a reason or exported exactly.

Half of them are single changes and operations on networks of every kind, half are drawn at random. A failure is shrunk
and printed as a network that can be pasted into a test, and the search goes on. Settings are environment variables:
SEARCH_EXAMPLES (5000), SEARCH_SECONDS (3600: it ends after that time), SEARCH_SEED (to repeat a search).
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
from single_peculiarities import each

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

    def singles(self, number: int, size: int) -> None:
        """Peculiarities by themselves, a random choice of all."""
        specs = list(each())
        random.Random(number).shuffle(specs)
        for spec in specs[:size]:
            if self.over:
                return
            try:
                self.judge(spec)
            except Exception as error:
                self.fail(error, "alone")

    def judge(self, spec: Network) -> None:
        self.verdicts.append(examine(spec, self.folder, on_lava=len(self.verdicts) % _LAVA_SHARE == 0))

    def fail(self, error: Exception, where: str) -> None:
        self.failures.append(f"{type(error).__name__}: {error}")
        print(f"\nFAILED ({where}):", self.failures[-1], sep="\n", flush=True)

    def round(self, number: int, size: int) -> None:
        """One round of random networks, up to its first failure, which is shrunk."""
        failing = False

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
            nonlocal failing
            if self.over and not failing:
                return  # a failure is shrunk to its end, or hypothesis would call it flaky
            try:
                self.judge(spec)
            except Exception:  # whatever it is, hypothesis has to see it to shrink the network
                failing = True
                raise

        try:
            search()
        except Exception as error:  # of the smallest network that fails; a group, if networks failed in several ways
            for one in getattr(error, "exceptions", [error]):
                self.fail(one, f"round of seed {number}")

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
        search.singles(first, examples // 2)
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
