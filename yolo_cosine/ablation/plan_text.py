"""What an ablation will train, in words: runs, schedules, what they share, what that costs."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from typing import Any

from yolo_cosine.ablation.estimate import Estimate
from yolo_cosine.ablation.overview_text import printable, shortened
from yolo_cosine.ablation.plan import Plan, PlannedRun
from yolo_cosine.ablation.spec import Ablation
from yolo_cosine.errors import some_of
from yolo_cosine.report.terminal_chart import legend, terminal_chart
from yolo_cosine.sinks.console_text import clock

_WIDTH = 100
_NAME = 40  # columns of a variant's name
_VALUE = 60  # letters of a key's value


def plan_text(plan: Plan, ablation: Ablation, estimate: Estimate | None = None, colour: bool | None = None) -> str:
    """The whole plan.

    Args:
        colour: of the chart; by default where standard output is a terminal.
    """
    parts = [_head(plan, ablation), _variants(plan, ablation), _chart(plan, colour), _sharing(plan), _order(plan)]
    if estimate is not None:
        parts.append(estimate_text(estimate))
    return "\n\n".join(parts)


def estimate_text(estimate: Estimate) -> str:
    """How long it will take here, and from what that follows."""
    threads = f", {_count(estimate.threads, 'thread')} each" if estimate.threads is not None else ""
    lines = [f"expected time on this machine: {clock(estimate.seconds)}, {_at_a_time(estimate.places)}{threads}"]
    side = "one process" if estimate.places == 1 else f"{estimate.places} processes at once"
    lines.append(f"  measured just now in {side}, and thrown away:")
    for cost in estimate.costs:
        what = some_of([_name(v) for v in cost.variants], most=5) + ": " if len(estimate.costs) > 1 else ""
        all_images = cost.evaluated >= cost.images
        images = f"all {cost.images:,} images" if all_images else f"{cost.evaluated:,} of {cost.images:,} images"
        text = (
            f"{what}{_seconds(cost.step)} a step ({_count(cost.steps, 'step')}), {_seconds(cost.evaluation)} an evaluation "
            f"({images}), {_seconds(cost.start)} to begin a run"
        )
        lines.append(textwrap.fill(text, _WIDTH, initial_indent="    ", subsequent_indent="      "))
    counted = f"counted: all steps that are trained, {_count(estimate.evaluations, 'evaluation')}, every run's start, and that a "
    counted += (
        "run waits for the state that it begins from. Not counted: checkpoints, plots, and what is written at the end"
    )
    lines.append(textwrap.fill(counted, _WIDTH, initial_indent="  ", subsequent_indent="  "))
    return "\n".join(lines)


def _head(plan: Plan, ablation: Ablation) -> str:
    variants, seeds = len(ablation.variants), ablation.seeds
    which = f" ({', '.join(map(str, seeds))})" if len(seeds) <= 10 else ""
    name = ablation.metric.partition("/")[2]
    of = "the last evaluation" if ablation.select == "last" else "the best evaluation"
    lines = [
        f"{ablation.name}: {_count(variants, 'variant')} x {_count(len(seeds), 'seed')}{which} = {_count(len(plan.runs), 'run')}",
        f"compared by {name} of {of}, against {_name(ablation.baseline)}",
        f"folder: {ablation.folder}",
    ]
    return "\n".join(printable(line, None) for line in lines)


def _variants(plan: Plan, ablation: Ablation) -> str:
    width = min(max(len(_name(name)) for name in ablation.variants), _NAME)
    lines = ["variants"]
    for name, own in ablation.variants.items():
        keys = ", ".join(f"{key}: {_value(value)}" for key, value in _flat(own).items()) or "the base as it is"
        schedule = plan.schedules[name]
        length = f"{_count(schedule.config.epochs, 'epoch')} of {_count(schedule.steps_per_epoch, 'step')}"
        mark = " (baseline)" if name == ablation.baseline else ""
        text = f"{_name(name):{width}}  {length}{mark}; {keys}"
        lines.append(textwrap.fill(text, _WIDTH, initial_indent="  ", subsequent_indent=" " * (width + 4)))
    return "\n".join(lines)


def _flat(keys: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"checkpoint.keep": 3}` for `{"checkpoint": {"keep": 3}}`."""
    flat: dict[str, Any] = {}
    for key, value in keys.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _value(value: Any) -> str:
    if (
        isinstance(value, list)
        and value
        and all(isinstance(v, Mapping) and {"curve", "for"} <= v.keys() for v in value)
    ):
        text = ", ".join(f"{phase['curve']} for {phase['for']}" for phase in value)
    elif isinstance(value, str):
        text = value
    else:
        text = json.dumps(value, default=str, ensure_ascii=False)
    return shortened(printable(text, None).replace("\n", " "), _VALUE)


