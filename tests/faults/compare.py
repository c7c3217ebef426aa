"""What it means that a run ended as the quiet one: all that it leaves behind, but for what a clock says."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event

from yolo_cosine.engine.checkpoint import CheckpointFolder
from yolo_cosine.sinks.jsonl import read_records

_CLOCK = re.compile(r"second|elapsed|^time$")  # names of what a clock says
_COMPARED = ("step", "epoch", "eval", "saved")  # lines of the record
# A run that was resumed tells so, as often as that was.
_OF_A_RESUME = re.compile(r"^(going on after|passed over)")
# What runs beside it do at the time is no part of a run.
_OF_OTHERS = re.compile(r": another process is decoding its images into .*; waiting for it$")

# Which lines `saved` are compared: all; those of the best weights, where a clock decides when else is saved; or only
# that none is there twice, where a signal or a full disk changed what was saved.
Saved = Literal["all", "best", "once"]


@dataclass(frozen=True, eq=False)
class Ending:
    """What a finished run left behind. In the place of what cannot be read is a text that says why (`unreadable`)."""

    checkpoint: dict[str, Any]
    weights: dict[str, dict[str, torch.Tensor]]  # best and last
    record: list[dict[str, Any]]
    scalars: Counter[tuple[str, int, object]]  # in TensorBoard's files: tag, step, value (None where of a clock)
    predictions: list[dict[str, Any]]
    results: list[dict[str, str]]

    @property
    def unreadable(self) -> list[str]:
        """What could not be read, and why."""
        parts = {**vars(self), **{f"weights/{kind}": tensors for kind, tensors in self.weights.items()}}
        return [f"{name} {why}" for name, why in parts.items() if isinstance(why, str)]

    @staticmethod
    def read(run_dir: Path) -> Ending:
        """Everything from a run's folder."""
        return Ending(
            checkpoint=_or_why(newest_state, run_dir),
            weights={kind: _or_why(_tensors, run_dir / f"weights/{kind}.pt") for kind in ("best", "last")},
            record=_or_why(read_records, run_dir / "metrics.jsonl"),
            scalars=_or_why(_scalars, run_dir / "tensorboard"),
            predictions=_or_why(lambda path: json.loads(path.read_text()), run_dir / "predictions.json"),
            results=_or_why(_rows, run_dir / "results.csv"),
        )


def newest_state(run_dir: Path) -> dict[str, Any]:
    """The content of a run's newest whole checkpoint."""
    marked, state, problems = CheckpointFolder(run_dir / "checkpoints").newest()
    if marked is None:
        raise ValueError(f"there is no whole checkpoint{''.join(f'; {p}' for p in problems)}")
    return state


def differences(ours: Ending, quiet: Ending, saved: Saved = "all") -> list[str]:
    """In what two endings differ, in words; empty if in nothing."""
    if ours.unreadable:
        return ours.unreadable
    found = unequal(ours.checkpoint, quiet.checkpoint, "checkpoint")
    found += unequal(ours.weights, quiet.weights, "weights")
    found += record_differences(ours.record, quiet.record, saved)
    found += _scalar_differences(ours.scalars, quiet.scalars)
    found += unequal(ours.predictions, quiet.predictions, "predictions.json")
    found += unequal(ours.results, quiet.results, "results.csv")
    return found


def unequal(ours: object, quiet: object, name: str) -> list[str]:
    """Where two values of plain types and tensors differ in a bit; what a clock says is left out."""
    if isinstance(ours, torch.Tensor) and isinstance(quiet, torch.Tensor):
        same = ours.dtype == quiet.dtype and torch.equal(ours, quiet)
        return [] if same else [f"{name}: the tensors differ"]
    if isinstance(ours, dict) and isinstance(quiet, dict):
        ours, quiet = _without_clocks(ours), _without_clocks(quiet)
        if ours.keys() != quiet.keys():
            return [f"{name}: the keys {sorted(map(str, ours.keys() ^ quiet.keys()))} are in one of the two only"]
        pairs = [(ours[key], quiet[key], f"{name}/{key}") for key in ours]
    elif isinstance(ours, list | tuple) and isinstance(quiet, list | tuple):
        if len(ours) != len(quiet):
            return [f"{name}: {len(ours)} entries in place of {len(quiet)}"]
        pairs = [(a, b, f"{name}/{k}") for k, (a, b) in enumerate(zip(ours, quiet, strict=True))]
    else:
        return [] if ours == quiet else [f"{name}: {str(ours)[:150]} in place of {str(quiet)[:150]}"]
    found = [text for a, b, path in pairs for text in unequal(a, b, path)]
    return found if len(found) <= 3 else [*found[:3], f"{name}: and {len(found) - 3} more"]


