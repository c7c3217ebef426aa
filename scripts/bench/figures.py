"""From what processes noted to figures, their medians and ranges, and the table. Pure: no files, no processes."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from bench.modes import MODES

Run = Mapping[str, Any]  # mode, repeat, seed, and `figures` or `error`
MIB = 2**20
NEVER = {"median": None, "low": None, "high": None, "n": 0}


@dataclass(frozen=True)
class Figure:
    """A column of the record: what it is called, and which way is better."""

    label: str
    digits: int
    better: int = 0  # 1: more, -1: less, 0: no ratio is made of it


FIGURES = {
    "images_per_second": Figure("training, img/s", 1, 1),
    "epoch_seconds": Figure("an epoch with evaluation, s", 2, -1),
    "first_step_seconds": Figure("to the first step, s", 2, -1),
    "total_seconds": Figure("the whole process, s", 1, -1),
    "host_peak_mib": Figure("peak host memory, MiB", 0, -1),
    "gpu_allocated_mib": Figure("peak GPU memory in tensors, MiB", 0, -1),
    "gpu_reserved_mib": Figure("peak GPU memory reserved, MiB", 0, -1),
    "evaluation_seconds": Figure("an evaluation, s", 2, -1),
    "evaluation_ratio": Figure("evaluation / its forward passes", 3),
    "ceiling_images_per_second": Figure("ceiling of the step, img/s", 1),
    "share_of_ceiling": Figure("share of the ceiling", 3),
    "target_seconds": Figure("to the mAP50-95 asked for, s", 1, -1),
    "threads": Figure("PyTorch's threads", 0),
}


def figures(raw: Mapping[str, Any], target: float | None) -> dict[str, float | None]:
    """The figures of one run; None for what it does not have.

    Steady state is what follows the first epoch: caches, kernels and compilers have warmed up. Images a second are those
    of the training alone; an epoch with evaluation is the median over whole epochs, weights saved. Where the evaluation
    was not compared with its forward passes alone, the ratio is that to the passes as timed within it.

    Args:
        raw: what `bench.clock.Clock.write` wrote, with the memory that `bench.launch.measure` adds.
        target: mAP50-95; an evaluation counts that has `map` (theirs are evaluated later).

    Raises:
        ValueError: if there is no epoch after the first.
    """
    steady = raw["epochs"][1:]
    if not steady:
        raise ValueError("a run needs a second epoch: the first one warms up")
    about, gpu = raw["about"], lambda key: raw["about"][key] / MIB if key in raw["about"] else None
    speed = sum(epoch["images"] for epoch in steady) / sum(epoch["train_seconds"] for epoch in steady)
    ceiling = raw.get("ceiling", {}).get("images_per_second")
    within = [e["eval_seconds"] / e["forward_seconds"] for e in steady if e.get("forward_seconds")]
    ratio = raw["evaluation"]["ratio"] if "evaluation" in raw else statistics.median(within) if within else None
    evaluated = [epoch["eval_seconds"] for epoch in steady if "eval_seconds" in epoch]
    reached = [
        e["at"] for e in raw["evaluations"] if target is not None and e.get("map") is not None and e["map"] >= target
    ]
    return {
        "images_per_second": speed,
        "epoch_seconds": statistics.median(epoch["ended"] - epoch["begun"] for epoch in steady),
        "first_step_seconds": raw["first_step"],
        "total_seconds": about["total_seconds"],
        "host_peak_mib": raw["host_peak"] / MIB,
        "gpu_allocated_mib": gpu("gpu_allocated"),
        "gpu_reserved_mib": gpu("gpu_reserved"),
        "evaluation_seconds": statistics.median(evaluated) if evaluated else None,
        "evaluation_ratio": ratio,
        "ceiling_images_per_second": ceiling,
        "threads": about.get("threads"),
        "share_of_ceiling": speed / ceiling if ceiling else None,
        **({} if target is None else {"target_seconds": min(reached, default=None)}),
    }


def spread(values: Sequence[float]) -> dict[str, float | int]:
    """Median, lowest, highest and number of some values."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "n": len(values)}


def summarize(runs: Sequence[Run]) -> dict[str, Any]:
    """Of each mode the spread of each figure; of each of our modes how many times as good as each of theirs it is, repeat
    by repeat, as "ours/best"."""
    found: dict[str, dict[int, dict[str, float | None]]] = {run["mode"]: {} for run in runs}
    for run in runs:
        if "figures" in run:
            found[run["mode"]][run["repeat"]] = run["figures"]

    def column(mode: str, name: str) -> dict[int, float]:
        return {repeat: row[name] for repeat, row in found[mode].items() if row.get(name) is not None}

    summary = {
        mode: {name: spread(list(values.values())) for name in FIGURES if (values := column(mode, name))}
        for mode in found
    }
    for mode, rows in found.items():  # a run may never come to the target
        asked = sum("target_seconds" in row for row in rows.values())
        if asked:
            summary[mode]["target_seconds"] = {**summary[mode].get("target_seconds", NEVER), "of": asked}
    ratios: dict[str, Any] = {}
    own = [mode for mode in found if MODES[mode].trainer == "ours"]
    for our_mode, mode in product(own, [mode for mode in found if mode not in own]):
        for name, figure in FIGURES.items():
            ours, theirs = column(our_mode, name), column(mode, name)
            pairs = [(ours[k], theirs[k]) for k in sorted(ours.keys() & theirs.keys())]
            if figure.better and pairs and all(a and b for a, b in pairs):
                quotients = [a / b if figure.better > 0 else b / a for a, b in pairs]
                ratios.setdefault(f"{our_mode}/{mode}", {})[name] = spread(quotients)
    return {"summary": summary, "times_as_good": ratios}


def table(summary: Mapping[str, Any]) -> str:
    """What `summarize` gives, for people: medians, and in brackets the range where there is one."""
    columns, ratios = summary["summary"], summary["times_as_good"]
    head = ["", *columns, *ratios]
    rows = [head]
    for name, figure in FIGURES.items():
        cells = [_cell(columns[mode].get(name), figure.digits) for mode in columns]
        if any(cells):
            times = [_cell(found.get(name), 2, "x") for found in ratios.values()]
            rows.append([figure.label, *cells, *times])
    widths = [max(len(row[k]) for row in rows) for k in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(w) if k == 0 else cell.rjust(w) for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def _cell(found: Mapping[str, Any] | None, digits: int, unit: str = "") -> str:
    if found is None:
        return ""
    if not found["n"]:
        return "not reached"
    text = f"{found['median']:,.{digits}f}{unit}"
    if found["n"] > 1:
        text += f" ({found['low']:,.{digits}f}-{found['high']:,.{digits}f})"
    return text if found["n"] == found.get("of", found["n"]) else f"{text}, {found['n']} of {found['of']}"


def profile_table(profile: Mapping[str, Any]) -> str:
    """The largest costs of a profile, one a line."""
    lines = [
        f"{cost['seconds'] / profile['steps'] * 1e3:9.2f} ms a step  {cost['share']:6.1%}  {cost['calls']:6} calls  {cost['name'][:70]}"
        for cost in profile["largest"]
    ]
    wall, busy = profile["wall_seconds"] / profile["steps"] * 1e3, profile["seconds"] / profile["steps"] * 1e3
    head = (
        f"largest costs on the {profile['on']} in {profile['steps']} steps of {wall:.1f} ms, of which {busy:.1f} ms are "
        f"accounted for; trace: {profile['trace']}"
    )
    return "\n".join([head, *lines])
