"""What a step of a schedule costs, ours beside the peers', measured in turn in one process.

    python scripts/bench_schedules.py [--json FILE]

Everybody drives three parameter groups of an SGD optimizer along a warmup and a cosine; ours, and Ultralytics' block,
momentum as well. The figure is the median over rounds that take turns, so that a machine that drifts does so for all;
in a round each takes the same number of steps from the middle of the run. Peers that are not installed are left out.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from yolo_cosine.config.load import load_config
from yolo_cosine.engine.apply import AppliedSchedule
from yolo_cosine.schedules.build import build_schedule
from yolo_cosine.schedules.run import standard_groups

EPOCHS, STEPS_PER_EPOCH, WARMUP = 100, 200, 600
TOTAL = EPOCHS * STEPS_PER_EPOCH
CALLS, ROUNDS = 4000, 9

Step = Callable[[int], object]


def optimizer() -> torch.optim.SGD:
    """SGD with three groups of one parameter each: weight, norm, bias."""
    groups = [
        {"params": [torch.nn.Parameter(torch.zeros(1))], "name": n, "weight_decay": 0.0}
        for n in ("weight", "norm", "bias")
    ]
    return torch.optim.SGD(groups, lr=0.01, momentum=0.937)


def ours(*overrides: str) -> Step:
    """Our schedule as the trainer applies it."""
    config = load_config(None, [f"epochs={EPOCHS}", "warmup_epochs=3", *overrides])
    groups = standard_groups(config)
    apply = AppliedSchedule(optimizer(), groups, build_schedule(config, groups, STEPS_PER_EPOCH))
    return apply


def bare() -> Step:
    """The formula itself, written to three groups: what nobody can be faster than in Python."""
    groups = optimizer().param_groups
    span, cos, pi = TOTAL - 1 - WARMUP, math.cos, math.pi

    def step(k: int) -> None:
        value = 0.01 * (0.01 + 0.99 * (1 + cos(pi * (k - WARMUP) / span)) / 2)
        for group in groups:
            group["lr"] = value

    return step


def torch_lambda() -> Step:
    """LambdaLR with the formula."""
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer(), lambda k: 0.01 + 0.99 * (1 + math.cos(math.pi * k / TOTAL)) / 2
    )
    return lambda k: scheduler.step()


def torch_cosine() -> Step:
    """CosineAnnealingLR."""
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer(), TOTAL, 1e-4)
    return lambda k: scheduler.step()


def torch_sequential() -> Step:
    """LinearLR and CosineAnnealingLR in a SequentialLR, past the warmup."""
    o, lr = optimizer(), torch.optim.lr_scheduler
    parts = [lr.LinearLR(o, 0.001, total_iters=5), lr.CosineAnnealingLR(o, TOTAL, 1e-4)]
    scheduler = lr.SequentialLR(o, parts, [5])
    for _ in range(6):
        scheduler.step()
    return lambda k: scheduler.step()


def transformers_cosine() -> Step:
    """get_cosine_schedule_with_warmup."""
    from transformers.optimization import get_cosine_schedule_with_warmup

    scheduler = get_cosine_schedule_with_warmup(optimizer(), 5, TOTAL)
    return lambda k: scheduler.step()


def ultralytics_warmup() -> Step:
    """The block of Ultralytics' and YOLOv5's training loops that runs at every step of the warmup."""
    groups, x = optimizer().param_groups, [0, WARMUP]

    def step(k: int) -> None:
        max(1, int(np.interp(k, x, [1, 4]).round()))
        for group in groups:
            group["lr"] = np.interp(k, x, [0.1 if group["name"] == "bias" else 0.0, 0.01])
            group["momentum"] = np.interp(k, x, [0.8, 0.937])

    return step


CONTENDERS: dict[str, Callable[[], Step]] = {
    "yolo-cosine, in the warmup": ours,
    "yolo-cosine, in the cosine": ours,
    "yolo-cosine, by epoch": lambda: ours("lr_update=epoch"),
    "bare formula to three groups": bare,
    "torch LambdaLR": torch_lambda,
    "torch CosineAnnealingLR": torch_cosine,
    "torch SequentialLR": torch_sequential,
    "transformers cosine": transformers_cosine,
    "Ultralytics' warmup block": ultralytics_warmup,
}


def measure() -> dict[str, float]:
    """Microseconds a step of every contender that is here."""
    times: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, make in CONTENDERS.items():
            try:
                step = make()
            except ImportError:
                continue
            # warmups are timed in the warmup, everything else behind it
            steps = range(WARMUP) if "warmup" in name else range(WARMUP, WARMUP + CALLS)
            start = time.perf_counter()
            for k in steps:
                step(k)
            times.setdefault(name, []).append((time.perf_counter() - start) / len(steps) * 1e6)
    return {name: statistics.median(t) for name, t in times.items()}


def main() -> None:
    """Measure, print a table and, if asked, save it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", type=Path, help="save the figures here")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # torch's, about a scheduler without optimizer steps
    torch.set_num_threads(1)
    figures = measure()
    for name, microseconds in figures.items():
        print(f"{name:32}{microseconds:7.2f} us a step")
    if args.json:
        about = {"python": platform.python_version(), "torch": torch.__version__, "machine": platform.processor()}
        args.json.write_text(json.dumps({"microseconds": figures, **about}, indent=1) + "\n")


if __name__ == "__main__":
    main()
