"""Evaluate a checkpoint: `python -m yolo_cosine.val --weights FILE --data FILE [key=value ...]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from yolo_cosine.cli import check_output, run_command

if TYPE_CHECKING:
    from yolo_cosine.evaluate import Report


def parser() -> argparse.ArgumentParser:
    """The command line of `val`."""
    p = argparse.ArgumentParser(
        prog="python -m yolo_cosine.val",
        description="Evaluate a checkpoint by the official COCO metrics.",
        epilog="Keys: imgsz (default: the checkpoint's), batch, conf, iou, max_det, nms, device, precision, workers, cache, cache_dir. "
        "Example: python -m yolo_cosine.val --weights runs/quickstart/weights/best.pt --data shapes",
    )
    p.add_argument(
        "--weights", metavar="FILE", required=True, help="an Ultralytics checkpoint, such as weights/best.pt"
    )
    p.add_argument(
        "--data", metavar="FILE", required=True, help="data set: a YAML file, a folder in COCO's layout, or a name"
    )
    p.add_argument("--split", default="val", choices=("train", "val", "test"), help="which split (default: val)")
    p.add_argument("--predictions", metavar="FILE", help="write the detections as COCO results (JSON)")
    p.add_argument("--json", metavar="FILE", help="write the metrics as JSON")
    p.add_argument("overrides", nargs="*", metavar="key=value", help="override a key, as in conf=0.01")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = parser().parse_intermixed_args(argv)
    return run_command(lambda: _val(args))


def format_report(report: Report) -> str:
    """The figures as a table for people."""
    lines = [f"{name.removeprefix('metrics/'):<24}{value:>8.4f}" for name, value in report.scalars.items()]
    lines += ["", f"{'class':<24}AP50-95"]
    return "\n".join([*lines, *(f"{name:<24}{value:>7.4f}" for name, value in report.per_class.items())])


def _val(args: argparse.Namespace) -> int:
    from yolo_cosine.config.load import parse_overrides, validate
    from yolo_cosine.config.schema import ValConfig

    for option in ("predictions", "json"):
        check_output(f"--{option}", getattr(args, option))
    given = parse_overrides(args.overrides)
    config = validate({"data": args.data, **given}, "command line", ValConfig)

    from yolo_cosine.engine.validate import evaluate_checkpoint
    from yolo_cosine.evaluate import write_predictions
    from yolo_cosine.sinks.console import ConsoleSink

    console = ConsoleSink(sys.stderr)
    try:
        index, report, found = evaluate_checkpoint(
            args.weights, config, args.split, "imgsz" in given, _tell, console.handle
        )
    finally:
        console.close()
    print(format_report(report))
    if args.predictions:
        write_predictions(Path(args.predictions), index, found)
    if args.json:
        per_class = {name: None if value != value else value for name, value in report.per_class.items()}
        text = json.dumps({"metrics": report.scalars, "AP50-95": per_class}, indent=1)
        Path(args.json).write_text(text, encoding="utf-8")
    return 0


def _tell(text: str, warning: bool) -> None:
    print(("warning: " if warning else "") + text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
