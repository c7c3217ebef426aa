"""Train a detector: `python -m yolo_cosine.train --cfg FILE [key=value ...]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

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
    p.add_argument("overrides", nargs="*", metavar="key=value", help="override a key, as in lr0=0.02")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    p = parser()
    args = p.parse_intermixed_args(argv)
    return run_command(lambda: _train(p, args))


def _train(p: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    if args.keys or args.schema:
        from yolo_cosine.config.describe import describe_keys, schema_text

        print(schema_text() if args.schema else describe_keys())
        return 0
    if args.cfg is None:
        p.error("--cfg FILE is needed; configs/quickstart.yaml trains on the embedded data set")
    from yolo_cosine.config.load import load_config

    config = load_config(args.cfg, args.overrides)
    from yolo_cosine.engine.run import train  # only now: torch takes seconds to import

    train(config)
    return 0


if __name__ == "__main__":
    sys.exit(main())
