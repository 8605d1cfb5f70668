"""Fails the build if a public name is on no page of the API reference."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

MODULES = ["lava_spikeloss", "lava_spikeloss.functional", "lava_spikeloss.training", "netx_export", "netx_export.nir"]


def on_post_build(*, config: Any, **_: Any) -> None:
    pages = "".join(page.read_text() for page in Path(config.site_dir, "api").glob("*.html"))
    missing = [
        f"{module}.{name}"
        for module in MODULES
        for name in importlib.import_module(module).__all__
        if f'.{name}"' not in pages
    ]
    if missing:
        raise PluginError(f"On no page of the API reference: {', '.join(missing)}")
