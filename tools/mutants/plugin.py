"""For pytest: which tests fail and how long the others take, written to files that the environment names."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

__all__ = ["FAILED_FILE", "PROFILE", "SECONDS_FILE"]

PROFILE = "mutants"
# A failing example is not made smaller, which takes minutes: that there is one is enough.
_PHASES = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
hypothesis.settings.register_profile(PROFILE, deadline=None, phases=_PHASES, derandomize=True, database=None)

SECONDS_FILE = "MUTANTS_SECONDS_FILE"
FAILED_FILE = "MUTANTS_FAILED_FILE"
_seconds: dict[str, float] = {}
_skipped: set[str] = set()
_failed: list[str] = []


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol() -> Iterator[None]:
    """Go on tracing for coverage after a test that stopped it."""
    tracer = sys.gettrace()
    yield
    if sys.gettrace() is not tracer:
        sys.settrace(tracer)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds[report.nodeid] = _seconds.get(report.nodeid, 0.0) + report.duration
    if report.failed:
        _failed.append(report.nodeid)
    elif report.skipped:
        _skipped.add(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _failed.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):  # the process that started the workers hears of every test
        return
    if SECONDS_FILE in os.environ:
        passed = {test: _seconds[test] for test in _seconds.keys() - _skipped - set(_failed)}
        Path(os.environ[SECONDS_FILE]).write_text(json.dumps(passed), encoding="utf-8")
    if FAILED_FILE in os.environ:
        Path(os.environ[FAILED_FILE]).write_text("\n".join(dict.fromkeys(_failed)), encoding="utf-8")
