"""A step: what a batch does to the weights."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from yolo_cosine.config.schema import RunConfig
from yolo_cosine.data.loader import TrainBatch
from yolo_cosine.data.targets import Targets
from yolo_cosine.engine import learner as learner_module
from yolo_cosine.engine import verdicts
from yolo_cosine.engine.distributed import World
from yolo_cosine.engine.learner import Learner
from yolo_cosine.engine.optim import build_optimizer
from yolo_cosine.engine.precision import Precision
from yolo_cosine.model import detector
from yolo_cosine.model.ema import Ema
from yolo_cosine.model.loss import DetectionLoss


class Loss:
    """The mean of what the network says, times a factor."""

    names = ("loss",)
    factor = 1.0

    def __call__(self, outputs, size, targets):
        mean = outputs.mean()
        return mean * self.factor, mean.detach()[None]


@pytest.fixture
def learner():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    return Learner(
        model, model, Loss(), Ema(model, 0.9, 10.0), optimizer, Precision("fp32", torch.device("cpu")), World(), 10.0
    )


def take(learner, step, accumulate=1, **keys):
    images = torch.randint(0, 256, (2, 3, 8, 8), generator=torch.Generator().manual_seed(step)).byte()
    batch = TrainBatch(np.arange(2), images, SimpleNamespace(to=lambda device: None), 8)
    return learner.take(batch, step, accumulate, parts=1, images=2)


@pytest.mark.parametrize(("scale", "finite"), [(2.0**16, True), (1.0, True), (0.5, False)])
def test_an_infinite_norm_is_in_order_while_there_is_something_to_scale_down(learner, scale, finite, monkeypatch):
    """And the host does not wait to learn how much that is."""
    learner.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=2)
    monkeypatch.setattr(torch.amp.GradScaler, "get_scale", None)
    before = learner.model[2].weight.detach().clone()
    assert take(learner, 0)
    assert not torch.equal(learner.model[2].weight, before)
    before = learner.model[2].weight.detach().clone()
    learner.loss.factor = float("inf")
    assert take(learner, 1)
    assert torch.equal(learner.model[2].weight, before)
    assert [update.finite.item() for update in learner.verdicts.heard()] == [True, finite]
    monkeypatch.undo()
    assert learner.scaler.get_scale() == scale / 2


@pytest.mark.parametrize(
    ("architecture", "keys"),
    [("yolo11n", {}), ("yolo26n", {}), ("yolov10n", {"clip_norm": 0.0}), ("yolov8n", {"optimizer": "AdamW"})],
)
def test_a_step_asks_a_device_for_nothing_and_stays_on_it(monkeypatch, architecture, keys):
    """PyTorch's device without values takes the way of a GPU, and refuses to tell any or to meet tensors elsewhere."""
    device = torch.device("meta")
    heard = []
    monkeypatch.setattr(verdicts, "to_host", lambda *values: heard.append(values) or (lambda: values))
    # what is fused is told on the device whether it happens, but there are no fused optimizers without values
    monkeypatch.setattr(learner_module, "step_if", lambda optimizer, happens: optimizer.step())
    config = RunConfig(data="none", model=f"{architecture}.yaml", **keys)
    model = detector.build_detector(config.model, ("a", "b")).to(device, memory_format=torch.channels_last)
    loss = DetectionLoss(model, box=config.box, cls=config.cls, dfl=config.dfl, epochs=config.epochs)
    optimizer, _ = build_optimizer(model, config)
    learner = Learner(
        model, detector.Rows(model), loss, Ema(model, config.ema_decay, config.ema_tau), optimizer, Precision("fp32", device),
        World(), config.clip_norm,
    )  # fmt: skip
    detector.train_mode(model, None)
    targets = Targets(
        torch.rand(4, 5, 4), torch.zeros(4, 5, dtype=torch.int64), torch.ones(4, 5, dtype=torch.bool), torch.rand(4, 2, 4),
        torch.ones(4, 2, dtype=torch.bool),
    )  # fmt: skip
    for step, (size, parts) in enumerate([(64, 1), (96, 2), (64, 1), (64, 3)]):
        images = torch.zeros(4, 64, 64, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
        assert learner.take(TrainBatch(np.arange(4), images, targets, size), step, 2, parts, 4) is bool(step % 2)
    found = [
        learner.sums,
        *model.state_dict().values(),
        *learner.ema.model.state_dict().values(),
        *(v for h in heard for v in h),
    ]
    assert len(heard) == 2 and {tensor.device for tensor in found} == {device}
    with pytest.raises(RuntimeError, match="meta"):
        learner.mean_losses(0, "")
