"""`metrics.jsonl`, the record of a run: one JSON object a line. Reports and `results.csv` are derived from it.

Every line has `event` (start, step, epoch, eval, notice, saved, end), `step` and `epoch` (both 0-based; null where an
event has none) and `time` (seconds since 1970). Scalars stand beside them under their names from `yolo_cosine.events`.
Floats are written as Python's `repr` gives them, so that they come back the same; NaN and infinities become null.
"""

from __future__ import annotations

import csv
import json
import math
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from yolo_cosine import events
from yolo_cosine.errors import UserError

Record = dict[str, Any]


class JsonlSink:
    """Writes the record of a run to `path`.

    A record that is there already is continued: what it says of the steps from `start_step` on is dropped when the run
    starts, for a resumed run takes those steps again.

    Raises:
        OSError: if the file cannot be opened.
        UserError: if the file is no record.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(path)
        self._steps_per_epoch = 1
        # buffering by line: a run that is killed loses no step, and a write of a line costs a microsecond or two
        self._file = self._reopen(read_records(self._path) if self._path.exists() else [])

    def handle(self, event: events.Event) -> None:
        if isinstance(event, events.RunStarted):
            self._steps_per_epoch = event.steps_per_epoch
            self._forget_from(event.start_step)
        record = self._record(event)
        if record is None:
            return
        self._file.write(json.dumps(record, default=_plain, allow_nan=False) + "\n")
        if isinstance(event, events.EpochDone | events.Evaluated | events.RunEnded):
            # the checkpoint that follows is on disk for good, and so must be the record up to it
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def _record(self, event: events.Event) -> Record | None:
        match event:
            case events.StepDone():
                return self._line("step", event.step, event.epoch, _finite(event.scalars))
            case events.EpochDone():
                scalars = {"seconds": event.seconds, **event.scalars}
                return self._line("epoch", event.step, event.epoch, _finite(scalars))
            case events.Evaluated():
                per_class = {events.CLASS_AP + name: value for name, value in event.per_class.items()}
                scalars = _finite({**event.scalars, **per_class})
                return self._line("eval", event.step, event.epoch, {**scalars, "best": event.best})
            case events.Notice():
                return self._line("notice", event.step, None, {"text": event.text, "warning": event.warning})
            case events.Saved():
                # relative, so that the folder of a run can be moved
                path = os.path.relpath(event.path, self._path.parent)
                epoch = event.step // self._steps_per_epoch
                return self._line("saved", event.step, epoch, {"path": path, "best": event.best})
            case events.RunStarted():
                epoch = event.start_step // event.steps_per_epoch
                about = {
                    name: getattr(event, name)
                    for name in ("config", "names", "groups", "losses", "epochs", "steps_per_epoch", "batch", "facts")
                }
                return self._line("start", event.start_step, epoch, _finite(about))
            case events.RunEnded():
                about = {
                    name: getattr(event, name)
                    for name in ("reason", "seconds", "best", "best_epoch", "best_per_class", "detail")
                }
                return self._line("end", event.step, event.epoch, _finite(about))
        return None

    @staticmethod
    def _line(kind: str, step: int | None, epoch: int | None, rest: Mapping[str, Any]) -> Record:
        return {"event": kind, "step": step, "epoch": epoch, "time": time.time(), **rest}

    def _forget_from(self, step: int) -> None:
        records = read_records(self._path)
        kept = [r for r in records if r["step"] is None or r["step"] < step]
        if len(kept) < len(records):
            self._file.close()
            self._file = self._reopen(kept)

    def _reopen(self, kept: list[Record]) -> TextIO:
        """Open the file to append to exactly the records `kept`; a torn last line is gone."""
        if kept:
            beside = self._path.with_name(self._path.name + ".part")
            beside.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
            os.replace(beside, self._path)
        return open(self._path, "a" if kept else "w", encoding="utf-8", buffering=1)


def _finite(value: Any) -> Any:
    """The value with null for every float that JSON cannot write; mappings and sequences throughout."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _plain(value: Any) -> Any:
    """What `json` asks for a value that it does not know: numpy scalars as numbers, all else (paths) as text."""
    return _finite(value.item()) if hasattr(value, "item") else str(value)


def read_records(path: Path) -> list[Record]:
    """Read `metrics.jsonl`. A last line that was torn off, as by a power cut, is left out.

    Raises:
        UserError: if the file cannot be read, or a line before the last is no record.
    """
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; name the folder of a run") from None
    records = []
    for number, line in enumerate(lines[:-1], 1):  # what follows the last newline is nothing or torn
        try:
            record = json.loads(line)
            if not (isinstance(record, dict) and {"event", "step", "epoch", "time"} <= record.keys()):
                raise ValueError("it lacks event, step, epoch or time")
        except ValueError as error:
            raise UserError(
                f"{path}:{number}: is no record of a run: {error}; remove that line to read the rest"
            ) from None
        records.append(record)
    return records


def write_results_csv(records: Iterable[Record] | Path | str, csv_path: Path) -> None:
    """Write one row an epoch, derived from the record (or the path of `metrics.jsonl`).

    Columns: `epoch` (1-based), `step` (its last, 0-based), `seconds` since the run first started, the epoch's losses
    and images per second, learning rates and momentum as applied at its last step, and the metrics of its last
    evaluation. A cell is empty where there is no number.

    Raises:
        UserError: if the record cannot be read.
    """
    if isinstance(records, str | Path):
        records = read_records(Path(records))
    start: Record = {}
    rows: dict[int, Record] = {}
    last_step: Record = {}
    for record in records:
        kind, epoch = record["event"], record["epoch"]
        if kind == "start":
            start = {**record, "time": start.get("time", record["time"])}
        elif kind == "step":
            last_step = record
        elif kind == "epoch":
            seconds = round(record["time"] - start.get("time", record["time"]), 3)
            own = {"epoch": epoch + 1, "seconds": seconds}
            rows[epoch] = {**last_step, **rows.get(epoch, {}), **record, **own}
        elif kind == "eval":
            metrics = {name: record[name] for name in _EVALUATION if name in record}
            rows[epoch] = {**rows.get(epoch, {}), **metrics}
    columns = _columns(start)
    with open(csv_path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", restval="", lineterminator="\n")
        writer.writeheader()
        # an epoch that was cut short may have been evaluated, and has no row
        writer.writerows(rows[epoch] for epoch in sorted(rows) if "epoch" in rows[epoch])


_EVALUATION = (*events.COCO_METRICS, events.PRECISION, events.RECALL, events.EVAL_SECONDS)


def _columns(start: Record) -> list[str]:
    losses = [events.EPOCH_LOSS + name for name in start.get("losses", ())]
    rates = [events.LR + group for group in start.get("groups", ())]
    return ["epoch", "step", "seconds", *losses, events.IMAGES_PER_SECOND, *rates, events.MOMENTUM, *_EVALUATION]
