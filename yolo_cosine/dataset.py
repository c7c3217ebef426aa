"""Work on data sets: `python -m yolo_cosine.dataset fetch`, `check` or `convert`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from yolo_cosine.cli import run_command


def parser() -> argparse.ArgumentParser:
    """The command line of `dataset`."""
    p = argparse.ArgumentParser(prog="python -m yolo_cosine.dataset", description="Work on data sets.")
    commands = p.add_subparsers(dest="command", required=True, metavar="COMMAND")
    fetch = commands.add_parser(
        "fetch",
        help="download a data set",
        description="Download and unpack what the fetch: list of a data set's YAML names. A download that broke off is "
        "resumed, what is there already stays.",
        epilog="Example: python -m yolo_cosine.dataset fetch coco128",
    )
    fetch.add_argument("data", metavar="NAME_OR_YAML", help="coco128, coco, voc, shapes (generated), or a YAML file")
    fetch.add_argument("--to", type=Path, metavar="DIR", help="folder of the data set, instead of the YAML's path:")
    fetch.add_argument("--keep", action="store_true", help="keep the archives after they are unpacked")
    fetch.set_defaults(work=_fetch)
    check = commands.add_parser(
        "check",
        help="look for what is wrong with a data set",
        description="Read every annotation and every image once, and report what is wrong or odd, what training does about "
        "it, and what to do. The data set's files are only read.",
        epilog="Exit code: 0 with nothing worse than warnings; 1 with an error, which is what makes training lose images "
        "or metrics wrong (files that are missing or damaged, wrong sizes, images in two splits); 2 for a mistake in the "
        "command, or in the data set so that it cannot be opened. Example: "
        "python -m yolo_cosine.dataset check data/bccd.yaml --html report.html",
    )
    check.add_argument("data", metavar="DATA", help="what a configuration names as data: a YAML file, a folder, a name")
    check.add_argument(
        "--split",
        action="append",
        choices=("train", "val", "test"),
        help="only this split; may be repeated (default: all)",
    )
    check.add_argument(
        "--imgsz", type=int, default=640, metavar="N", help="size to judge the boxes at, pixels (default: 640)"
    )
    check.add_argument("--json", type=Path, metavar="FILE", help="write the report with all cases as JSON")
    check.add_argument("--html", type=Path, metavar="FILE", help="write the report with pictures as one HTML file")
    check.set_defaults(work=_check)
    _add_convert(commands)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = parser().parse_args(argv)
    return run_command(lambda: args.work(args))


def _fetch(args: argparse.Namespace) -> int:
    if args.data == "shapes":
        from yolo_cosine.data.shapes import ensure_shapes

        print(ensure_shapes(args.to))
        return 0
    from yolo_cosine.fetch.dataset import fetch, find_data_yaml
    from yolo_cosine.fetch.progress import reporter

    yaml = find_data_yaml(args.data)
    with reporter() as report:
        root = fetch(yaml, report, root=args.to, keep=args.keep)
    print(f"{yaml}: complete in {root}")
    if args.to is not None:
        print(f"To train on it there, let `path:` in {yaml} name that folder.")
    return 0


def _add_convert(commands: argparse._SubParsersAction) -> None:
    convert = commands.add_parser(
        "convert",
        help="write a data set in another form",
        description="Write a data set as COCO JSON, YOLO txt or Pascal VOC into a new folder, without loss. The data set "
        "is only read.",
        epilog="Example: python -m yolo_cosine.dataset convert my_data.yaml --to yolo --out my_data_yolo",
    )
    convert.add_argument("data", metavar="DATA", help="a YAML file, a folder in COCO's layout, or a name")
    convert.add_argument("--to", choices=("coco", "yolo", "voc"), required=True, help="the form")
    convert.add_argument("--out", type=Path, metavar="DIR", required=True, help="a new or empty folder")
    convert.add_argument(
        "--images",
        choices=("link", "copy", "none"),
        default="link",
        help="link: hard links, or copies where there are none (default); copy; none: annotations alone",
    )
    convert.set_defaults(work=_convert)


def _convert(args: argparse.Namespace) -> int:
    from yolo_cosine.convert.convert import NOT_CARRIED, convert

    done = convert(args.data, args.to, args.out, args.images)
    print("\n".join((*done.notes, NOT_CARRIED)))
    if args.images == "none":
        print(f"The images are not there: put them where {done.yaml} says.")
    print(f"{done.yaml}: complete; train on it with data={done.yaml}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from yolo_cosine.doctor.command import check

    return check(args.data, args.split, args.imgsz, args.json, args.html)


if __name__ == "__main__":
    sys.exit(main())
