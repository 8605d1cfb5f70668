"""What Lava did at the edges of its arithmetic is what the reference does, on every Python, with Lava or without."""

from __future__ import annotations

import json

import pytest
from lava_edges import EDGES, STORED, record

stored = json.loads(STORED.read_text())["edges"]


def test_each_edge_is_stored_and_shows_something() -> None:
    assert list(stored) == list(EDGES)
    for name, layers in stored.items():
        assert any("1" in row for rows in layers.values() for row in rows), name


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("name", EDGES)
def test_the_reference_gives_what_lava_gave(name: str) -> None:
    assert record(name, "reference") == stored[name]


@pytest.mark.lava
def test_lava_still_gives_what_it_gave() -> None:
    """Else `python tests/simulator/lava_edges.py` was forgotten after a change of an edge."""
    for name in EDGES:
        assert record(name, "lava") == stored[name], name
