#!/usr/bin/env bash
# Make the environment and train on the embedded data set. Arguments go to the trainer: scripts/quickstart.sh epochs=3
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
exec .venv/bin/python -m yolo_cosine.train --cfg configs/quickstart.yaml "$@"
