from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import TINY
from yolo_cosine.ablation.executor import run_processes

KEYS = {
    "model": str(TINY), "imgsz": 64, "batch": 8, "nominal_batch": 8, "epochs": 3, "warmup_epochs": 1, "log_every": 2,
    "close_mosaic": 1, "plots": False, "tensorboard": False, "predictions": False, "workers": 1,
    "checkpoint": {"every": "1it", "keep": 99},
}  # fmt: skip


@pytest.fixture
def write_run(tmp_path, small_shapes):
    """A function that writes a configuration with these keys; its run (nine steps by default) goes to `runs/run`."""

    def write(**keys):
        config = tmp_path / "run.yaml"
        config.write_text(json.dumps({**KEYS, "runs": str(tmp_path / "runs"), "data": str(small_shapes), **keys}))
        return config

    return write


@pytest.fixture
def torchrun():
    """A function that runs `train`, or a script, with these arguments under torchrun, and returns how it ended."""

    def run(*arguments, script=None, ranks=2, restarts=0):
        what = [str(script)] if script else ["-m", "yolo_cosine.train"]
        command = [
            sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--master-port", str(free_port()),
            "--max-restarts", str(restarts), *what, *arguments,
        ]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=240)

    return run


def free_port():
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


@dataclass(frozen=True)
class Ended:
    """A process that has ended."""

    code: int
    said: str  # on both streams


@pytest.fixture
def train_together(tmp_path):
    """A function that runs `train` with these arguments in several processes, as torchrun does, and returns how they ended.

    They are forked from a process that has imported everything: to begin takes them no time. Each has a current folder of
    its own, as on machines that share no disk, but for what is named by an absolute path.
    """

    def run(*each, environment=()):
        """`each`: for every rank a list of its arguments."""
        port, context = free_port(), run_processes()
        processes, ranks = [], len(each)
        for rank, arguments in enumerate(each):
            folder = tmp_path / f"rank{rank}"
            folder.mkdir(exist_ok=True)
            variables = {
                "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks,
                "MASTER_ADDR": "localhost", "MASTER_PORT": port, **dict(environment),
            }  # fmt: skip
            process = context.Process(target=_train, args=(list(arguments), variables, folder))
            process.start()
            processes.append((process, folder / "said"))
        for process, _ in processes:
            process.join(120)
            process.kill()
        return [Ended(process.exitcode, said.read_text()) for process, said in processes]

    return run


def _train(arguments: list[str], variables: dict[str, object], folder: Path) -> None:
    os.environ.update({name: str(value) for name, value in variables.items()})
    os.chdir(folder)
    said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    import torch

    from yolo_cosine import train

    torch.set_num_threads(1)
    sys.exit(train.main(arguments))
