"""What lava-dl ships beside its package: its own tests, with networks, inputs and outputs that it recorded.

They lie in a package that is called ``tests``, as our own folder is: so they are found by their place, not by name.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

__all__ = ["shipped"]


def shipped(*parts: str) -> Path:
    """A file or folder below lava-dl's tests of ``lava.lib.dl``."""
    spec = find_spec("lava")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    places = [Path(place).parent / "tests" / "lava" / "lib" / "dl" for place in spec.submodule_search_locations]
    return next(place for place in places if place.exists()).joinpath(*parts)
