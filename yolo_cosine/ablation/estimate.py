"""What an ablation will take on this machine, measured: a few steps are really taken, and thrown away."""

from __future__ import annotations

import itertools
import json
import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from yolo_cosine.ablation.executor import begin_process, exit_words, run_processes
from yolo_cosine.ablation.forecast import seconds_left
from yolo_cosine.ablation.job import use_threads
from yolo_cosine.ablation.plan import Plan, PlannedRun
from yolo_cosine.config.duration import interval_steps
from yolo_cosine.config.schema import RunConfig
from yolo_cosine.errors import TrainingFailed, UserError

_WARM_UP = 2  # steps that are not counted
# What the time of a step or of an evaluation depends on. Where only other keys differ, as those of a schedule, one
# measurement is enough.
_COSTS = (
    "model", "freeze", "data", "imgsz", "multi_scale", "batch", "workers", "cache", "optimizer", "conf", "iou", "nms", "max_det",
    "device", "precision", "deterministic",
)  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """What some variants cost, by the clock."""

    variants: tuple[str, ...]
    start: float  # seconds until everything is built, data in memory
    step: float  # seconds
    steps: int  # over which that was measured, in each process
    evaluation: float  # seconds
    evaluated: int  # images over which that was measured
    images: int  # of an evaluation


@dataclass(frozen=True)
class Estimate:
    """What an ablation will take."""

    seconds: float  # from its start to the end of its last run
    evaluations: int  # in all
    places: int  # runs at a time
    threads: int | None  # of each
    costs: tuple[Cost, ...]


def measure(
    plan: Plan, places: int, threads: int | None, gpus: tuple[str, ...] = (), seconds: float = 5.0
) -> Estimate:  # fmt: skip
    """Take some steps and an evaluation of each kind of run, in as many processes at once as will train, for runs beside
    each other slow each other. Nothing is written.

    A kind is what runs have whose steps cost the same, and a kind takes as long as a run needs to begin (its images are
    read), and about twice `seconds`; an evaluation that is longer is broken off, and its time scaled.

    Args:
        places: runs at a time.
        threads: of each, on the CPU; None for PyTorch's own choice.
        gpus: as `LocalExecutor` has them.
        seconds: how long steps are taken.

    Raises:
        UserError: for what in a configuration or its data cannot work, and where so many runs at a time do not fit.
        TrainingFailed: if a step cannot be taken.
    """
    kinds: dict[str, list[str]] = {}
    for variant in plan.schedules:
        kinds.setdefault(_kind(plan, variant), []).append(variant)
    of_variant = {run.variant: run.config for run in reversed(plan.runs)}
    processes = min(places, len(plan.runs))
    costs = tuple(
        _measure_kind(of_variant[variants[0]], tuple(variants), processes, threads, gpus, seconds)
        for variants in kinds.values()
    )
    cost_of = {variant: cost for cost in costs for variant in cost.variants}

    def took(run: PlannedRun, first: int, last: int) -> float:
        cost = cost_of[run.variant]
        return (last - first) * cost.step + _evaluations(plan, run, first, last) * cost.evaluation

    start = sum(cost_of[run.variant].start for run in plan.runs) / len(plan.runs)
    return Estimate(
        seconds=seconds_left(plan.runs, places, took, start, {}),
        evaluations=sum(_evaluations(plan, run, run.shared, run.steps) for run in plan.runs),
        places=processes,
        threads=threads,
        costs=costs,
    )


def _kind(plan: Plan, variant: str) -> str:
    schedule = plan.schedules[variant]
    config = schedule.config
    accumulate = schedule.schedule.accumulate(schedule.schedule.steps - 1)
    keys = {key: getattr(config, key) for key in _COSTS}
    return json.dumps([keys, accumulate, config.mosaic > 0, config.mixes], sort_keys=True, default=str)


def _evaluations(plan: Plan, run: PlannedRun, first: int, last: int) -> int:
    """How many evaluations follow the steps from number `first` to `last - 1`."""
    every = interval_steps(run.config.eval_every, plan.schedules[run.variant].steps_per_epoch, run.steps)
    at_the_end = last == run.steps and last > first and last % every != 0
    return last // every - first // every + at_the_end


def _measure_kind(
    config: RunConfig, variants: tuple[str, ...], processes: int, threads: int | None, gpus: tuple[str, ...],
    seconds: float,
) -> Cost:  # fmt: skip
    """The mean over processes that do the same at the same time."""
    context = run_processes()
    together = context.Barrier(processes)
    running: dict[Connection, Any] = {}
    try:
        for k in range(processes):
            here, there = context.Pipe(duplex=False)
            gpu = gpus[k % len(gpus)] if gpus else None
            arguments = (config.model_dump(mode="json"), gpu, threads, seconds, together, there)
            process = context.Process(target=_work, args=arguments, name="measure", daemon=True)
            process.start()
            there.close()
            running[here] = process
        found = [_answer(here, process, processes) for here, process in running.items()]
    finally:
        for here, process in running.items():
            process.kill()
            process.join()
            here.close()

    def mean(name: str) -> float:
        return sum(one[name] for one in found) / len(found)

    return Cost(
        variants, mean("start"), mean("step"), round(mean("steps")), mean("evaluation"), round(mean("evaluated")),
        found[0]["images"],
    )  # fmt: skip


