#!/usr/bin/env bash
# Build the two files of a release into dist/, check them, and try each in an empty environment. PYTHON names the Python.
# With TESTS=1 the quick tests run as well, those of the source file in its own folder. LAVA_SPIKELOSS_REPOSITORY is the
# address that the metadata leads to; without it README's links stay relative.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"$python" -m venv "$folder/tools"
"$folder/tools/bin/python" -m pip install --quiet --disable-pip-version-check build twine
rm -rf dist
"$folder/tools/bin/python" -m build
"$folder/tools/bin/python" -m twine check --strict dist/*

for file in "$PWD"/dist/*.whl "$PWD"/dist/*.tar.gz; do
    "$python" -m venv "$folder/empty"
    "$folder/empty/bin/python" -m pip install --quiet --disable-pip-version-check "$file"
    (cd "$folder" && empty/bin/netx-export --help && empty/bin/python -c "import lava_spikeloss, netx_export")
    rm -rf "$folder/empty"
done

if [ -n "${TESTS:-}" ]; then
    tar --extract --file dist/*.tar.gz --directory "$folder"
    cd "$folder"/lava_spikeloss-*
    "$python" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check ".[demo,dev]"
    OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n auto --dist worksteal -m "not slow"
fi
