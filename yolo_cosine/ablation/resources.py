"""How many runs at a time, with how many threads, on which GPUs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from yolo_cosine.ablation.estimate import measure
from yolo_cosine.ablation.folder import saved_threads
from yolo_cosine.ablation.plan import Plan
from yolo_cosine.ablation.spec import Ablation
from yolo_cosine.errors import TrainingFailed, UserError
from yolo_cosine.processor import available_cores

_WORTH = 1.1  # times the speed of all together, from which it is worth to have more runs side by side
_MOST = 8  # runs on one GPU


@dataclass(frozen=True)
class Resources:
    """What the runs of an ablation get."""

    places: int  # runs at a time
    threads: int  # of each, on the CPU
    gpus: tuple[str, ...] = ()  # as `CUDA_VISIBLE_DEVICES` has them; the places take them in turn


def find_resources(ablation: Ablation, plan: Plan, tell: Callable[[str], None] = print) -> Resources:
    """What there is, and how much of it each run gets.

    On the CPU every core has a run of its own: two runs with a thread each train more than one with two threads. On GPUs
    it is measured, unless the ablation says how many: small runs leave much of one idle.

    Args:
        tell: told what was measured.
    """
    local = ablation.keys.executor == "local"
    gpus = _gpus({str(config.device) for config in ablation.configs.values()}) if local else ()
    cores = available_cores()
    threads = saved_threads(ablation.folder) if ablation.keys.threads == "auto" else ablation.keys.threads

    def of(places: int) -> Resources:
        places = max(1, min(places, len(plan.runs)))
        return Resources(places, threads or max(1, cores // places), gpus)

    if not local:  # its nodes need not be like this one: a CPU for each run, if nothing else is said
        found = of(1 if ablation.keys.parallel == "auto" else ablation.keys.parallel)
        return replace(found, threads=threads or 1)
    if ablation.keys.parallel != "auto":
        return of(ablation.keys.parallel)
    if not gpus:
        return of(cores)

    def speed(side_by_side: int) -> float:
        """Steps a second of all together; 0 where they do not fit."""
        found = of(side_by_side * len(gpus))
        try:
            costs = measure(plan, found.places, found.threads, gpus, seconds=3.0).costs
        except (UserError, TrainingFailed):
            return 0.0
        return found.places / max(cost.step for cost in costs)

    most = min(_MOST, -(-len(plan.runs) // len(gpus)))
    best, speeds = runs_side_by_side(speed, most)
    if len(speeds) > 1:
        said = ", ".join(f"{n}: {value:.1f}" for n, value in speeds.items())
        tell(f"runs side by side on a GPU, and steps a second of all together: {said}; {best} at a time")
    return of(best * len(gpus))


def runs_side_by_side(speed: Callable[[int], float], most: int) -> tuple[int, dict[int, float]]:
    """How many runs on one device train the most in sum, and the speeds that were measured: 1, 2, 4, ... are tried, as
    long as it helps."""
    if most < 2:
        return 1, {}
    speeds = {1: speed(1)}
    best = 1
    while 2 * best <= most:
        speeds[2 * best] = speed(2 * best)
        if speeds[2 * best] < _WORTH * speeds[best]:
            break
        best *= 2
    return best, speeds


def _gpus(devices: set[str]) -> tuple[str, ...]:
    """The GPUs that runs may be given in turn; none where they are to be on the CPU, or say themselves where."""
    if not devices <= {"auto", "cuda"}:
        return ()
    import torch  # only now: it takes seconds

    if not torch.cuda.is_available():
        return ()
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    return tuple(listed.split(",")) if listed else tuple(str(k) for k in range(torch.cuda.device_count()))
