"""What the end of a run's `metrics.jsonl` says, while it is being written."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

_FIRST, _MOST = 1 << 14, 1 << 22  # bytes of the tail: as many as are read at first, and at most


def last_record(path: Path, event: str) -> dict[str, Any] | None:
    """The last whole line of a kind (`step`, `eval`); None where there is none, no file, or none for a long stretch.

    Only the end of the file is read, whatever its size. Lines that are torn, or are none of a record's, are passed over.
    """
    start = f'{{"event": "{event}"'.encode()
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            length = _FIRST
            while True:
                begin = max(size - length, 0)
                file.seek(begin)
                lines = file.read(size - begin).split(b"\n")[:-1]  # what is behind the last newline is torn
                for line in reversed(lines if begin == 0 else lines[1:]):
                    if line.startswith(start) and (record := _parsed(line)) is not None:
                        return record
                if begin == 0 or length >= _MOST:
                    return None
                length *= 8
    except OSError:
        return None


def steps_taken(path: Path) -> int | None:
    """The number of steps that a record has come to; None where it has none."""
    record = last_record(path, "step")
    return None if record is None or not isinstance(record.get("step"), int) else record["step"] + 1


def end_value(path: Path, metric: str, best: bool) -> float:
    """A metric of a run that has ended: of its last evaluation, or the best of all; NaN where there is none."""
    if not best:
        return _value(last_record(path, "eval"), metric)
    found = float("nan")
    try:
        with open(path, "rb") as file:
            for line in file:
                if line.startswith(b'{"event": "eval"'):
                    found = max(_value(_parsed(line), metric), found, key=lambda v: -math.inf if math.isnan(v) else v)
    except OSError:
        pass
    return found


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _value(record: dict[str, Any] | None, metric: str) -> float:
    value = (record or {}).get(metric)
    return float(value) if isinstance(value, int | float) and value >= 0 else float("nan")
