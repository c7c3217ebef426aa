"""The runs of an ablation as their records tell them: from `metrics.jsonl` and what else a run's folder holds."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yolo_cosine import events
from yolo_cosine.ablation.incidents import incidents
from yolo_cosine.ablation.results import Evaluation, ImageInterval, RunResult, Select, State
from yolo_cosine.ablation.thin import thinned
from yolo_cosine.config.yaml_text import read_yaml
from yolo_cosine.errors import UserError
from yolo_cosine.files import IMAGE_INTERVALS
from yolo_cosine.sinks.jsonl import Record, read_records

_SCALARS = (*events.COCO_METRICS, events.PRECISION, events.RECALL)
_WHOLE = {"finished", "stopped early"}


def read_run(run_dir: Path, variant: str, seed: int, select: Select) -> RunResult:
    """One run, from its folder. A folder that holds no record of a run yet is one that waits.

    A record that cannot be read makes a failed run, which says so, and not an error: the others can still be compared.

    Args:
        select: which evaluation counts: the one after the last step, or that of `weights/best.pt`.
    """
    run_dir = Path(run_dir)
    path = run_dir / "metrics.jsonl"
    try:
        records = read_records(path) if path.is_file() else []
    except UserError as error:
        return RunResult(variant, seed, run_dir, "failed", str(error))
    starts = [r for r in records if r["event"] == "start"]
    if not starts:
        return RunResult(variant, seed, run_dir, "waiting")
    last, own = starts[-1], _own_start(starts)
    state, detail = _state(records)
    steps = [r for r in records if r["event"] == "step"]
    evaluations = [r for r in records if r["event"] == "eval"]
    epochs = [r for r in records if r["event"] == "epoch"]
    chosen = _chosen(steps, evaluations, select) if state in _WHOLE else None
    if state in _WHOLE and chosen is None:
        detail = "it has no evaluation that counts"
    lr_steps, lr = _rates(last, steps)
    replans = [r["epochs"] for r in records[records.index(last) :] if r["event"] == "replan"]
    spe = last["steps_per_epoch"]
    return RunResult(
        variant=variant, seed=seed, run_dir=run_dir, state=state, detail=detail,
        incidents=incidents(records), chosen=chosen and _evaluation(chosen),
        evaluations=tuple(map(_evaluation, evaluations)), lr_steps=lr_steps, lr=lr,
        loss_steps=_column(epochs, "step"),
        losses={name: _column(epochs, events.EPOCH_LOSS + name) for name in last["losses"]},
        steps_per_epoch=spe, steps=(replans or [last["epochs"]])[-1] * spe, steps_done=len(steps),
        forked_at=own["step"] if own is not starts[0] else 0,
        seconds=_own_seconds(records, own["step"] if own is not starts[0] else 0),
        config=_config(run_dir, last), facts=last["facts"],
        images=_image_intervals(run_dir, select, chosen) if chosen else {},
    )  # fmt: skip


def last_told(run_dir: Path) -> float:
    """When a run told something last, in seconds since 1970; copying its folder does not change that."""
    records = read_records(Path(run_dir) / "metrics.jsonl")
    return records[-1]["time"] if records else 0.0


def _state(records: Sequence[Record]) -> tuple[State, str]:
    """How a run that was begun stands. Only an end that nothing follows is one."""
    for record in reversed(records):
        if record["event"] in {"start", "step"}:
            break
        if record["event"] == "end":
            return record["reason"], record.get("detail") or ""
    return "interrupted", ""


def _own_start(starts: Sequence[Record]) -> Record:
    """The line with which the run itself began: the lines before were copied from the run that it was forked from."""

    def whose(start: Record) -> tuple[Any, ...]:
        config = start["config"]
        variant = config.get("labels", {}).get("variant")
        return variant if variant is not None else config.get("name"), config.get("seed")

    return next(start for start in starts if whose(start) == whose(starts[-1]))


def _chosen(steps: Sequence[Record], evaluations: Sequence[Record], select: Select) -> Record | None:
    if not evaluations:
        return None
    if select == "last":
        return evaluations[-1] if steps and evaluations[-1]["step"] == steps[-1]["step"] else None
    # the last that was better than all before: `weights/best.pt` is from there
    return next((e for e in reversed(evaluations) if e.get("best")), None)


def _evaluation(record: Record) -> Evaluation:
    per_class = {k.removeprefix(events.CLASS_AP): _known(v) for k, v in record.items() if k.startswith(events.CLASS_AP)}
    return Evaluation(record["step"], record["epoch"], {k: _known(record.get(k)) for k in _SCALARS}, per_class)


def _known(value: float | None) -> float:
    """A metric, NaN where nothing was measured: the record has null then, and COCO -1."""
    return float(value) if value is not None and value >= 0 else math.nan


def _rates(start: Record, steps: Sequence[Record]) -> tuple[np.ndarray, np.ndarray]:
    """Steps and learning rates of the weights, thinned."""
    group = "weight" if "weight" in start["groups"] else next(iter(start["groups"]), "")
    rated = [r for r in steps if r.get(events.LR + group) is not None]
    x, y = _column(rated, "step"), _column(rated, events.LR + group)
    kept = thinned(x, y)
    return x[kept], y[kept]


def _column(records: Sequence[Record], name: str) -> np.ndarray:
    """(N,) float64, NaN where a record has no number under `name`."""
    return np.array([math.nan if r.get(name) is None else r[name] for r in records], dtype=np.float64)


def _own_seconds(records: Sequence[Record], forked_at: int) -> float:
    """What the steps and evaluations from `forked_at` on took, by the run's own clock, up to its last whole epoch.

    The clock goes on from that of the run before; what it showed at the fork is interpolated between ends of epochs.
    """
    taken, trained, clock = [0.0], [0.0], [0.0]  # steps; seconds then; seconds with the evaluation that followed
    for record in records:
        if record["event"] == "epoch":
            taken.append(record["step"] + 1)
            trained.append(record.get("elapsed") or clock[-1] + record["seconds"])
            clock.append(trained[-1])
        elif record["event"] == "eval" and record["step"] + 1 == taken[-1]:
            clock[-1] += record.get(events.EVAL_SECONDS) or 0.0
    k = bisect_right(taken, forked_at)
    if k == len(taken):  # no own epoch is over
        return 0.0
    share = (forked_at - taken[k - 1]) / (taken[k] - taken[k - 1])
    return max(clock[-1] - clock[k - 1] - share * (trained[k] - clock[k - 1]), 0.0)


def _config(run_dir: Path, start: Record) -> Mapping[str, Any]:
    """The configuration that repeats the run; where its file is not there, that of the record."""
    try:
        return read_yaml(run_dir / "config.yaml") or start["config"]
    except UserError:
        return start["config"]


def _image_intervals(run_dir: Path, select: Select, chosen: Record) -> dict[str, ImageInterval]:
    """What the run left behind of the evaluation that counts; empty where it left nothing, or of another evaluation."""
    try:
        found = json.loads((run_dir / IMAGE_INTERVALS).read_text(encoding="utf-8"))
        part = found[select]
        if part["step"] != chosen["step"]:
            return {}
        about = {"confidence": found["confidence"], "resamples": found["resamples"], "images": found["images"]}
        return {k: ImageInterval(low=v[0], high=v[1], **about) for k, v in part["intervals"].items()}
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return {}
