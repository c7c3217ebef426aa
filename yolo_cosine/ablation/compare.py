"""Single runs, trained anywhere at any time, as an ablation: which of them are one variant, and which seeds are pairs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from yolo_cosine.ablation.collect import full_metric
from yolo_cosine.ablation.differences import differing_keys, remarks, settings
from yolo_cosine.ablation.places import run_folder
from yolo_cosine.ablation.records import last_told, read_run
from yolo_cosine.ablation.results import AblationResults, RunResult, Select
from yolo_cosine.errors import UserError, some_of
from yolo_cosine.events import COCO_METRICS

_MOST = 60  # letters of a name that is made of keys
# What the images and boxes of an evaluation are told by, in words.
_EVALUATED_ON = {"val_digest": "validation data", "val_images": "number of validation images"}


def compare_runs(
    run_dirs: Sequence[Path],
    baseline: str | None = None,
    metric: str = "mAP50-95",
    select: Select = "last",
    folder: Path = Path("runs/comparison"),
    confidence: float = 0.95,
    marked: str = "leave out",
) -> AblationResults:
    """The results of single runs.

    Runs whose configurations differ in the seed alone, or in what makes no difference to the result, are one variant. It is
    called as its runs' label `variant` says, by the keys that it differs in (`curve=linear lr0=0.02`), or as its first
    run's folder. Of two runs of one variant and seed the later counts.

    Args:
        run_dirs: folders of runs, at least two.
        baseline: a variant's name, or the folder of one of its runs; by default the variant of the first run.
        folder: where the report will go. Nothing is written here.

    Raises:
        UserError: if one is no run, they were evaluated on different data, or an argument is not what it can be.
    """
    metric = _checked(metric, select, confidence, marked)
    runs = [_read(path, select) for path in _checked_folders(run_dirs)]
    _check_evaluated_alike(runs)
    groups = _groups(runs)
    names, changes = _names(groups)
    notes: list[str] = []
    variants = {}
    for name, group in zip(names, groups, strict=True):
        kept, said = _one_of_each_seed([replace(run, variant=name) for run in group])
        variants[name] = kept
        notes += said
    base = _baseline(baseline, variants, groups)
    seeds = tuple(sorted({seed for kept in variants.values() for seed in kept}))
    notes += _unpaired(variants, base)
    ordered = tuple(
        kept.get(seed) or RunResult(name, seed, run_folder(folder, name, seed), "waiting", "there is no such run")
        for name, kept in variants.items()
        for seed in seeds
    )
    if len(variants) == 1:
        notes.append(
            "All runs have the same configuration but for the seed: there is one variant, and nothing to compare."
        )
    return AblationResults(
        name="comparison", folder=Path(folder), metric=metric, select=select, baseline=base, variants=tuple(variants),
        seeds=seeds, runs=ordered, changes=dict(zip(names, changes, strict=True)), include_marked=marked == "include",
        confidence=confidence, notes=(*notes, *remarks([run for kept in variants.values() for run in kept.values()], base)),
    )  # fmt: skip


# --- what is given ------------------------------------------------------------------------------------------------------


def _checked(metric: Any, select: Any, confidence: Any, marked: Any) -> str:
    """The metric's full name.

    Raises:
        UserError: if it is unknown, or another setting is not one that there is.
    """
    known = [name.removeprefix("metrics/") for name in COCO_METRICS]
    if not isinstance(metric, str) or full_metric(metric) not in COCO_METRICS:
        raise UserError(f"metric: {metric!r} is not known; take one of {', '.join(known)}")
    for name, value, values in (
        ("select", select, ("last", "best")), ("marked", marked, ("leave out", "include")),
    ):  # fmt: skip
        if value not in values:
            raise UserError(f"{name}: {value!r} is not known; write {' or '.join(values)}")
    if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0.5 < confidence < 1:
        raise UserError(f"confidence: {confidence!r} is not between 0.5 and 1; write 0.95")
    return full_metric(metric)


def _checked_folders(run_dirs: Iterable[Path]) -> list[Path]:
    paths = [Path(path) for path in run_dirs]
    for path in paths:
        if (path / "ablation.yaml").is_file():
            raise UserError(
                f"--compare: {path} is an ablation, not a run; name folders of runs in it, or use --report {path}"
            )
        if not (path / "metrics.jsonl").is_file():
            what = "is no folder of a run: it has no metrics.jsonl" if path.exists() else "is not there"
            raise UserError(f"--compare: {path} {what}; name the folders of runs")
    twice = [path for path, count in Counter(path.resolve() for path in paths).items() if count > 1]
    if twice:
        raise UserError(f"--compare: {twice[0]} is named twice; name each run once")
    if len(paths) < 2:
        raise UserError("--compare: one run cannot be compared; name at least two")
    return paths


def _read(path: Path, select: Select) -> RunResult:
    run = read_run(path, "", 0, select)
    if not run.config:
        raise UserError(run.detail or f"--compare: {path}: its record is empty: the run has not begun; leave it out")
    return replace(run, seed=int(run.config.get("seed", 0)))


def _check_evaluated_alike(runs: Sequence[RunResult]) -> None:
    """Refuse runs that were not evaluated on the same images and boxes, as far as their records say."""
    for name, words in _EVALUATED_ON.items():
        told = [run for run in runs if run.facts.get(name) is not None]
        other = next((run for run in told if run.facts[name] != told[0].facts[name]), None)
        if other is not None:
            raise UserError(
                f"--compare: {told[0].run_dir} and {other.run_dir} have different {words} ({told[0].facts[name]} and "
                f"{other.facts[name]}), and so no comparable metrics; leave one out, or evaluate the weights of both on the "
                "same data with python -m yolo_cosine.val"
            )
    classes = {run.run_dir: set(run.evaluations[-1].per_class) for run in runs if run.evaluations}
    first = next(iter(classes), None)
    other = next((path for path, names in classes.items() if names != classes[first]), None)
    if other is not None:
        lacking = sorted(classes[first] ^ classes[other])
        raise UserError(
            f"--compare: {first} and {other} have different classes ({some_of(lacking)} are of one alone), and so no comparable "
            "metrics; leave one out"
        )


# --- which are one variant ------------------------------------------------------------------------------------------------


def _groups(runs: Sequence[RunResult]) -> list[list[RunResult]]:
    """Runs of one configuration and training data, in the order of their first."""
    groups: dict[str, list[RunResult]] = {}
    for run, data in zip(runs, _training_data(runs), strict=True):
        key = json.dumps([settings(run.config), data], sort_keys=True, default=str)
        groups.setdefault(key, []).append(run)
    return list(groups.values())


def _training_data(runs: Sequence[RunResult]) -> list[str | None]:
    """What each was trained on, where that is not the same for all that tell it."""
    told = {run.facts["train_digest"] for run in runs if run.facts.get("train_digest") is not None}
    return [run.facts.get("train_digest") if len(told) > 1 else None for run in runs]


def _names(groups: Sequence[Sequence[RunResult]]) -> tuple[list[str], list[dict[str, Any]]]:
    """The name of each group, all different, and the keys that it differs in from others."""
    keys = differing_keys(group[0].config for group in groups)
    wholes = [settings(group[0].config) for group in groups]
    changes: list[dict[str, Any]] = [{key: whole[key] for key in keys if key in whole} for whole in wholes]
    for group, change, data in zip(groups, changes, _training_data([group[0] for group in groups]), strict=True):
        if data is not None:
            change["data"] = f"{group[0].facts.get('data', 'data')} ({data})"
    names = [
        _label(group) or _in_words(change) or _folder(group[0]) for group, change in zip(groups, changes, strict=True)
    ]
    # the same label for several, or the same words: what differs is said too, or else the folder
    for more in (lambda group, change: _in_words(change), lambda group, change: str(group[0].run_dir)):
        count = Counter(names)
        names = [
            " ".join(filter(None, (name, more(group, change)))) if count[name] > 1 else name
            for name, group, change in zip(names, groups, changes, strict=True)
        ]
    return names, changes


def _label(group: Sequence[RunResult]) -> str | None:
    labels = {str((run.config.get("labels") or {}).get("variant", "")) for run in group}
    return labels.pop() or None if len(labels) == 1 else None


def _in_words(change: Mapping[str, Any]) -> str:
    """`curve=linear lr0=0.02`; nothing where that would be too long to be a name."""
    words = " ".join(f"{key}={_shown(value)}" for key, value in change.items() if value is not None)
    return words if len(words) <= _MOST else ""


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _folder(run: RunResult) -> str:
    return run.run_dir.resolve().name


def _one_of_each_seed(runs: Sequence[RunResult]) -> tuple[dict[int, RunResult], list[str]]:
    """By seed; of several the one that told something last, and what is to be said of that."""
    by_seed: dict[int, list[RunResult]] = {}
    for run in runs:
        by_seed.setdefault(run.seed, []).append(run)
    notes = []
    for same in by_seed.values():
        if len(same) > 1:
            same.sort(key=lambda run: last_told(run.run_dir))
            notes.append(
                f"{some_of([run.run_dir for run in same], most=6)} are all {same[0].variant} with seed {same[0].seed}; the one "
                f"that was trained last counts, {same[-1].run_dir}."
            )
    return {seed: same[-1] for seed, same in sorted(by_seed.items())}, notes


def _baseline(
    given: str | None, variants: Mapping[str, Mapping[int, RunResult]], groups: Sequence[Sequence[RunResult]]
) -> str:
    if given is None:
        return next(iter(variants))
    given = str(given)
    if given in variants:
        return given
    for name, group in zip(variants, groups, strict=True):
        if any(given == _folder(run) or Path(given).resolve() == run.run_dir.resolve() for run in group):
            return name
    raise UserError(
        f"baseline: {given!r} is no variant and no run of this comparison; the variants are {', '.join(map(repr, variants))}"
    )


def _unpaired(variants: Mapping[str, Mapping[int, RunResult]], baseline: str) -> list[str]:
    """What has no partner in the baseline, or no run for one of its seeds, in words."""
    base, notes = set(variants[baseline]), []
    for name, runs in variants.items():
        alone = [f"seed {seed} of {name}" for seed in sorted(set(runs) - base)]
        alone += [f"seed {seed} of {baseline}" for seed in sorted(base - set(runs))]
        if alone:
            verb = "has" if len(alone) == 1 else "have"
            notes.append(f"{name} and {baseline}: {some_of(alone, most=6)} {verb} no partner and cannot be paired.")
    return notes
