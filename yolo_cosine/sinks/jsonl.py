"""`metrics.jsonl`, the record of a run: one JSON object a line. Reports and `results.csv` are derived from it.

Every line has `event` (start, step, epoch, eval, notice, incident, saved, rewind, replan, end), `step` and `epoch` (both
0-based; null where an event has none) and `time` (seconds since 1970). Scalars stand beside them under their names from
`yolo_cosine.events`. Floats are written as Python's `repr` gives them, so that they come back the same; NaN and
infinities become null.

Steps never fall from line to line. Where a run went back, a `rewind` line stands at the step that it went back to, and
before it what was told on the way there, such as the incident that was the reason, with its own step as `at`.
"""

from __future__ import annotations

import csv
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from yolo_cosine import events
from yolo_cosine.errors import UserError
from yolo_cosine.sinks.appended import AppendedFile, News

Record = dict[str, Any]
Keep = Callable[[Record], Record | None]

# What comes of an evaluation, or after it.
_EVALUATED = {"eval", "saved", "notice", "incident", "replan"}


class JsonlSink:
    """Writes the record of a run to `path`.

    A record that is there already is continued. What it says of steps that are taken again, because a run goes on from a
    checkpoint or went back, is dropped first.

    Raises:
        OSError: if the file cannot be opened.
        UserError: if the file is no record.
    """

    def __init__(self, path: Path) -> None:
        self.news: list[News] = []
        self._path = Path(path)
        self._steps_per_epoch = 1
        self._back_at: int | None = None  # the step that the run went back to, until it is taken
        self._told: set[str] = set()  # notices without a step
        size = 0
        if self._path.exists():
            for offset, line, record in _lines(self._path):
                size = offset + len(line)
                if record["event"] == "notice" and record["step"] is None:
                    self._told.add(record["text"])
        self._file = AppendedFile(self._path, self.news, size)  # without a torn last line

    def handle(self, event: events.Event) -> None:
        match event:
            case events.Saving():
                self._file.sync()  # a run goes on from the checkpoint that follows, and the record must lead up to it
            case events.Rewound():
                self._back_at = event.to_step
                about = {"from_step": event.step, "to_step": event.to_step, "kind": event.kind, "text": event.text}
                self._revise(_behind_a_rewind(event), [self._line("rewind", event.to_step, None, about)])
            case _:
                self._write(event)

    def close(self) -> None:
        self._file.close()

    @property
    def behind(self) -> bool:
        """Whether something that was told is not on file yet."""
        return self._file.behind

    def _write(self, event: events.Event) -> None:
        if isinstance(event, events.RunStarted):
            self._steps_per_epoch = event.steps_per_epoch
            self._revise(_before_a_start(event))
        elif isinstance(event, events.StepDone):
            self._back_at = None
        elif isinstance(event, events.Notice) and event.step is None:
            if event.text in self._told:  # by an earlier process
                return
            self._told.add(event.text)
        record = self._record(event)
        if record is not None:
            self._file.append(_encoded(record))
        if isinstance(event, events.RunEnded):
            self._file.sync()

    def _record(self, event: events.Event) -> Record | None:
        match event:
            case events.StepDone():
                return self._line("step", event.step, event.epoch, _finite(event.scalars))
            case events.EpochDone():
                elapsed = {"elapsed": event.elapsed} if event.elapsed else {}
                scalars = {"seconds": event.seconds, **elapsed, **event.scalars}
                return self._line("epoch", event.step, event.epoch, _finite(scalars))
            case events.Evaluated():
                per_class = {events.CLASS_AP + name: value for name, value in event.per_class.items()}
                scalars = _finite({**event.scalars, **per_class})
                return self._line("eval", event.step, event.epoch, {**scalars, "best": event.best})
            case events.Notice():
                return self._line("notice", event.step, None, {"text": event.text, "warning": event.warning})
            case events.Incident():
                return self._line("incident", event.step, None, {"kind": event.kind, "text": event.text})
            case events.Replanned():
                return self._line("replan", event.step, event.epoch, {"epochs": event.epochs, "text": event.text})
            case events.Saved():
                # relative, so that the folder of a run can be moved
                path = os.path.relpath(event.path, self._path.parent)
                epoch = event.step // self._steps_per_epoch
                return self._line("saved", event.step, epoch, {"path": path, "best": event.best})
            case events.RunStarted():
                epoch = event.start_step // event.steps_per_epoch
                names = ("config", "names", "groups", "losses", "epochs", "steps_per_epoch", "batch", "facts")
                about = {name: getattr(event, name) for name in names}
                return self._line("start", event.start_step, epoch, _finite(about))
            case events.RunEnded():
                names = ("reason", "seconds", "best", "best_epoch", "best_per_class", "detail")
                about = {name: getattr(event, name) for name in names}
                return self._line("end", event.step, event.epoch, _finite(about))
        return None

    def _line(self, kind: str, step: int | None, epoch: int | None, rest: Mapping[str, Any]) -> Record:
        record = {"event": kind, "step": step, "epoch": epoch, "time": time.time(), **rest}
        back = self._back_at
        return record if back is None or step is None or step <= back else _moved(record, back)

    def _revise(self, keep: Keep, added: Iterable[Record] = ()) -> None:
        """Ask `keep` what becomes of each line: the record as it is, another one in its place, or None; then add lines."""
        start, tail = None, []
        waiting = ((offset, line, json.loads(line)) for offset, line in self._file.waiting)
        for offset, line, record in chain(_lines(self._path), waiting):
            kept = keep(record)
            if start is None and kept is not record:
                start = offset  # up to here all stays, which is nearly everything
            if start is not None and kept is not None:
                tail.append(line if kept is record else _encoded(kept))
        tail += [_encoded(record) for record in added]
        if start is not None:
            self._file.rewrite_from(start, tail)
        else:
            for line in tail:
                self._file.append(line)


