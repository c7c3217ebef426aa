"""`python -m yolo_cosine.dataset check`: snapshot, checks, reports."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from yolo_cosine.doctor.html import to_html
from yolo_cosine.doctor.report import examine, to_json
from yolo_cosine.doctor.snapshot import STRIDES, Snapshot, take_snapshot
from yolo_cosine.doctor.text import to_text
from yolo_cosine.errors import UserError

_TELL_EVERY = 5.0  # seconds between two words on how far the reading is


def check(data: str, splits: Sequence[str] | None, imgsz: int, json: Path | None, html: Path | None) -> int:
    """Check a data set, print the report and write it to the files; returns the exit code: 1 with an error, else 0.

    Raises:
        UserError: if the data set cannot be opened, or a report cannot be written where it should.
    """
    if imgsz < max(STRIDES):
        raise UserError(f"--imgsz: {imgsz} is less than the network's coarsest stride; write {max(STRIDES)} or more")
    for path in filter(None, (json, html)):
        if path.is_dir() or not path.absolute().parent.is_dir():
            raise UserError(f"{path}: is a folder, or in one that does not exist; make it, or name another file")
    snapshot = take_snapshot(data, tuple(dict.fromkeys(splits)) if splits else None, imgsz, _Progress())
    for path in filter(None, (json, html)):
        _spare_the_data(path, snapshot)
    report = examine(snapshot)
    print(to_text(report), end="")
    for path, content in ((json, lambda: to_json(report)), (html, lambda: to_html(report, snapshot))):
        if path is not None:
            try:
                path.write_text(content(), encoding="utf-8", errors="replace")  # names of files need not be Unicode
            except OSError as error:
                raise UserError(f"{path}: cannot be written: {error.strerror}; name another file") from None
            print(f"report: {path}")
    return 1 if report.tally()["error"] else 0


def _spare_the_data(path: Path, snapshot: Snapshot) -> None:
    if not path.exists():
        return
    indexes = [split.index for split in snapshot.splits.values()]
    sources = [Path(snapshot.data), *(Path(index.source) for index in indexes)]
    images = {index.path(i).resolve() for index in indexes for i in range(len(index))}
    if path.resolve() in images | {source.resolve() for source in sources}:
        raise UserError(f"{path}: is a file of the data set, which is only read; name another file for the report")


class _Progress:
    """How far the reading is: on a terminal a line that changes, elsewhere a line now and then; short work says nothing."""

    def __init__(self) -> None:
        self._told, self._open = time.monotonic(), False

    def __call__(self, done: int, total: int) -> None:
        terminal, now = sys.stderr.isatty(), time.monotonic()
        if now - self._told >= (0.2 if terminal else _TELL_EVERY):
            self._told, self._open = now, terminal
            start = "\r" if terminal else ""
            print(
                f"{start}{done:,} of {total:,} images read", end="" if terminal else "\n", file=sys.stderr, flush=True
            )
        if self._open and done == total:
            print(file=sys.stderr)
