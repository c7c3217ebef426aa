"""One measured run of one mode: its specification, its process, and the weights that are evaluated afterwards."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figures import figures
from bench.launch import measure
from bench.modes import MODES, Options, Setting, our_config, ultralytics_arguments
from yolo_cosine import events
from yolo_cosine.errors import TrainingFailed, UserError

_NEAR = 0.05  # Ultralytics' own mAP is not COCO's; from so far below the target on its weights are evaluated


@dataclass(frozen=True)
class Bench:
    """What all runs of a benchmark have in common."""

    work: Path  # every run has a folder in it
    stand_in: bool  # whether Ultralytics' processes need one for torchvision
    target: float | None = None  # mAP50-95; the time to it is measured
    ceiling_steps: int = 0
    profile_steps: int = 0

    def run(
        self, setting: Setting, mode: str, overrides: Options, repeat: int, profile: bool = False
    ) -> dict[str, Any]:
        """Train once. A run that fails is told as `error`, and no exception: the others go on.

        Args:
            overrides: keys over those of the mode.
            profile: whether to profile it afterwards, where it is ours.
        """
        options = {**(MODES[mode].options(setting.device_type) or {}), **overrides}
        about = {"mode": mode, "repeat": repeat, "seed": setting.seed, "options": options}
        folder = self.work / f"{Path(setting.model).stem}-{mode}-{repeat}"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            raw = self.train(setting, mode, options, folder, profile)
            if self.target is not None and MODES[mode].trainer == "ultralytics":
                self._score_to_target(raw["evaluations"], setting, folder)
            found = {**about, "figures": figures(raw, self.target), "raw": raw, "notes": raw.pop("notes", [])}
        except (TrainingFailed, ValueError) as error:
            return {**about, "error": str(error)}
        shutil.rmtree(folder / "run", ignore_errors=True)  # weights of each epoch
        return found

    def train(
        self, setting: Setting, mode: str, options: Options, folder: Path, profile: bool = False
    ) -> dict[str, Any]:
        """Train in `folder`, with weights in run/weights; returns what the process noted.

        Raises:
            TrainingFailed: with the end of its log.
        """
        if MODES[mode].trainer == "ours":
            config = folder / "config.yaml"
            folder.mkdir(parents=True, exist_ok=True)
            config.write_text(json.dumps(our_config(setting, options, str(folder)), indent=1), encoding="utf-8")
            spec = {
                "config": str(config), "ceiling_steps": self.ceiling_steps, "profile_steps": self.profile_steps,
                "profile": str(self.work / f"trace-{Path(setting.model).stem}-{mode}.json") if profile else None,
            }  # fmt: skip
            return measure("bench.ours", spec, folder)
        spec = {
            "arguments": ultralytics_arguments(setting, options, str(folder)), "threads": options.get("threads"),
            "stand_in": self.stand_in, "keep_weights": self.target is not None,
        }  # fmt: skip
        return measure("bench.theirs", spec, folder, {"YOLO_CONFIG_DIR": str(self._ultralytics_folder())})

    def score(
        self, weights: list[str], setting: Setting, folder: Path, until: float | None = None
    ) -> list[dict[str, float]]:
        """COCO metrics of checkpoints, in order, up to the first whose mAP50-95 is at least `until`.

        Raises:
            TrainingFailed: with the end of its log.
        """
        spec = {
            "weights": weights, "until": until, "data": setting.data, "imgsz": setting.imgsz, "batch": setting.batch,
            "device": setting.device,
        }  # fmt: skip
        return measure("bench.score", spec, folder)["scores"]

    def _score_to_target(self, evaluations: list[dict[str, Any]], setting: Setting, folder: Path) -> None:
        """Give the evaluations of Ultralytics' run COCO's metric, `map`, until one has the target."""
        near = [e for e in evaluations if e["own_map"] >= self.target - _NEAR]
        if near:
            scores = self.score([e["weights"] for e in near], setting, folder / "score", self.target)
            for evaluation, scored in zip(near, scores, strict=False):
                evaluation["map"] = scored[events.MAP]

    def _ultralytics_folder(self) -> Path:
        """Its settings and a font, which it would download, apart from those of the user."""
        import matplotlib

        folder = self.work / "ultralytics"
        (folder / "Ultralytics").mkdir(parents=True, exist_ok=True)
        for name in ("Arial.ttf", "Arial.Unicode.ttf"):
            font = Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")
            shutil.copyfile(font, folder / "Ultralytics" / name)
        return folder


def chosen_modes(names: str | None, device_type: str) -> list[str]:
    """The modes of a comma-separated list, or all that there are for a device, in the order of the table.

    Raises:
        UserError: for a name that is none, or a mode that the device does not have.
    """
    there = [name for name, mode in MODES.items() if mode.options(device_type) is not None]
    if names is None:
        return there
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    for name in chosen:
        if name not in MODES:
            raise UserError(f"--only: {name!r} is no mode; there are {', '.join(MODES)}")
        if name not in there:
            raise UserError(f"--only: {name!r} is not for a {device_type}; there are {', '.join(there)}")
    if not chosen:
        raise UserError(f"--only: names no mode; there are {', '.join(there)}")
    return list(dict.fromkeys(chosen))


def chosen_device(name: str, gpus: Mapping[int, str] | list[str]) -> str:
    """cpu, or the number of a GPU, as both trainers take it.

    Raises:
        UserError: if there is no such device here.
    """
    if name == "auto":
        return "0" if gpus else "cpu"
    number = name.removeprefix("cuda:") if name != "cuda" else "0"
    if name == "cpu" or (number.isdigit() and int(number) < len(gpus)):
        return "cpu" if name == "cpu" else number
    raise UserError(f"--device: {name!r} is not here, there are {len(gpus)} GPU(s); write auto, cpu or a GPU's number")


def made_folder(path: Path) -> Path:
    """The folder `--work`, which is made where it is not there, as an absolute path.

    Raises:
        UserError: if it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--work: {path}: cannot be made: {error.strerror}; name another folder") from None
    return path.resolve()


def positive(text: str) -> int:
    """A number of something, as argparse's `type`."""
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)
