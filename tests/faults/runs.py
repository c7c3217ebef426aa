"""The small run that everything is tried on, and a case: one such run, begun, disturbed and gone on with to its end."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tests.conftest import TINY
from tests.faults.forks import ForkServer, Outcome, Process, Trap
from yolo_cosine.data.shapes import generate
from yolo_cosine.model.detector import build_detector
from yolo_cosine.sinks.jsonl import read_records

EPOCHS, STEPS_PER_EPOCH = 3, 3
STEPS = EPOCHS * STEPS_PER_EPOCH
# nominal_batch: a checkpoint after an odd step has gradients in it. conf, lr0, seed and the weights below: mAP50-95 is
# more than 0, and best after the second or first of three epochs, so that the best and the last weights are not the same.
KEYS = {
    "imgsz": 64, "batch": 8, "nominal_batch": 16, "epochs": EPOCHS, "warmup_epochs": 0.5,
    "lr0": 0.1, "lrf": 0.5, "seed": 1, "conf": 0.0, "close_mosaic": 1, "log_every": 2, "workers": 1, "runs": "runs",
}  # fmt: skip


@dataclass(frozen=True)
class Inputs:
    """What every small run reads."""

    data: Path
    model: str
    weights: Path

    @staticmethod
    def make(folder: Path, tiny: bool = False) -> Inputs:
        """Generate the data set, 24 and 10 images, and weights whose boxes are small, as the objects are.

        Args:
            tiny: the network of most tests, in place of yolo11n.
        """
        data = generate(folder / "shapes", train=24, val=10)
        name = str(TINY) if tiny else "yolo11n.yaml"
        torch.manual_seed(6)
        model = build_detector(name, ("circle", "square", "triangle", "star", "ring"))
        with torch.no_grad():
            for branch in model.model[-1].cv2:
                branch[-1].bias.view(4, -1)[:] = 0
                branch[-1].bias.view(4, -1)[:, 1] = 4
        torch.save({"model": model}, folder / "start.pt")
        return Inputs(data, name, folder / "start.pt")


@dataclass
class Case:
    """A run in a folder of its own.

    Attributes:
        logs: where the output of its commands goes.
    """

    server: ForkServer
    folder: Path
    inputs: Inputs
    keys: dict[str, Any] = field(default_factory=dict)  # of the configuration, besides KEYS
    logs: Path | None = None
    outcomes: list[Outcome] = field(default_factory=list)

    def begin(self, trap: Trap | None = None, disturb: Callable[[Process], object] | None = None) -> Outcome:
        """`train --cfg`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        logs = self._logs()
        logs.mkdir(parents=True, exist_ok=True)
        config = logs / "run.yaml"  # JSON is YAML
        inputs = self.inputs
        read = {"data": str(inputs.data), "model": inputs.model, "weights": str(inputs.weights)}
        config.write_text(json.dumps({**KEYS, **read, **self.keys}))
        return self._run(["--cfg", str(config)], trap, disturb)

    def resume(self, trap: Trap | None = None, disturb: Callable[[Process], object] | None = None) -> Outcome:
        """`train --resume`."""
        return self._run(["--resume", str(self.run_dir)], trap, disturb)

    @property
    def run_dir(self) -> Path | None:
        """The newest folder of the run: `run`, or `run-2` where it was begun anew. None if there is none."""
        found = [path for path in (self.folder / "runs").glob("run*") if path.is_dir()]
        return max(found, key=lambda path: int(path.name.partition("-")[2] or 1), default=None)

    @property
    def step(self) -> int:
        """Steps after which there is a checkpoint; 0 if there is none."""
        return max((int(path.stem.split("-")[1]) for path in self.checkpoints()), default=0)

    def checkpoints(self) -> list[Path]:
        """Whole checkpoints by their sidecars, the newest first."""
        marks = sorted(self.run_dir.glob("checkpoints/step-*.json"), reverse=True) if self.run_dir else []
        return [mark.with_suffix(".pt") for mark in marks if _is_whole(mark)]

    def records(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Lines of the record."""
        path = self.run_dir / "metrics.jsonl" if self.run_dir else None
        records = read_records(path) if path is not None and path.exists() else []
        return [r for r in records if kind in (None, r["event"])]

    def _logs(self) -> Path:
        return self.logs or self.folder / "logs"

    def _run(self, arguments: list[str], trap: Trap | None, disturb: Callable | None) -> Outcome:
        log = self._logs() / f"{len(self.outcomes):02}.txt"
        self.outcomes.append(self.server.run(arguments, self.folder, log, trap, disturb))
        return self.outcomes[-1]


def _is_whole(mark: Path) -> bool:
    try:
        facts, data = json.loads(mark.read_text()), mark.with_suffix(".pt").read_bytes()
        return hashlib.sha256(data).hexdigest() == facts["sha256"] and facts["file"] == f"{mark.stem}.pt"
    except (OSError, ValueError, KeyError):
        return False


@dataclass(frozen=True)
class Kill:
    """A moment to end a process without a word: by the clock, or in a trap."""

    seconds: float | None = None  # after the command began
    trap: Trap | None = None

    def __call__(self, command: Callable[..., Outcome]) -> Outcome:
        """Run the command and kill it there, if it gets so far."""
        if self.seconds is None:
            return command(trap=self.trap)
        return command(disturb=lambda process: process.wait(self.seconds) or process.send(signal.SIGKILL))


@dataclass(frozen=True)
class Moment:
    """A moment while a run trains, by its own pace: a little after its record has a step."""

    case: Case
    step: int
    share: float  # of the mean time from one step to the next, 0 to 1

    def wait(self, process: Process) -> float | None:
        """Wait for it; returns that mean time in seconds, or None if the command has ended before."""
        while len(self.case.records("step")) <= self.step:
            if process.wait(0.01):
                return None
        first = self.case.records()[0]["time"]
        pace = (time.time() - first) / (self.step + 1)
        return None if process.wait(self.share * pace) else pace


@dataclass
class Story:
    """What happened to a case on its way to the end."""

    kills: list[tuple[str, Kill]] = field(default_factory=list)  # with the phase
    resumes: int = 0
    restarts: int = 0  # a kill before the first checkpoint: there was nothing to go on from
    complaints: list[str] = field(default_factory=list)


def until_the_end(case: Case, draw: Callable[[Case], Kill | None] = lambda case: None, most: int = 60) -> Story:
    """Begin the run or go on with it, kill it where `draw` says so, go on, ..., until a command ends by itself.

    Args:
        draw: the kill of the next command; None lets it run to its end.
    """
    story, anew = Story(), case.run_dir is None
    for _ in range(most):
        kill, saved = draw(case), bool(case.checkpoints())  # there is one before the first step
        command = case.begin if anew else case.resume
        outcome = command() if kill is None else kill(command)
        story.resumes += not anew
        if outcome.orphans:
            story.complaints.append(f"{outcome.orphans} processes outlived theirs")
        if outcome.killed:
            story.kills.append((phase_of(outcome, case), kill))
            anew = case.run_dir is None  # killed before there was a folder
        elif not anew and not saved:
            anew = True
            story.restarts += 1
            story.resumes -= 1
            story.complaints += refusal_complaints(outcome)
        elif outcome.code == 0:
            return story
        else:
            story.complaints.append(f"exit code {outcome.code}: {last_line(outcome)}")
            return story
    story.complaints.append(f"did not end in {most} commands")
    return story


def refusal_complaints(outcome: Outcome) -> list[str]:
    """What is wrong with the answer to going on with a run that has no checkpoint."""
    clear = re.search(r"^error: .*(no whole checkpoint|no folder of a run)", outcome.output, re.M)
    if outcome.code == 2 and clear and "Traceback" not in outcome.output:
        return []
    return [f"with no checkpoint, a resume ends with exit code {outcome.code}: {last_line(outcome)}"]


def last_line(outcome: Outcome) -> str:
    """The last line that a command printed."""
    return next((line for line in reversed(outcome.output.splitlines()) if line.strip()), "(no output)")[:300]


def phase_of(outcome: Outcome, case: Case) -> str:
    """What a killed command was doing, from its calls and the record."""
    if seconds_to_build(outcome) is None:
        return "building"
    last = outcome.calls[-1]
    if last.place == "checkpoints":
        return "checkpoint"
    if last.place == "weights" and last.kind != "rename":
        return "weights"
    lines = case.records()
    event = lines[-1]["event"] if lines else "start"
    return {"epoch": "evaluation", "end": "the end"}.get(event, "steps")


def seconds_to_build(outcome: Outcome) -> float | None:
    """When a command had built everything and opened the record; None if it did not come so far."""
    return next((call.seconds for call in outcome.calls if call.place == "metrics.jsonl"), None)
