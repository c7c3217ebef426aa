#!/usr/bin/env bash
# Make the environment in .venv: the package as an editable install, with its tests' tools, at the pinned versions.
# PYTHON chooses the interpreter (3.10 or newer); where .venv is of another one, it is made anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    echo "error: $("$python" --version 2>&1) is too old; set PYTHON to an interpreter of 3.10 or newer" >&2
    exit 2
fi
stamp=.venv/.installed
which='import sys; print(sys.version, sys.base_prefix)'
if [ -n "${PYTHON:-}" ] && [ -e "$stamp" ] &&
    [ "$("$python" -c "$which")" != "$(.venv/bin/python -c "$which" 2> /dev/null)" ]; then
    "$python" -m venv --clear .venv # and no stamp in it
fi
if [ ! -e "$stamp" ] || [ constraints.txt -nt "$stamp" ] || [ pyproject.toml -nt "$stamp" ]; then
    # one that was interrupted halfway has no pip
    .venv/bin/python -m pip --version > /dev/null 2>&1 || "$python" -m venv --clear .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
    # The OpenCV that Ultralytics asks for links a desktop's libraries. Where they are missing, as in a container, the
    # headless build of the same version takes its place.
    if ! .venv/bin/python -c 'import cv2' 2> /dev/null; then
        version=$(.venv/bin/python -c 'from importlib.metadata import version; print(version("opencv-python"))')
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps \
            "opencv-python-headless==$version"
    fi
    touch "$stamp"
fi
