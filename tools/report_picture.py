"""Takes the picture of a report in README and docs from a run of the demo: ``python tools/report_picture.py``.

It needs what ``make demo`` needs, and Chromium or Chrome.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PICTURE = Path(__file__).parent.parent / "docs" / "images" / "report.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE = "1120,1330"


def main() -> None:
    """Run the demo in a temporary folder, and photograph the top of its report."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        sys.exit(f"Expected a browser, one of {', '.join(BROWSERS)}, but found none.")
    with tempfile.TemporaryDirectory() as folder:
        demo = ["-m", "netx_export", "demo", "--out", "demo"]
        subprocess.run([sys.executable, *demo], cwd=folder, check=True, timeout=1800)
        page = (Path(folder) / "demo" / "report.html").as_uri()
        options = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={SIZE}")
        subprocess.run([browser, *options, f"--screenshot={PICTURE}", page], check=True, timeout=120)


if __name__ == "__main__":
    main()