def _answer(here: Connection, process: Any, processes: int) -> dict[str, Any]:
    try:
        kind, said = here.recv()
    except EOFError:
        process.join()
        few = "" if processes == 1 else f", of {processes} that train at a time; write a smaller parallel"
        raise UserError(f"parallel: a process is gone: {exit_words(process.exitcode)}{few}") from None
    if kind == "mistake":
        raise UserError(said)
    if kind == "failure":
        raise TrainingFailed(said)
    return said


def _work(
    config: dict[str, Any], gpu: str | None, threads: int | None, seconds: float, together: Any, answer: Connection
) -> None:
    """A process that measures, beside others that do the same."""
    begin_process(gpu)
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(silence, stream.fileno())
    try:
        said = "times", _times(config, threads, seconds, together)
    except threading.BrokenBarrierError:  # another one says why
        together.abort()
        said = "failure", "another process failed"
    except UserError as error:
        together.abort()
        said = "mistake", str(error)
    except Exception as error:
        together.abort()
        said = "failure", str(error) if isinstance(error, TrainingFailed) else f"{type(error).__name__}: {error}"
    answer.send(said)
    answer.close()


def _times(keys: dict[str, Any], threads: int | None, seconds: float, together: Any) -> dict[str, Any]:
    """Build a trainer, take steps, evaluate."""
    use_threads(threads)
    import torch

    from yolo_cosine.engine.build import build_trainer
    from yolo_cosine.engine.distributed import World
    from yolo_cosine.engine.precision import resolve_device, resolve_precision
    from yolo_cosine.model import detector

    config = RunConfig.model_validate(
        {**keys, "cache": "auto" if keys["cache"] == "disk" else keys["cache"], "cache_dir": None}
    )
    precision = resolve_precision(config.precision, resolve_device(config.device))
    began = time.perf_counter()
    # it is never written to the folder, and the weights of a checkpoint would train no faster
    trainer = build_trainer(
        config,
        lambda: Path("."),
        lambda event: None,
        precision,
        World(),
        fresh=False,
        folder=Path(keys["cache_dir"]),
        brief=True,
    )
    start = time.perf_counter() - began

    def now() -> float:
        if precision.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    detector.train_mode(trainer.model, config.freeze)
    trainer.loss.start_epoch(0)
    for group in trainer.optimizer.param_groups:
        group["lr"] = 0.0  # a step takes as long, and nothing can grow without bounds
    last = trainer.schedule.steps - 1
    window = round(trainer.schedule.accumulate(last))
    batches = _batches(trainer)
    together.wait()
    for batch in itertools.islice(batches, max(_WARM_UP, window) // window * window):
        trainer.train_step(batch, last)
    steps, began = 0, now()
    while True:  # whole updates
        for batch in itertools.islice(batches, window):
            trainer.train_step(batch, last)
        steps += window
        took = now() - began
        if took >= seconds:
            break
    batches.close()
    together.wait()
    evaluation, evaluated = _time_evaluation(trainer, seconds)
    images = len(trainer.evaluator.store.index)
    return {
        "start": start, "step": took / steps, "steps": steps, "evaluation": evaluation, "evaluated": evaluated,
        "images": images,
    }  # fmt: skip


def _batches(trainer: Any) -> Iterator[Any]:
    config = trainer.config
    for epoch in itertools.count():
        yield from trainer.loader.epoch(epoch, mosaic=config.close_mosaic < config.epochs)


class _Enough(Exception):
    """An evaluation has been measured long enough."""


def _time_evaluation(trainer: Any, seconds: float) -> tuple[float, int]:
    """Seconds of an evaluation, and the images over which that was measured."""
    began, batches = time.perf_counter(), []  # when each began
    images, batch = len(trainer.evaluator.store.index), trainer.evaluator.batch

    def between() -> None:
        batches.append(time.perf_counter())
        if len(batches) > 2 and batches[-1] - began >= seconds:
            raise _Enough

    trainer.evaluator.between_batches = between
    try:
        trainer.evaluator(trainer.ema.model)
        return time.perf_counter() - began, images
    except _Enough:
        done = len(batches) - 1
        each = (batches[-1] - batches[0]) / done
        return batches[0] - began + each * math.ceil(images / batch), done * batch
