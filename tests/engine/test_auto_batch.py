"""`batch: auto`: the search; what it measures is there on GPUs only."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from yolo_cosine import find_lr, preview, train
from yolo_cosine.config.load import load_config
from yolo_cosine.engine import auto_batch
from yolo_cosine.engine.auto_batch import largest, memory_of_steps, most_boxes, with_known_batch
from yolo_cosine.engine.precision import Precision
from yolo_cosine.errors import UserError


@given(limit=st.integers(0, 5000), most=st.integers(1, 3000))
def test_the_largest_batch_is_found_with_few_questions(limit, most):
    asked = []

    def fits(batch):
        assert 1 <= batch <= most
        asked.append(batch)
        return batch <= limit

    found, possible = largest(fits, most), min(limit, most)
    assert found <= possible and len(asked) == len(set(asked)) <= 24
    assert found == possible if possible <= 8 else possible - found < 8
    assert found <= 8 or found % 8 == 0 or found == most


@pytest.fixture
def no_network(monkeypatch):
    """The stride of one is all that is asked."""
    monkeypatch.setattr(auto_batch.detector, "build_detector", lambda *names: SimpleNamespace(stride=torch.tensor(32)))


def test_a_gpu_of_a_made_up_size(monkeypatch, no_network):
    """1 GB and 0.2 GB for each image, on a GPU of 80 GB of which others use 4. Images are made in up to 2 GB, and 7 of each are
    there meanwhile."""
    gb = 10**9
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (76 * gb, 80 * gb))
    monkeypatch.setattr(auto_batch, "room_on", lambda device: 0)
    seeded = []
    monkeypatch.setattr(auto_batch, "seed_everything", lambda *settings: seeded.append(settings))

    def memory(config, names, boxes, precision):
        assert boxes > 4 and seeded.pop() == (config.seed, config.deterministic)  # before the first
        seeded.append((config.seed, config.deterministic))
        return gb + config.batch * gb // 5

    monkeypatch.setattr(auto_batch, "memory_of_steps", memory)
    gpu = Precision("bf16", torch.device("cuda"))
    for batch, mixup, expected in (("auto", 0, 232), ("auto", 0.1, 224), ("10%", 0, 8), ("25%", 0, 56)):
        config = load_config(None, [f"batch={batch}", "data=shapes", f"mixup={mixup}"], auto_batch=True)
        found, text = with_known_batch(config, gpu, 1)
        assert (
            found.batch == expected and f"batch: {batch} is {expected} images" in text and "of the GPU's 80 GB" in text
        )
        assert found.nominal_batch == config.nominal_batch
    with pytest.raises(UserError, match="one image of 640 px needs more"):
        with_known_batch(load_config(None, ["batch=6%", "data=shapes"], auto_batch=True), gpu, 1)
    with pytest.raises(UserError, match="write the number of images over all 4"):
        with_known_batch(config, gpu, 4)


def test_what_cannot_be_trained_is_told_before_it_is_tried(no_network):
    config = load_config(None, ["batch=auto", "data=shapes", "imgsz=100"], auto_batch=True)
    with pytest.raises(UserError, match=r"imgsz: 100 is no multiple of the stride 32.*write 96"):
        with_known_batch(config, Precision("bf16", torch.device("cuda")), 1)


@pytest.mark.parametrize(
    ("overrides", "expected"), [([], 300 + 3 * 5), (["mosaic=0"], 300), (["mixup=0.1"], 300 + 7 * 5), (["mosaic=0", "cutmix=1"], 305)]
)  # fmt: skip
def test_as_many_boxes_as_an_image_may_show(overrides, expected):
    """One of 300 images has 300 boxes, the others up to 5, and there are crowd regions."""
    counts = np.array([300, *([0, 5, 5] * 100)[1:]])
    crowd = np.arange(counts.sum() + 40) < 40
    counts[0] += 40
    labels = SimpleNamespace(offsets=np.concatenate(([0], np.cumsum(counts))), crowd=crowd)
    assert most_boxes(labels, load_config(None, overrides)) == expected


def test_a_trial_is_some_whole_steps(monkeypatch):
    seen = []
    monkeypatch.setattr(auto_batch.Learner, "take", lambda self, batch, *rest, **named: seen.append((self, batch)))
    auto_batch._train(load_config(None, ["imgsz=64", "batch=2"]), ("a",), 20, Precision("fp32", torch.device("cpu")))
    (learner, batch), *_ = seen
    assert len(seen) == 3 and batch.targets.valid.sum() == 40 and learner.ema is not None


@pytest.mark.parametrize(("error", "caught"), [("CUDA error: out of memory", True), ("size mismatch", False)])
def test_a_trial_that_has_no_memory(error, caught, monkeypatch):
    def fail(*arguments):
        raise RuntimeError(error)

    for name in ("reset_peak_memory_stats", "max_memory_reserved"):
        monkeypatch.setattr(torch.cuda, name, lambda device: 7)
    monkeypatch.setattr(auto_batch, "_train", fail)
    gpu = Precision("fp32", torch.device("cuda"))
    with contextlib.nullcontext() if caught else pytest.raises(RuntimeError, match="mismatch"):
        assert memory_of_steps(load_config(None), ("a",), 20, gpu) > 10**15


@pytest.mark.parametrize("value", ["auto", "60%"])
def test_without_a_gpu_it_is_refused(value, capsys, tmp_path):
    assert train.main(["--cfg", "configs/quickstart.yaml", f"batch={value}", "device=cpu", f"runs={tmp_path}"]) == 2
    assert f"batch: {value} asks how much memory a GPU has" in capsys.readouterr().err


@pytest.mark.parametrize("main", [preview.main, find_lr.main])
def test_where_no_run_begins_a_number_is_wanted(main, capsys):
    assert main(["--cfg", "configs/quickstart.yaml", "batch=auto"]) == 2
    assert "write a number here" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["big", "0%", "101%", "60 %", "-1"])
def test_what_is_no_batch(value, capsys):
    assert train.main(["--cfg", "configs/quickstart.yaml", f"batch={value}"]) == 2
    assert "batch" in capsys.readouterr().err
