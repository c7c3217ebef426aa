"""In what runs differ that are to be compared, and what a reader should be told of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from yolo_cosine.ablation.results import RunResult
from yolo_cosine.config.schema import HARMLESS, RunConfig, ScheduleConfig
from yolo_cosine.errors import some_of

# Facts of a run that its numbers depend on, in words.
_FACTS = {
    "train_images": "numbers of training images", "val_images": "numbers of validation images",
    "train_digest": "training data", "val_digest": "validation data",
    "hardware": "hardware", "device": "devices", "precision": "precisions", "processes": "numbers of processes",
    "torch": "versions of torch", "ultralytics": "versions of ultralytics", "yolo_cosine": "versions of yolo_cosine",
    "python": "versions of Python",
}  # fmt: skip
_SCHEDULE = set(ScheduleConfig.model_fields)
# What a run goes on with matters for where it began and where it stops; which device it is on is among the facts.
_NO_SETTINGS = (HARMLESS - {"weights", "patience"}) | {"seed", "device", "log_every"}
_MOST = 60  # letters of a value


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a configuration makes a run what it is, but for its seed and its data, which are compared by content.

    A key that is not there, as in a run of an older version, has its default.
    """
    whole = {**RunConfig().model_dump(), **config}
    return {key: value for key, value in whole.items() if key not in _NO_SETTINGS}


def differing_keys(configs: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The keys that configurations differ in, in the order of their documentation."""
    first, *others = [settings(config) for config in configs]
    return tuple(key for key, value in first.items() if any(other.get(key) != value for other in others))


def remarks(runs: Sequence[RunResult], baseline: str) -> tuple[str, ...]:
    """What differs between runs besides what is compared, one sentence each."""
    begun = [run for run in runs if run.config]
    return (*_facts(begun), *_seeds(begun), *_variants(begun, baseline))


def _facts(runs: Sequence[RunResult]) -> Iterable[str]:
    """Where they were trained on other data, hardware or versions. Of data and its size it is enough to say one."""
    said = False
    for name, words in _FACTS.items():
        values: dict[str, list[str]] = {}
        for run in runs:
            if run.facts.get(name) is not None:
                values.setdefault(_shown(run.facts[name]), []).append(f"{run.variant} seed {run.seed}")
        of_data = name.startswith(("train_", "val_"))
        if len(values) > 1 and not (said and of_data):
            said = said or of_data
            rare = sorted(values.items(), key=lambda item: -len(item[1]))
            groups = [f"{value} ({_who(who, len(runs))})" for value, who in rare]
            yield f"The runs have different {words}: {'; '.join(groups)}."


def _who(names: Sequence[str], of: int) -> str:
    return f"{len(names)} runs" if len(names) > max(of // 2, 2) else some_of(names)


def _seeds(runs: Sequence[RunResult]) -> Iterable[str]:
    """Where the seeds of one variant differ in more than the seed."""
    for variant in dict.fromkeys(run.variant for run in runs):
        same = [run for run in runs if run.variant == variant]
        keys = differing_keys(run.config for run in same)
        if keys:
            shown = "; ".join(f"{key}: {_values(same, key)}" for key in keys)
            yield f"The runs of {variant} differ in more than the seed: {shown}."


def _variants(runs: Sequence[RunResult], baseline: str) -> Iterable[str]:
    """Where a variant differs from the baseline in more than one thing; the whole schedule is one thing."""
    base = next((run for run in runs if run.variant == baseline), None)
    if base is None:
        return
    for variant in dict.fromkeys(run.variant for run in runs if run.variant != baseline):
        keys = differing_keys([base.config, next(run.config for run in runs if run.variant == variant)])
        schedule = [key for key in keys if key in _SCHEDULE]
        others = [key for key in keys if key not in _SCHEDULE]
        if len(others) + bool(schedule) > 1:
            things = [*([f"the schedule ({some_of(schedule)})"] if schedule else []), *others]
            yield (
                f"{variant} differs from {baseline} in more than one thing, and the difference is that of all together: "
                f"{', '.join(things)}."
            )


def _values(runs: Sequence[RunResult], key: str) -> str:
    values = dict.fromkeys(_shown(run.config.get(key)) for run in runs)
    return some_of(list(values))


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _MOST else f"{text[: _MOST - 3]}..."
