"""Find a learning rate: `python -m yolo_cosine.find_lr --cfg FILE [key=value ...]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from yolo_cosine.cli import check_output, run_command


def parser() -> argparse.ArgumentParser:
    """The command line of `find_lr`."""
    p = argparse.ArgumentParser(
        prog="python -m yolo_cosine.find_lr",
        description="The learning-rate range test: train from the run's own start while the rate grows, watch the loss, and "
        "suggest lr0. Nothing of the later run is touched: its weights and the order of its images are the same.",
        epilog="Example: python -m yolo_cosine.find_lr --cfg configs/quickstart.yaml --updates 60",
    )
    p.add_argument("--cfg", metavar="FILE", required=True, help="configuration of the run (YAML)")
    p.add_argument("--from", dest="lowest", type=float, default=1e-5, metavar="LR", help="lowest rate (default: 1e-5)")
    p.add_argument("--to", dest="highest", type=float, default=1.0, metavar="LR", help="highest rate (default: 1)")
    p.add_argument("--updates", type=int, default=100, metavar="N", help="updates of the weights (default: 100)")
    p.add_argument(
        "--png", type=Path, default=Path("find_lr.png"), metavar="FILE", help="the chart (default: find_lr.png)"
    )
    p.add_argument("--csv", type=Path, metavar="FILE", help="write lr,loss,smoothed of every update")
    p.add_argument("overrides", nargs="*", metavar="key=value", help="override a key of the configuration")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    p = parser()
    args = p.parse_intermixed_args(argv)
    if not 0 < args.lowest < args.highest < float("inf"):
        p.error(f"--from {args.lowest:g} --to {args.highest:g}: the rates are above 0 and the first is the lower one")
    if args.updates < 20:
        p.error(f"--updates: {args.updates} are too few to see anything; write 20 or more")
    return run_command(lambda: _find(args))


def _find(args: argparse.Namespace) -> int:
    from yolo_cosine.config.load import load_config

    check_output("--png", args.png)
    check_output("--csv", args.csv)
    config = load_config(args.cfg, args.overrides)
    from yolo_cosine.engine.lr_range import Point, lr_range_test, suggest  # only now: torch takes seconds to import
    from yolo_cosine.report.lr_range_figure import write_lr_range_figure

    def progress(point: Point, k: int) -> None:
        if sys.stdout.isatty() or k % 10 == 0:
            print(
                f"\r{k + 1:4}/{args.updates}  lr {point.lr:8.2g}  loss {point.smoothed:8.3f}",
                end="" if sys.stdout.isatty() else "\n",
            )

    points = lr_range_test(config, args.lowest, args.highest, args.updates, progress)
    complete = len(points) == args.updates
    found = suggest(points, complete)
    print(f"\n{len(points)} updates from {args.lowest:g} to {points[-1].lr if points else args.lowest:.2g}")
    print(f"suggestion: lr0={found.lr:.2g}" if found.lr else "no suggestion", f"\nreason: {found.reason}", sep="")
    if args.csv is not None:
        rows = ["lr,loss,smoothed", *(f"{p.lr!r},{p.loss!r},{p.smoothed!r}" for p in points)]
        args.csv.write_text("\n".join(rows) + "\n", encoding="utf-8")
        print(f"table: {args.csv}")
    if points:
        write_lr_range_figure(args.png, points, found, Path(args.cfg).stem)
        print(f"chart: {args.png}")
    return 0 if found.lr else 1


if __name__ == "__main__":
    sys.exit(main())
