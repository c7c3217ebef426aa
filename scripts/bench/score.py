"""COCO metrics of checkpoints: `python -m bench.score SPEC RESULT STARTED`, begun by `bench.launch`.

It is what `python -m yolo_cosine.val` does, for several checkpoints in one process, in float32.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(spec_path: str, result: str, started: str) -> int:
    """Evaluate the checkpoints of SPEC in order, up to one whose mAP50-95 is at least `until` (null: all)."""
    from yolo_cosine import events
    from yolo_cosine.config.explain import validate
    from yolo_cosine.config.schema import ValConfig
    from yolo_cosine.engine.validate import evaluate_checkpoint

    with open(spec_path, encoding="utf-8") as file:
        spec = json.load(file)
    keys = {"data": spec["data"], "imgsz": spec["imgsz"], "batch": spec["batch"], "device": spec["device"]}
    # the checkpoints were made by this benchmark
    config = validate({**keys, "precision": "fp32", "trust_weights": True}, "benchmark", ValConfig)
    scores = []
    for weights in spec["weights"]:
        _, report, _ = evaluate_checkpoint(weights, config, "val", True, lambda *said: None, lambda event: None)
        scores.append({name: report.scalars[name] for name in (events.MAP, events.MAP50)})
        if spec["until"] is not None and scores[-1][events.MAP] >= spec["until"]:
            break
    Path(result).write_text(json.dumps({"scores": scores}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
