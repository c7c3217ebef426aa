"""How much a run has to do before its first step."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# Trains until the first step is done and told, then prints what is imported, and whether a compiler that is imported from
# here on would be deterministic.
FIRST_STEP = """
import json, os, sys
from yolo_cosine import train
from yolo_cosine.data import kept
from yolo_cosine.engine.trainer import Trainer

def enough(trainer, step):
    loaded = sorted(sys.modules)
    import torch
    import torch._inductor.config as compiler
    kernels = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    print(json.dumps([loaded, bool(trainer.optimizer.state), kernels, compiler.deterministic]))
    sys.stdout.flush()
    os._exit(0)

Trainer.finish_step = enough
kept._LONG, kept._SETTLED = 0, -(10**18)  # whatever is read is worth to be kept, and has not changed for long
sys.exit(train.main(["--cfg", sys.argv[1]]))
"""

# What takes long to import, and is of no use before the first step.
LATER = (
    "matplotlib", "plotly", "pandas", "polars", "scipy", "sympy", "requests", "tensorflow", "torchvision", "torch._dynamo",
    "torch._inductor", "torch.distributed.tensor", "tensorboard.backend", "ultralytics.engine", "ultralytics.data", "ray",
)  # fmt: skip


@pytest.fixture(scope="module")
def first_step(tmp_path_factory, small_shapes):
    """What a process has imported when its first step is done, how it is set up, and what it has kept."""
    folder = tmp_path_factory.mktemp("first")
    keys = {"model": "yolo11n.yaml", "imgsz": 64, "batch": 8, "nominal_batch": 8, "epochs": 1, "warmup_epochs": 0}
    config = folder / "run.yaml"
    config.write_text(json.dumps({**keys, "runs": str(folder / "runs"), "data": str(small_shapes)}))
    told = subprocess.run([sys.executable, "-c", FIRST_STEP, str(config)], capture_output=True, text=True, timeout=120)
    assert told.returncode == 0, told.stderr
    kept = sorted(path.name.partition("-")[0] for path in (folder / "runs/.images").glob("*.columns"))
    return (*json.loads(told.stdout.splitlines()[-1]), kept)


@pytest.mark.parametrize("package", LATER)
def test_a_first_step_does_not_wait_for_what_it_does_not_need(first_step, package):
    loaded, stepped, *_ = first_step
    assert stepped and "yolo_cosine.sinks.tensorboard" in loaded
    assert [name for name in loaded if name == package or name.startswith(f"{package}.")] == []


def test_kernels_are_deterministic_and_so_is_a_compiler_that_comes_later(first_step):
    _, _, kernels, compiler, _ = first_step
    assert kernels == [True, True]
    assert compiler


def test_what_takes_long_to_read_is_kept_for_the_next_run(first_step):
    assert first_step[-1] == ["coco", "coco"]  # of both splits