def _chart(plan: Plan, colour: bool | None) -> str:
    """The learning rates of the weights; variants whose rates are the same at every step are one line."""
    lines: dict[tuple[float, ...], list[str]] = {}
    groups: dict[tuple[float, ...], str] = {}
    for name, schedule in plan.schedules.items():
        group, rates = next(iter(schedule.lines().items()))
        lines.setdefault(tuple(rates), []).append(_name(name))
        groups[tuple(rates)] = group
    names = [some_of(same, most=4) for same in lines.values()]
    drawn = [(name, {groups[rates]: rates}) for name, rates in zip(names, lines, strict=True)]
    return f"learning rate of the weights\n{terminal_chart(drawn, colour)}\n{legend(names, colour)}"


def _sharing(plan: Plan) -> str:
    """What runs of one seed have in common, as a tree, and what that saves."""
    first = [run for run in plan.runs if run.seed == plan.runs[0].seed]
    trunk: dict[str | None, list[PlannedRun]] = {}
    for run in first:
        trunk.setdefault(run.forks_from[0][0][0] if run.forks_from else None, []).append(run)
    if len(trunk) == 1:
        lines = ["nothing is shared: the runs differ from their first step on, or nearly"]
    else:
        lines = ["what the runs of a seed have in common is trained once"]

        def add(run: PlannedRun, depth: int) -> None:
            pad = "  " * (depth + 1)
            if not run.forks_from:
                lines.append(f"{pad}{_name(run.variant)}: all of its {_count(run.steps, 'step')} are trained")
            else:
                owner = _name(run.forks_from[0][0][0])
                left = run.steps - run.shared
                rest = f"trains the last {left:,}" if left else "trains nothing"
                lines.append(
                    f"{pad}{_name(run.variant)}: its first {_count(run.shared, 'step')} are those of {owner}; it begins "
                    f"there and {rest}"
                )
            for child in trunk.get(run.variant, ()):
                add(child, depth + 1)

        for run in trunk[None]:
            add(run, 0)
    alone, shared = plan.steps, plan.steps_to_train
    cost = f"cost: {_count(shared, 'step')}"
    if shared < alone:
        cost += f"; each run by itself would make {_count(alone, 'step')}, so {1 - shared / alone:.0%} are saved"
    lines.append(cost)
    return "\n".join(lines)


def _order(plan: Plan) -> str:
    """Which runs are begun first. All seeds of a variant are begun together where there are places."""
    order = list(dict.fromkeys(run.variant for run in plan.runs))
    text = "order: " + ", ".join(_name(name) for name in order)
    text += "; each with all seeds, and those first that most of the others wait for"
    return textwrap.fill(text, _WIDTH, subsequent_indent="  ")


def _name(variant: str) -> str:
    return shortened(printable(variant, None).replace("\n", "?"), _NAME)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' if number != 1 else ''}"


def _at_a_time(places: int) -> str:
    return "one run at a time" if places == 1 else f"{places} runs at a time"


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 100 else clock(seconds)
