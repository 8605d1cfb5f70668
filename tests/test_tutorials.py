"""Every tutorial runs from its first cell to its last; each ends with an assertion on what it promised."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.tutorials import TUTORIALS, execute


@pytest.mark.lava
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_runs(tutorial: Path) -> None:
    execute(tutorial)  # the notebook stays in `build`, so that building the site does not execute it again
