"""The part of the package's metadata that depends on where the repository lies: its addresses, and README's links.

An environment variable names the repository that is released. Then the metadata has its addresses, and README's
relative links and pictures are those of the version's tag there. Without it there are none, and README stays as it is.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from hatchling.metadata.plugin.interface import MetadataHookInterface

VARIABLE = "LAVA_SPIKELOSS_REPOSITORY"
_LINK = re.compile(r"```.*?```|(?<=\]\()[^)\s]+", re.DOTALL)  # what a block of code shows is no link
_PICTURES = (".png", ".svg")


class AddressesHook(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        repository = os.environ.get(VARIABLE, "").rstrip("/")
        readme = Path(self.root, "README.md").read_text(encoding="utf-8")
        if repository:
            _check(repository)
            tag = f"v{metadata['version']}"
            readme = absolute_links(readme, repository, tag)
            metadata["urls"] = addresses(repository, tag)
        else:
            print(f"No repository is named: README's links stay relative. {VARIABLE}=URL names one.", file=sys.stderr)
        metadata["readme"] = {"content-type": "text/markdown", "text": readme}


def _check(repository: str) -> None:
    if not re.fullmatch(r"https://[^/@?#\s]+/[^/?#\s]+/[^/?#\s]+(?<!\.git)", repository):
        raise ValueError(f"Expected {VARIABLE} to be an address like https://HOST/OWNER/NAME but got {repository!r}.")


def addresses(repository: str, tag: str) -> dict[str, str]:
    return {
        "Homepage": repository,
        "Documentation": f"{repository}/blob/{tag}/docs/index.md",
        "Source": f"{repository}/tree/{tag}",
        "Changelog": f"{repository}/blob/{tag}/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }


def absolute_links(readme: str, repository: str, tag: str) -> str:
    def absolute(found: re.Match[str]) -> str:
        target = found[0]
        if target.startswith("```"):
            return target
        kind = "raw" if target.endswith(_PICTURES) else "blob"
        return urljoin(f"{repository}/{kind}/{tag}/README.md", target)

    return _LINK.sub(absolute, readme)
