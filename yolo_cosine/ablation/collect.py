"""All runs of an ablation, from its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from yolo_cosine.ablation.differences import remarks
from yolo_cosine.ablation.places import run_folder
from yolo_cosine.ablation.records import read_run
from yolo_cosine.ablation.results import AblationResults, Select


class Spec(Protocol):
    """What is asked of a specification of an ablation."""

    @property
    def name(self) -> str: ...
    @property
    def metric(self) -> str: ...  # as mAP50-95 or metrics/mAP50-95
    @property
    def select(self) -> Select: ...
    @property
    def baseline(self) -> str: ...
    @property
    def seeds(self) -> Sequence[int]: ...
    @property
    def variants(self) -> Mapping[str, Mapping[str, Any]]: ...  # name: the keys that it sets
    @property
    def marked(self) -> str: ...  # "leave out" or "include": runs with incidents
    @property
    def confidence(self) -> float: ...


def read_results(folder: Path, spec: Spec) -> AblationResults:
    """What the runs of an ablation have come to so far, from their records in `folder`."""
    folder = Path(folder)
    runs = tuple(
        read_run(run_folder(folder, variant, seed), variant, seed, spec.select)
        for variant in spec.variants
        for seed in spec.seeds
    )
    source = folder / "ablation.yaml"
    return AblationResults(
        name=spec.name, folder=folder, metric=full_metric(spec.metric), select=spec.select, baseline=spec.baseline,
        variants=tuple(spec.variants), seeds=tuple(spec.seeds), runs=runs, changes=spec.variants,
        include_marked=spec.marked == "include", confidence=spec.confidence, notes=remarks(runs, spec.baseline),
        source=source.read_text(encoding="utf-8") if source.is_file() else "",
    )  # fmt: skip


def full_metric(name: str) -> str:
    """A metric's name as the record has it: `metrics/mAP50` for `mAP50`."""
    return name if "/" in name else f"metrics/{name}"
