"""Train a detector: `python -m yolo_cosine.train --cfg FILE [key=value ...]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from yolo_cosine.cli import run_command


def parser() -> argparse.ArgumentParser:
    """The command line of `train`."""
    p = argparse.ArgumentParser(
        prog="python -m yolo_cosine.train",
        description="Train a YOLO detector from one YAML file. Any key of the file can be overridden as key=value.",
        epilog="Example: python -m yolo_cosine.train --cfg configs/quickstart.yaml epochs=5 lr0=0.02",
    )
    p.add_argument("--cfg", metavar="FILE", help="configuration of the run (YAML)")
    p.add_argument("--keys", action="store_true", help="list every key with its default and meaning, and stop")
    p.add_argument("--schema", action="store_true", help="print the JSON Schema of the configuration, and stop")
    p.add_argument(
        "--resume",
        metavar="RUN_DIR",
        nargs="?",
        const="",
        help="go on with a run from its last checkpoint (the newest run)",
    )
    p.add_argument(
        "--extend",
        choices=("stretch", "continue", "restart"),
        help="with --resume and a larger epochs: what the curve does",
    )
    p.add_argument(
        "--branch", metavar="RUN_OR_CHECKPOINT", help="a new run that begins there and decays until epochs=..."
    )
    p.add_argument("overrides", nargs="*", metavar="key=value", help="override a key, as in lr0=0.02")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    p = parser()
    args = p.parse_intermixed_args(argv)
    if args.resume and "=" in args.resume:  # an override behind a bare --resume
        args.overrides, args.resume = [args.resume, *args.overrides], ""
    return run_command(lambda: _train(p, args))


def _train(p: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    if args.keys or args.schema:
        from yolo_cosine.config.describe import describe_keys, schema_text

        print(schema_text() if args.schema else describe_keys())
        return 0
    ways = [args.cfg is not None, args.resume is not None, args.branch is not None]
    if sum(ways) > 1:
        p.error("--cfg begins a run, --resume goes on with one and --branch starts one from another; give one of them")
    if args.extend and args.resume is None:
        p.error("--extend goes with --resume RUN_DIR epochs=...")
    if not any(ways):
        p.error("--cfg FILE is needed; configs/quickstart.yaml trains on the embedded data set")
    from yolo_cosine.config.load import load_config, parse_overrides

    config = load_config(args.cfg, args.overrides, auto_batch=True) if args.cfg is not None else None
    from yolo_cosine.engine.run import train  # only now: torch takes seconds to import
    from yolo_cosine.engine.start import after_restart, from_other, from_run

    if (begun := after_restart()) is None:
        if args.resume is not None:
            root = Path(str(parse_overrides(args.overrides).get("runs", "runs")))
            begun = from_run(args.resume, root, args.overrides, args.extend)
        elif args.branch is not None:
            begun = from_other(args.branch, args.overrides)
        else:
            begun = config, None
    train(*begun)
    return 0


if __name__ == "__main__":
    sys.exit(main())