def _before_a_start(event: events.RunStarted) -> Keep:
    """What stays when a process begins with `event`: all before its first step that it does not tell again."""
    last, taken = event.start_step - 1 if event.last_step is None else event.last_step, False

    def keep(record: Record) -> Record | None:
        nonlocal taken
        step, kind = record["step"], record["event"]
        if step is None or step < last:
            return record
        if step > last:
            return None
        taken = taken or kind == "step"
        ended = kind == "end" and record["reason"] in {"finished", "stopped early"}  # it ends anew, or is made longer
        again = kind == "saved" or ended or (event.evaluation_due and taken and kind in _EVALUATED)
        return None if again else record

    return keep


def _behind_a_rewind(event: events.Rewound) -> Keep:
    """What stays when the run goes back: all before that step, and of what came then that which explains it."""

    def keep(record: Record) -> Record | None:
        step, kind = record["step"], record["event"]
        if step is None or step < event.to_step:
            return record
        explains = kind in {"incident", "rewind", "start", "end"} or "at" in record
        explains = explains or (kind == "notice" and (record["warning"] or step >= event.step))
        return _moved(record, event.to_step) if explains else None

    return keep


def _moved(record: Record, step: int) -> Record:
    """The record under another step, so that the steps never fall; its own is `at`."""
    return {**record, "step": step, "at": record.get("at", record["step"])}


def _encoded(record: Record) -> bytes:
    return (json.dumps(record, default=_plain, allow_nan=False) + "\n").encode()


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
    return [record for _, _, record in _lines(Path(path))]


def _lines(path: Path) -> Iterator[tuple[int, bytes, Record]]:
    """Offset, bytes and record of every whole line."""
    offset = 0
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):  # torn
                    return
                try:
                    record = json.loads(line)
                    if not (isinstance(record, dict) and {"event", "step", "epoch", "time"} <= record.keys()):
                        raise ValueError("it lacks event, step, epoch or time")
                except ValueError as error:
                    raise UserError(
                        f"{path}:{number}: is no record of a run: {error}; remove that line to read the rest"
                    ) from None
                yield offset, line, record
                offset += len(line)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; name the folder of a run") from None


def write_results_csv(records: Iterable[Record] | Path | str, csv_path: Path) -> None:
    """Write one row an epoch, derived from the record (or the path of `metrics.jsonl`).

    Columns: `epoch` (1-based), `step` (its last, 0-based), `seconds` that the run had taken, the epoch's losses
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
            by_the_clock = record["time"] - start.get("time", record["time"])  # of a record without `elapsed`
            seconds = round(record.get("elapsed", by_the_clock), 3)
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
