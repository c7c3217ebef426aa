#!/usr/bin/env bash
# Make the environment, check the style and run the tests. Arguments go to pytest: scripts/test.sh -k schedules
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
.venv/bin/ruff check yolo_cosine tests scripts
exec .venv/bin/python -m pytest "$@"