def leftovers(run_dir: Path, quiet_dir: Path) -> list[str]:
    """Files that the quiet run did not leave behind, such as temporary ones. Names of event files do not count."""
    ours, quiet = (
        {str(p.relative_to(d)) for p in d.rglob("*") if p.is_file() and not p.name.startswith("events.out")}
        for d in (run_dir, quiet_dir)
    )
    return sorted(ours - quiet)


def _or_why(read: Callable[[Path], Any], path: Path) -> Any:
    try:
        return read(path)
    except Exception as error:
        return f"cannot be read: {type(error).__name__}: {error}"


def _without_clocks(values: dict) -> dict:
    return {key: value for key, value in values.items() if not _CLOCK.search(str(key))}


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, map_location="cpu", weights_only=False)["model"].state_dict()


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _scalars(folder: Path) -> Counter[tuple[str, int, object]]:
    """Every scalar in every event file, as it stands there: nothing of what TensorBoard would leave out is left out."""
    found: Counter[tuple[str, int, object]] = Counter()
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for data in RawEventFileLoader(str(path)).Load():
            event = Event.FromString(data)
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    told = None if _CLOCK.search(value.tag) else value.simple_value
                    # NaN is no key: it equals nothing
                    found[value.tag, event.step, "NaN" if told != told else told] += 1
    if not found:
        raise ValueError("there is no scalar")
    return found


def record_differences(ours: list[dict], quiet: list[dict], saved: Saved = "all") -> list[str]:
    """In what two records differ: steps, epochs, evaluations, what was saved and what was told."""
    steps, wanted = (Counter(r["step"] for r in records if r["event"] == "step") for records in (ours, quiet))
    found = [f"record: step {step} is missing" for step in sorted(wanted - steps)]
    found += [f"record: step {step} is there {count} times" for step, count in sorted(steps.items()) if count > 1]
    lines = Counter(json.dumps(_without_clocks(r), sort_keys=True) for r in ours if r["event"] == "saved")
    found += [f"record: twice the line {line}" for line, count in lines.items() if count > 1]
    if not found:
        a, b = ([_without_clocks(r) for r in records if _is_compared(r, saved)] for records in (ours, quiet))
        first = next((f"{x} in place of {y}" for x, y in zip(a, b, strict=False) if x != y), None)
        if first is not None:
            found.append(f"record: {first}"[:500])
        elif len(a) != len(b):
            found.append(f"record: {len(a)} lines in place of {len(b)}")
    ends = [r["reason"] for r in ours if r["event"] == "end" and r["reason"] in ("finished", "stopped early")]
    if len(ends) != 1:
        found.append(f"record: the run ended {len(ends)} times")
    return found + _notice_differences(ours, quiet)


def _is_compared(record: dict, saved: Saved) -> bool:
    if record["event"] == "saved":
        return saved == "all" or (saved == "best" and record["best"])
    return record["event"] in _COMPARED


def _notice_differences(ours: list[dict], quiet: list[dict]) -> list[str]:
    told, wanted = (
        Counter(r["text"] for r in records if r["event"] == "notice" and not _OF_OTHERS.search(r["text"]))
        for records in (ours, quiet)
    )
    found = [f"record: the notice {text!r} is missing" for text in wanted - told]
    twice = [text for text, count in told.items() if count > max(wanted[text], 1) and not _OF_A_RESUME.match(text)]
    return found + [f"record: the notice {text!r} is there {told[text]} times" for text in twice]


def _scalar_differences(ours: Counter, quiet: Counter) -> list[str]:
    found = []
    places: Counter[tuple[str, int]] = Counter()
    for (tag, step, _), count in ours.items():
        places[tag, step] += count
    twice = sorted(place for place, count in places.items() if count > 1)
    wanted = {(tag, step) for tag, step, _ in quiet}
    missing, more = sorted(wanted - places.keys()), sorted(places.keys() - wanted)
    for text, group in (("more than once", twice), ("not", missing), ("and should not", more)):
        if group:
            shown = ", ".join(f"{tag} at {step}" for tag, step in group[:2])
            found.append(f"tensorboard: {len(group)} scalars are there {text}: {shown}")
    if not found and ours != quiet:
        found.append(f"tensorboard: {len(ours - quiet)} scalars have another value")
    return found
