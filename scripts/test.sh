#!/usr/bin/env bash
# Make the environment, check the style and run the tests. Arguments go to pytest: scripts/test.sh -k schedules
#
# Two workers with a thread each are faster than one with two threads: most tests are of one thread, and the networks
# that are trained are tiny. A file stays with one worker, for what its tests share, and the files that take longest come
# first (tests/conftest.py).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
.venv/bin/ruff check yolo_cosine tests scripts
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec .venv/bin/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder "$@"
