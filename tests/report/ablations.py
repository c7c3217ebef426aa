"""Made-up ablations: results as they come out of real ones, of any size and state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from yolo_cosine.ablation.results import AblationResults, Evaluation, ImageInterval, RunResult
from yolo_cosine.events import COCO_METRICS, MAP, PRECISION, RECALL

HOSTILE = (
    """</script><script>document.title="owned"</script><b onmouseover=alert(1)>|`*_x_"'&amp; \u2028$title %{y} 🚀"""
    + "long " * 40
)


def evaluation(rng: np.random.Generator, step: int, epoch: int, level: float, classes: Sequence[str]) -> Evaluation:
    """One in which everything is around `level`; there are no small objects."""
    scalars = {name: level + 0.02 * k for k, name in enumerate(COCO_METRICS)} | {PRECISION: 0.8, RECALL: 0.7}
    scalars["metrics/mAP-small"] = math.nan
    per_class = dict(zip(classes, (level + 0.01 * rng.normal(size=len(classes))).tolist(), strict=True))
    return Evaluation(step, epoch, scalars, per_class)


def run_result(
    variant: str, seed: int, gain: float = 0.0, *, state="finished", epochs: int = 30, steps_per_epoch: int = 20,
    classes: Sequence[str] = ("cat", "dog"), peak: float = 0.01, forked_at: int = 0, folder: Path = Path("ablation"), **more,
) -> RunResult:  # fmt: skip
    """A run whose metric ends near 0.55 + gain; runs with the same seed have luck in common."""
    run_dir = folder / "runs" / f"{variant[:20]}-{seed}".replace("/", "_")
    steps = epochs * steps_per_epoch
    if state == "waiting":
        return RunResult(variant, seed, run_dir, state, steps=steps, **more)
    luck = 0.006 * np.random.default_rng(seed).normal()
    rng = np.random.default_rng([seed, *variant.encode("utf-8", "replace")])
    done = epochs if state == "finished" else epochs // 2
    ends = [(e + 1) * steps_per_epoch - 1 for e in range(done)]
    goal = 0.55 + gain + luck + 0.003 * rng.normal()
    rise = goal * (1 - np.exp(-5 * (np.arange(done) + 1) / epochs)) + 0.004 * rng.normal(size=done)
    evaluations = tuple(evaluation(rng, ends[e], e, float(rise[e]), classes) for e in range(done))
    lr_steps = np.arange(done * steps_per_epoch, dtype=float)
    lr = peak * np.minimum(lr_steps / (3 * steps_per_epoch), (1 + np.cos(np.pi * lr_steps / steps)) / 2)
    losses = {
        name: (3 + k) * np.exp(-np.arange(done) / 10) + 0.05 * rng.random(done)
        for k, name in enumerate(("box_loss", "cls_loss", "dfl_loss"))
    }
    found = {
        "evaluations": evaluations, "chosen": evaluations[-1] if state in ("finished", "stopped early") else None,
        "lr_steps": lr_steps, "lr": lr, "loss_steps": np.array(ends, dtype=float), "losses": losses,
        "steps_per_epoch": steps_per_epoch, "steps": steps, "steps_done": done * steps_per_epoch, "forked_at": forked_at,
        "seconds": 100.0 + seed, "facts": {"hardware": "a GPU, 8 cores", "torch": "2.13.0", "val_images": 500},
    }  # fmt: skip
    return RunResult(variant, seed, run_dir, state, **found | more)


def ablation(
    gains: dict[str, float], seeds: Sequence[int] = (0, 1, 2, 3, 4), *, special: dict[tuple[str, int], dict] | None = None,
    folder: Path = Path("ablation"), notes: tuple[str, ...] = (), source: str = "base: base.yaml\nseeds: 5\n", **more,
) -> AblationResults:  # fmt: skip
    """An ablation of variants with these gains over the first; `special` are arguments of single runs."""
    special = special or {}
    variants = tuple(gains)
    runs = tuple(
        run_result(
            name, seed, gain, **{"folder": folder, "peak": 0.01 * (k + 1), **more, **special.get((name, seed), {})}
        )
        for k, (name, gain) in enumerate(gains.items())
        for seed in seeds
    )
    changes = {name: {"lr0": 0.01 * (k + 1)} for k, name in enumerate(variants)}
    return AblationResults(
        "schedules", folder, MAP, "last", variants[0], variants, tuple(seeds), runs, changes, notes=notes, source=source
    )


def image_intervals() -> dict[str, ImageInterval]:
    """What a run's bootstrap over its images comes to."""
    return {MAP: ImageInterval(0.52, 0.58, 0.95, 1000, 500)}


GAINS = {"cosine": 0.0, "linear": 0.004, "wsd": 0.012, "constant": -0.03}


def usual(folder: Path = Path("ablation")) -> AblationResults:
    """Four variants, five seeds, and one thing of each kind the matter."""
    return ablation(
        GAINS,
        folder=folder,
        special={
            ("linear", 1): {"state": "failed", "detail": "the loss was NaN at step 311, three times in a row"},
            ("wsd", 2): {"incidents": ("2 updates were left out for a loss that was no number",)},
            ("constant", 0): {"state": "interrupted"},
            ("constant", 4): {"state": "waiting"},
            **{("wsd", seed): {"forked_at": 300} for seed in (0, 1)},
            **{("cosine", seed): {"images": image_intervals()} for seed in (0, 1)},
            ("linear", 0): {"facts": {"hardware": "another GPU", "torch": "2.13.0", "val_images": 500}},
        },
        notes=("linear and wsd differ in lr0, too.",),
    )
