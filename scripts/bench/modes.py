"""What is compared: the settings that both trainers have in common, and the one table of how each is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from yolo_cosine.processor import available_cores

Trainer = Literal["ours", "ultralytics"]
Options = Mapping[str, Any]

FULL = "full"  # in the table below: as many as the machine has cores
_MOST_WORKERS = 16


@dataclass(frozen=True)
class Mode:
    """A way to run a trainer: the keys that differ from its defaults, on a CPU and on a GPU.

    Keys are the trainer's own, but for `threads` of Ultralytics' modes: PyTorch's threads, set by a callback, since its
    trainer takes one fewer than there are cores and has no option for it.
    """

    trainer: Trainer
    what: str
    cpu: Options = field(default_factory=dict)
    cuda: Options | None = field(default_factory=dict)  # None: there is no such mode on that device

    def options(self, device_type: str) -> dict[str, Any] | None:
        """The keys for a device, with numbers in place of `FULL`; None where the mode makes no sense there."""
        chosen = self.cpu if device_type == "cpu" else self.cuda
        if chosen is None:
            return None
        cores = {"threads": available_cores(), "workers": min(available_cores(), _MOST_WORKERS)}
        return {key: cores[key] if value == FULL else value for key, value in chosen.items()}


_BEST_CPU = {"cache": "ram", "deterministic": False, "threads": FULL}
_BEST_CUDA = {"cache": "ram", "deterministic": False, "workers": FULL, "amp": "bf16", "channels_last": True}

MODES: dict[str, Mode] = {
    "ours": Mode("ours", "yolo-cosine at its defaults"),
    "ours-compiled": Mode(
        "ours", "yolo-cosine with torch.compile, not deterministic", None, {"compile": "default", "deterministic": False}
    ),
    "defaults": Mode("ultralytics", "Ultralytics at its defaults"),
    "best": Mode("ultralytics", "Ultralytics, images in memory, nothing deterministic, all cores", _BEST_CPU, _BEST_CUDA),
    "compiled": Mode("ultralytics", "the same with torch.compile", None, {**_BEST_CUDA, "compile": True}),
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """What a pair of runs has in common; whatever is not named here is the same default of both trainers."""

    data: str  # a data set YAML that both read
    model: str
    imgsz: int
    batch: int
    nominal_batch: int
    epochs: int
    seed: int
    device: str  # cpu, or the number of a GPU
    lr0: float = 0.01
    lrf: float = 0.01

    @property
    def device_type(self) -> str:
        """cpu or cuda."""
        return "cpu" if self.device == "cpu" else "cuda"

    @property
    def warmup_epochs(self) -> float:
        """Both trainers' default of 3, at most a third of a short run."""
        return min(3.0, self.epochs / 3)

    @property
    def close_mosaic(self) -> int:
        """Both trainers' default of 10, none in a run so short that it would hardly see a mosaic."""
        return 10 if self.epochs >= 20 else 0

    def common(self) -> dict[str, Any]:
        """The keys that both trainers have under one name."""
        names = (
            "data",
            "model",
            "imgsz",
            "batch",
            "epochs",
            "seed",
            "device",
            "lr0",
            "lrf",
            "warmup_epochs",
            "close_mosaic",
        )
        return {**{name: getattr(self, name) for name in names}, "optimizer": "SGD"}


def our_config(setting: Setting, options: Options, folder: str) -> dict[str, Any]:
    """The configuration of a run of ours, which lies in `folder`/run."""
    own = {"nominal_batch": setting.nominal_batch, "curve": "cosine", "runs": folder, "name": "run"}
    return {**setting.common(), **own, **options}


def ultralytics_arguments(setting: Setting, options: Options, folder: str) -> dict[str, Any]:
    """The arguments of `YOLO(...).train` for a run in `folder`/run; `threads` is not among them."""
    own = {
        "nbs": setting.nominal_batch, "cos_lr": True, "pretrained": False, "plots": False, "val": True,
        "project": folder, "name": "run", "exist_ok": True,
    }  # fmt: skip
    return {**setting.common(), **own, **{key: value for key, value in options.items() if key != "threads"}}
