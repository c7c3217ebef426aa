"""Compare variants of a run over seeds: `python -m yolo_cosine.ablate --cfg FILE [key=value ...]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from yolo_cosine.cli import run_command


def parser() -> argparse.ArgumentParser:
    """The command line of `ablate`."""
    p = argparse.ArgumentParser(
        prog="python -m yolo_cosine.ablate",
        description="Train variants of a run over several seeds, what they have in common once, and say what the numbers "
        "hold: paired differences with intervals, a verdict in words, and a report.",
        epilog="Examples: python -m yolo_cosine.ablate --cfg configs/ablations/schedulers.yaml seeds=5; "
        "python -m yolo_cosine.ablate --compare runs/cosine runs/cosine-2 runs/linear runs/linear-2. "
        "An ablation that was stopped goes on with the command that it was started with.",
    )
    p.add_argument("--cfg", metavar="FILE", help="what is compared (YAML)")
    p.add_argument("--plan", action="store_true", help="with --cfg: say what would be trained, and train nothing")
    p.add_argument("--report", metavar="DIR", help="make the report of an ablation anew, from its records")
    p.add_argument("--compare", metavar="RUN", nargs="+", help="compare single runs, trained anywhere at any time")
    p.add_argument("--out", metavar="DIR", help="with --compare: where the report goes (default: runs/comparison)")
    p.add_argument("--keys", action="store_true", help="list every key of an ablation's file, and stop")
    p.add_argument("overrides", nargs="*", metavar="key=value", help="override a key, as in seeds=5 or set.epochs=20")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    p = parser()
    args = p.parse_intermixed_args(argv)
    if args.compare:  # an override may stand behind an option that takes values
        args.overrides = [*(c for c in args.compare if _is_override(c)), *args.overrides]
        args.compare = [c for c in args.compare if not _is_override(c)]
    ways = [args.cfg is not None, args.report is not None, args.compare is not None, args.keys]
    if sum(ways) != 1:
        p.error("give one of --cfg FILE, --report DIR and --compare RUN RUN ...; configs/ablations has examples")
    if args.plan and args.cfg is None:
        p.error("--plan goes with --cfg FILE")
    if args.out and args.compare is None:
        p.error("--out goes with --compare RUN RUN ...")
    return run_command(lambda: _ablate(args))


def _is_override(text: str) -> bool:
    return "=" in text and not Path(text).exists()


def _ablate(args: argparse.Namespace) -> int:
    if args.keys:
        from yolo_cosine.ablation.spec import AblationKeys
        from yolo_cosine.config.describe import describe_keys

        print(describe_keys(AblationKeys))
        return 0
    if args.cfg is not None:
        from yolo_cosine.ablation.command import plan_only, train_all

        return (plan_only if args.plan else train_all)(args.cfg, args.overrides)
    from yolo_cosine.ablation.command import compare, report_anew

    if args.report is not None:
        return report_anew(args.report, args.overrides)
    return compare(args.compare, args.overrides, args.out)


if __name__ == "__main__":
    sys.exit(main())
