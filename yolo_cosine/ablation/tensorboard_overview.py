"""An ablation in TensorBoard: what its runs do not tell themselves, in `tensorboard/` of its folder.

`tensorboard --logdir FOLDER` shows the runs and, of this, the columns of the HParams tab, a custom-scalars page that lays
the variants over each other, and a run `tensorboard/mean/<variant>` for each variant, with means over its seeds.
"""

from __future__ import annotations

import math
import shutil
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

import numpy as np
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from torch.utils.tensorboard.summary import custom_scalars, hparams

from yolo_cosine import events
from yolo_cosine.ablation.places import run_folder, safe_name
from yolo_cosine.ablation.results import AblationResults, RunResult, Select
from yolo_cosine.ablation.thin import thinned
from yolo_cosine.sinks.event_log import EventLog
from yolo_cosine.sinks.tensorboard import BEST, hyperparameters

Point = tuple[int, Mapping[str, float]]  # a step, and values by their tags

VARIANTS = "variants/"  # + lr, mAP50-95, box_loss, ...: of a variant, mean over its seeds
LOWEST, HIGHEST = " (lowest)", " (highest)"  # of the seeds
_METRICS = (events.MAP, events.MAP50, events.MAP75, events.PRECISION, events.RECALL)
_MOST = 1000  # points of a curve: of more, TensorBoard shows some by chance
_LEFT = 600.0  # seconds after which every reader has left a file that was emptied
_ENDED = {"finished", "stopped early"}


def write_overview(results: AblationResults) -> None:
    """Write the overview anew; a TensorBoard that is open shows the new state with its next reload.

    It reads the columns of the HParams tab once, so these follow from the specification alone and stay what they are.

    Raises:
        OSError: if it cannot be written.
    """
    root = results.folder / "tensorboard"
    _write(root, [_columns(results), custom_scalars(_layout(results))])
    for variant in results.variants:
        _write(root / "mean" / safe_name(variant), [], _means(results.of(variant)))
    # a run without a row of its own in this folder: it lies elsewhere, or did without TensorBoard
    lacking = [run for run in results.runs if run.state != "waiting" and not _tells_itself(run, results.folder)]
    places = {run_folder(root / "runs", run.variant, run.seed): run for run in lacking}
    for place, run in places.items():
        _write(place, _session(run), _values(run, results))
    means = {root / "mean" / safe_name(variant) for variant in results.variants}
    for path in {*root.glob("mean/*"), *root.glob("runs/*/*")} - means - set(places):  # told before, and no more
        shutil.rmtree(path, ignore_errors=True)


def _write(folder: Path, about: Sequence[Summary], points: Iterable[Point] = ()) -> None:
    log = EventLog(folder, [])
    for path in folder.glob("*tfevents*"):
        with suppress(OSError):
            if not path.stat().st_size and time.time() - path.stat().st_mtime > _LEFT:
                path.unlink()
    try:
        log.renew(0, about, 0, keep=lambda event: False)
        for step, values in points:
            # NaN would be a gap, and a triangle at the edge of the chart
            known = [Summary.Value(tag=tag, simple_value=v) for tag, v in values.items() if math.isfinite(v)]
            if known:
                log.write(Summary(value=known), step)
    finally:
        log.close(forget=False)


# --- the HParams tab ----------------------------------------------------------------------------------------------------


def metric_tag(metric: str, select: Select) -> str:
    """The tag whose last value in a run's log is the metric that counts."""
    return BEST + metric.removeprefix("metrics/") if select == "best" else metric


def _columns(results: AblationResults) -> Summary:
    """Variant, seed, the keys that the variants set, and the metrics."""
    seen: dict[str, set[str | float]] = {"variant": set(results.variants), "seed": set(results.seeds)}
    for keys in results.changes.values():
        for name, value in hyperparameters(keys).items():
            seen.setdefault(name, set()).add(value)
    experiment = api_pb2.Experiment(name=results.name)
    for name, values in seen.items():
        number = all(isinstance(value, int | float) for value in values)
        kind = api_pb2.DATA_TYPE_FLOAT64 if number else api_pb2.DATA_TYPE_STRING
        # columns that differ are shown first, and by themselves
        info = api_pb2.HParamInfo(name=name, type=kind, differs=True)
        if name in {"variant", "seed"}:  # of others some runs may have values that no variant sets
            info.domain_discrete.extend(sorted(values))
        experiment.hparam_infos.append(info)
    # of the best evaluation a run tells these alone
    for metric in dict.fromkeys((results.metric, *_METRICS) if results.select == "last" else _METRICS):
        name = api_pb2.MetricName(tag=metric_tag(metric, results.select))
        experiment.metric_infos.append(api_pb2.MetricInfo(name=name, display_name=metric.removeprefix("metrics/")))
    data = plugin_data_pb2.HParamsPluginData(experiment=experiment, version=metadata.PLUGIN_DATA_VERSION)
    plugin = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME, content=data.SerializeToString())
    about = SummaryMetadata(plugin_data=plugin)
    return Summary(value=[Summary.Value(tag=metadata.EXPERIMENT_TAG, metadata=about, tensor=metadata.NULL_TENSOR)])


