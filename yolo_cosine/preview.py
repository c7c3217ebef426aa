"""Look at a schedule before training: `python -m yolo_cosine.preview --cfg FILE [FILE ...] [key=value ...]`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from yolo_cosine.cli import check_output, run_command


def parser() -> argparse.ArgumentParser:
    """The command line of `preview`."""
    p = argparse.ArgumentParser(
        prog="python -m yolo_cosine.preview",
        description="Show the learning rates and momentum of a run before it starts: phases in words, a chart here and "
        "as PNG, every step as CSV. Several configurations are overlaid. --from turns another trainer's schedule into "
        "YAML.",
        epilog="Examples: python -m yolo_cosine.preview --cfg configs/quickstart.yaml lrf=0.1; "
        "python -m yolo_cosine.preview --from transformers.cosine lr0=0.01 num_warmup_steps=500 num_training_steps=9000",
    )
    p.add_argument("--cfg", metavar="FILE", nargs="+", default=[], help="configurations of runs (YAML)")
    p.add_argument("--from", dest="native", metavar="PEER.SCHEDULE", help="print a peer's schedule as YAML")
    p.add_argument("--csv", metavar="FILE", nargs="?", const="-", help="write every step as CSV (to the terminal: -)")
    p.add_argument(
        "--png", metavar="FILE", default="preview.png", help="the chart (default: preview.png; none for none)"
    )
    p.add_argument(
        "--steps-per-epoch", type=int, metavar="N", help="batches in an epoch, instead of asking the data set"
    )
    p.add_argument("overrides", nargs="*", metavar="key=value", help="override a key, or give an argument for --from")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    p = parser()
    args = p.parse_intermixed_args(argv)
    # an override may stand behind an option that takes values
    if args.csv and "=" in args.csv:
        args.overrides, args.csv = [args.csv, *args.overrides], "-"
    args.overrides = [*(c for c in args.cfg if "=" in c), *args.overrides]
    args.cfg = [c for c in args.cfg if "=" not in c]
    if bool(args.cfg) == bool(args.native):
        p.error("--cfg FILE or --from PEER.SCHEDULE is needed, one of them")
    if args.steps_per_epoch is not None and not 1 <= args.steps_per_epoch <= 10**9:
        p.error(f"--steps-per-epoch: {args.steps_per_epoch} is no number of batches; write 1 to {10**9}")
    return run_command(lambda: _translate(args) if args.native else _preview(args))


def _translate(args: argparse.Namespace) -> int:
    from yolo_cosine.config.load import parse_overrides
    from yolo_cosine.schedules.translate import translate

    print(translate(args.native, parse_overrides(args.overrides)), end="")
    return 0


def _preview(args: argparse.Namespace) -> int:
    from yolo_cosine.config.load import load_config
    from yolo_cosine.report.terminal_chart import terminal_chart
    from yolo_cosine.schedules.describe import in_words
    from yolo_cosine.schedules.table import SchedulePlan, csv_header, csv_rows

    check_output("--csv", None if args.csv == "-" else args.csv)
    if args.csv != "-":
        check_output("--png", None if args.png == "none" else args.png)
    plans: list[SchedulePlan] = []
    for path in args.cfg:
        config = load_config(path, args.overrides)
        per_epoch = args.steps_per_epoch or _steps_per_epoch(config)
        plans.append(SchedulePlan.of(config, per_epoch, _name(path, args.cfg)))

    if args.csv == "-" and len(plans) > 1:
        from yolo_cosine.errors import UserError

        raise UserError("--csv: several configurations do not go into one table; name a file, and each gets its own")
    if args.csv is not None:
        for plan in plans:
            lines = [",".join(csv_header(plan)), *csv_rows(plan)]
            _write_csv(args.csv, lines, plan.name if len(plans) > 1 else None)
        if args.csv == "-":
            return 0
    for plan in plans:
        config = plan.config
        print(
            f"{plan.name}: {config.epochs} epochs of {plan.steps_per_epoch} steps, {plan.schedule.steps} in all, lr0={config.lr0:g}"
        )
        for groups, schedule in plan.distinct():
            print(f"  learning rate of {', '.join(groups)}")
            base = plan.base(groups[0])
            for line in in_words(schedule, plan.schedule.steps, plan.steps_per_epoch, base):
                print(f"    {line}")
        for name, series in (("momentum", plan.schedule.momentum), ("batches in an update", plan.schedule.accumulate)):
            first, last = series(0), series(plan.schedule.steps - 1)
            print(f"  {name}: " + (f"{first:g}" if first == last else f"{first:g} to {last:g}"))
        for note in plan.schedule.notes:
            print(f"  note: {note}")
    print(terminal_chart([(plan.name, plan.lines()) for plan in plans]))
    if args.png != "none":
        from yolo_cosine.report.preview_figure import write_preview_figure

        write_preview_figure(Path(args.png), plans)
        print(f"chart: {args.png}")
    return 0


def _steps_per_epoch(config) -> int:
    """Batches in an epoch of the configuration's data set, counted from its index; no image is opened."""
    from yolo_cosine.data.dataset import open_dataset
    from yolo_cosine.data.places import images_folder
    from yolo_cosine.errors import UserError

    try:
        images = len(open_dataset(config.data, folder=images_folder(config)).splits["train"])
    except UserError as error:
        raise UserError(f"{error}\nto look at the schedule without the data, add --steps-per-epoch N") from None
    return -(-images // config.batch)


def _name(path: str, paths: Sequence[str]) -> str:
    stems = [Path(p).stem for p in paths]
    return Path(path).stem if stems.count(Path(path).stem) == 1 else str(Path(path).with_suffix(""))


def _write_csv(target: str, lines: list[str], name: str | None) -> None:
    from yolo_cosine.errors import UserError

    text = "\n".join(lines) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    path = Path(target)
    if name is not None:
        path = path.with_name(f"{path.stem}-{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}{path.suffix}")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--csv: {path} cannot be written: {error.strerror}; name another file") from None
    print(f"table: {path}")


if __name__ == "__main__":
    sys.exit(main())
