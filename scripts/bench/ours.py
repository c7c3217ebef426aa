"""A measured run of ours: `python -m bench.ours SPEC RESULT STARTED`, begun by `bench.launch`.

It is the run that `python -m yolo_cosine.train --cfg FILE` makes, with someone who listens to its events. When it is
over, the same process measures what the run could have been: the same step on a batch that stays on the device, and an
evaluation's forward passes alone.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from itertools import chain, count
from typing import Any

from bench.clock import Clock, synchronize

_ROUNDS = 3  # of each comparison; the median counts
_WARMUP = 3  # steps that are taken before any is timed


class Listener:
    """Notes the times of a run's events, and holds on to its trainer."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.trainer = clock, None
        self._images, self._between = 0, False  # two epochs

    def attach(self) -> None:
        """Be told of all events of the run that this process is about to begin."""
        from yolo_cosine.engine import run

        build = run.build_trainer

        def build_and_keep(config, make_run_dir, emit, *rest, **named):
            self.trainer = build(config, make_run_dir, self._before(emit), *rest, **named)
            return self.trainer

        run.build_trainer = build_and_keep

    def _before(self, emit):
        def heard(event):
            emit(event)
            self._note(event)

        return heard

    def _note(self, event) -> None:
        from yolo_cosine import events

        clock = self.clock
        match event:
            case events.RunStarted():
                clock.begin_epoch()
            case events.StepDone():
                if clock.first_step is None and event.updated:
                    clock.first_step = clock.now()
                if self._between:
                    clock.begin_epoch(clock.epochs[-1]["ended"])
                self._images, self._between = self._images + event.images, False
            case events.EpochDone():
                clock.end_training(self._images)
                clock.end_epoch()
                self._images, self._between = 0, True
            case events.Evaluated():
                at = clock.now()
                clock.evaluations.append({"epoch": event.epoch, "at": at, "map": event.scalars[events.MAP]})
                clock.epochs[-1]["eval_seconds"] = at - clock.epochs[-1]["trained"]
        if self._between:
            clock.end_epoch()


def ceiling(trainer, steps: int) -> dict[str, Any]:
    """Images a second of the run's own step on one full batch that stays on the device: the median over rounds."""
    from yolo_cosine.model import detector

    batches = []
    for batch in trainer.loader.epoch(0):
        batches.append(batch)
        if len(batches) == 5:
            break
    full = [batch for batch in batches if len(batch.indices) == len(batches[0].indices)]
    batch = sorted(full, key=_boxes)[len(full) // 2].to(trainer.precision.device)
    detector.train_mode(trainer.model, trainer.config.freeze)
    middle, speeds = trainer.schedule.steps // 2, []
    for timed in (_WARMUP, *[steps] * _ROUNDS):
        synchronize()
        start = time.perf_counter()
        for k in range(timed):
            trainer.apply_schedule(middle + k % 8)
            trainer.train_step(batch, middle + k % 8)
        synchronize()
        speeds.append(len(batch.indices) * timed / (time.perf_counter() - start))
    return {"images_per_second": statistics.median(speeds[1:]), "rounds": speeds[1:], "boxes": _boxes(batch)}


def _boxes(batch) -> int:
    return int(batch.targets.valid.sum())


def evaluation(trainer) -> dict[str, Any]:
    """Seconds of an evaluation, and of its forward passes alone on images that are on the device: medians, in turn."""
    import torch

    from yolo_cosine.model import detector

    predict, calls, kept = detector.predict, [], {}

    def noting(model, images, *rest, **named):
        # one batch of each shape is enough: what is on the images does not change how long they take
        calls.append((model, kept.setdefault(images.shape, images), rest, named))
        return predict(model, images, *rest, **named)

    def forwards() -> None:
        with torch.inference_mode():
            for model, images, rest, named in calls:
                predict(model, images, *rest, **named)

    def seconds(work) -> float:
        synchronize()
        start = time.perf_counter()
        work()
        synchronize()
        return time.perf_counter() - start

    detector.predict = noting
    try:
        trainer.evaluator(trainer.ema.model)
    finally:
        detector.predict = predict
    if not calls:
        raise RuntimeError("the evaluation does not call detector.predict: bench/ours.py has to be mended")
    forwards()
    pairs = [(seconds(lambda: trainer.evaluator(trainer.ema.model)), seconds(forwards)) for _ in range(_ROUNDS)]
    whole, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {
        "seconds": whole,
        "forward_seconds": bare,
        "ratio": statistics.median(a / b for a, b in pairs),
        "rounds": pairs,
    }


def profile(trainer, steps: int, trace: str) -> dict[str, Any]:
    """The ten largest costs of some steps of the real loop, and a trace for chrome://tracing in the file `trace`."""
    import torch
    from torch.profiler import ProfilerActivity

    from yolo_cosine.model import detector

    gpu = trainer.precision.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    profiler = torch.profiler.profile(activities=activities)
    detector.train_mode(trainer.model, trainer.config.freeze)
    middle, begun = trainer.schedule.steps // 2, 0.0
    endless = chain.from_iterable(trainer.loader.epoch(epoch) for epoch in count())
    for k, batch in zip(range(_WARMUP + steps), endless, strict=False):
        if k == _WARMUP:
            synchronize()
            profiler.start()
            begun = time.perf_counter()
        trainer.apply_schedule(middle)
        trainer.train_step(batch, middle)
    synchronize()
    wall = time.perf_counter() - begun
    profiler.stop()
    profiler.export_chrome_trace(trace)
    # on a GPU the kernels themselves, which stand beside the operations that began them
    kind = torch.autograd.DeviceType.CUDA if gpu else torch.autograd.DeviceType.CPU
    costs = [
        {"name": e.key, "calls": e.count, "seconds": (e.self_device_time_total if gpu else e.self_cpu_time_total) / 1e6}
        for e in profiler.key_averages()
        if e.device_type == kind and not getattr(e, "is_user_annotation", False)
    ]
    total = sum(cost["seconds"] for cost in costs)
    largest = sorted(costs, key=lambda cost: -cost["seconds"])[:10]
    for cost in largest:
        cost["share"] = cost["seconds"] / total if total else 0.0
    return {
        "steps": steps, "wall_seconds": wall, "on": "GPU" if gpu else "CPU", "seconds": total, "largest": largest,
        "trace": trace,
    }  # fmt: skip


def main(spec_path: str, result: str, started: str) -> int:
    """Train as SPEC says and write RESULT."""
    with open(spec_path, encoding="utf-8") as file:
        spec = json.load(file)
    clock = Clock(float(started))
    listener = Listener(clock)
    listener.attach()
    from yolo_cosine import train

    code = train.main(["--cfg", spec["config"]])
    if code:
        return code
    clock.end_run()
    trainer = listener.trainer
    assert trainer is not None
    import torch

    clock.about.update(
        threads=torch.get_num_threads(), workers=trainer.loader.workers, precision=trainer.precision.name,
        updates=int(trainer.ema.updates), final_lr=[group["lr"] for group in trainer.optimizer.param_groups],
    )  # fmt: skip
    rest: dict[str, Any] = {}
    if spec["ceiling_steps"]:
        rest.update(ceiling=ceiling(trainer, spec["ceiling_steps"]), evaluation=evaluation(trainer))
    if spec["profile"]:
        rest["profile"] = profile(trainer, spec["profile_steps"], spec["profile"])
    clock.write(result, **rest)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