def _tells_itself(run: RunResult, folder: Path) -> bool:
    logs = run.run_dir / "tensorboard"
    return logs.is_dir() and folder.resolve() in logs.resolve().parents


def _session(run: RunResult) -> list[Summary]:
    row = {**hyperparameters(run.config), "variant": run.variant, "seed": run.seed}
    _, start, end = hparams(row, {})
    return [start, end] if run.state in _ENDED else [start]


def _values(run: RunResult, results: AblationResults) -> Iterator[Point]:
    """The metrics that count, under the tags of the columns."""
    found = run.chosen or (run.evaluations[-1] if run.evaluations else None)
    if found is not None:
        metrics = dict.fromkeys((results.metric, *_METRICS))
        yield found.step, {metric_tag(m, results.select): found.scalars.get(m, math.nan) for m in metrics}


# --- the page of custom scalars, and what it shows ------------------------------------------------------------------------


def _layout(results: AblationResults) -> dict[str, dict[str, list]]:
    losses = dict.fromkeys(chain.from_iterable(run.losses for run in results.runs))
    curves = {"learning rate": "lr", "mAP50-95": "mAP50-95", "mAP50": "mAP50"}
    curves |= {name.replace("_", " "): name for name in losses}
    return {
        "variants, mean over the seeds": {
            title: ["Multiline", [f"{VARIANTS}{name}$"]] for title, name in curves.items()
        },
        "variants, mean, lowest and highest of the seeds": {
            name: ["Margin", [VARIANTS + name, VARIANTS + name + LOWEST, VARIANTS + name + HIGHEST]]
            for name in ("mAP50-95", "mAP50")
        },
        "runs": {
            "learning rate": ["Multiline", [f"{events.LR}(weight|muon)$"]],
            "mAP50-95": ["Multiline", [f"{events.MAP}$"]],
            "mAP50": ["Multiline", [f"{events.MAP50}$"]],
            "losses, mean over the epoch": ["Multiline", [f"{events.EPOCH_LOSS}.*_loss$"]],
        },
    }


def _means(runs: Sequence[RunResult]) -> Iterator[Point]:
    """A variant's curves: its learning rate, and metrics and losses over the seeds that have them at a step.

    Runs that came to their end count, or, as long as there are none, all that were begun; else a mean would jump where
    some of its runs are behind.
    """
    counted = [run for run in runs if run.state in _ENDED] or [run for run in runs if run.state != "waiting"]
    points: dict[int, dict[str, float]] = defaultdict(dict)
    for step, rate in _rates(counted):
        points[step][f"{VARIANTS}lr"] = rate
    for (step, tag), values in _by_step(counted).items():
        points[step] |= {tag: float(np.mean(values)), tag + LOWEST: min(values), tag + HIGHEST: max(values)}
    return iter(sorted(points.items()))


def _rates(runs: Sequence[RunResult]) -> Iterator[tuple[int, float]]:
    """The learning rate of the run that is farthest; all seeds have the same.

    What `thinned` left out is filled in evenly, for TensorBoard smooths a curve from point to point, whatever is between.
    """
    run = max(runs, key=lambda run: run.steps_done, default=None)
    if run is None or not len(run.lr):
        return
    corners = run.lr_steps[thinned(run.lr_steps, run.lr, _MOST // 2)]
    even = np.round(np.linspace(run.lr_steps[0], run.lr_steps[-1], _MOST // 2))
    for step in np.union1d(corners, even):
        yield int(step), float(np.interp(step, run.lr_steps, run.lr))


def _by_step(runs: Sequence[RunResult]) -> dict[tuple[int, str], list[float]]:
    """Values of all runs by step and tag."""
    found: dict[tuple[int, str], list[float]] = defaultdict(list)
    for run in runs:
        for evaluation in run.evaluations:
            for metric in _METRICS:
                value = evaluation.scalars.get(metric, math.nan)
                found[evaluation.step, VARIANTS + metric.removeprefix("metrics/")].append(value)
        for name, values in run.losses.items():
            for step, value in zip(run.loss_steps, values, strict=True):
                found[int(step), VARIANTS + name].append(float(value))
    finite = {place: [v for v in values if math.isfinite(v)] for place, values in found.items()}
    return {place: values for place, values in finite.items() if values}
