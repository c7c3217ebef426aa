"""A step: what a batch does to the weights."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from yolo_cosine.data.loader import TrainBatch
from yolo_cosine.engine.distributed import World
from yolo_cosine.engine.learner import Learner
from yolo_cosine.engine.precision import Precision
from yolo_cosine.model.ema import Ema


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
