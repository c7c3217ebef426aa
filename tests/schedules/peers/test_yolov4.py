"""YOLOv4's two trainers: equal to their formulas at every update, and clear about mistakes.

Neither can be installed. The values of `yolov4.cfg` follow from darknet's formulas, which `test_darknet.py` checks.
`port` is the loop of `train.py` in WongKinYiu/PyTorch_YOLOv4 (041947f, 543515d), which applies the rates to the groups
one batch after another.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from yolo_cosine.schedules.curves import InvalidSchedule
from yolo_cosine.schedules.presets import from_native, schedules_of


def test_schedules_are_complete():
    assert set(schedules_of("yolov4")) == {"darknet", "pytorch"}


def test_yolov4_cfg():
    ours = from_native("yolov4", "darknet", {})
    assert ours.lr(499) == pytest.approx(0.0013 * 0.5**4)
    for update, expected in [(999, 0.0013), (399_998, 0.0013), (399_999, 0.00013), (449_999, 0.000013)]:
        assert ours.lr(update) == pytest.approx(expected)
    assert ours.length == 500_500
    shorter = from_native("yolov4", "darknet", {"max_batches": 6000, "learning_rate": 0.00261})
    assert [shorter.lr(i) for i in (4798, 4799, 5399)] == pytest.approx([0.00261, 0.000261, 0.0000261])
    assert "burn_in" in from_native("yolov4", "darknet", {"max_batches": 900}).notes[-1]


def port(a: dict, epochs: int, nb: int):
    """Rates of the groups (other, weight, bias), momentum and accumulation, batch after batch."""
    curve = lambda x: (1 + math.cos(x * math.pi / epochs)) / 2 * (1 - a["lrf"]) + a["lrf"]  # noqa: E731
    nw = max(round(a["warmup_epochs"] * nb), 1000)
    rates, momentum, last_epoch = [a["lr0"]] * 3, a["momentum"], -1
    accumulate = max(round(64 / a["batch_size"]), 1)
    for epoch in range(epochs):
        for i in range(nb):
            ni = i + nb * epoch
            if ni <= nw:
                accumulate = max(1, np.interp(ni, [0, nw], [1, 64 / a["batch_size"]]).round())
                for j in range(3):
                    start = a["warmup_bias_lr"] if j == 2 else 0.0
                    rates[j] = np.interp(ni, [0, nw], [start, a["lr0"] * curve(epoch)])
                momentum = np.interp(ni, [0, nw], [a["warmup_momentum"], a["momentum"]])
            yield ni, list(rates), momentum, accumulate
        last_epoch += 1
        rates = [a["lr0"] * curve(last_epoch)] * 3


@pytest.mark.parametrize(
    ("changed", "epochs", "nb"),
    [
        ({}, 30, 50),
        ({}, 10, 400),
        ({"lrf": 0.1, "warmup_momentum": 0.8}, 3, 777),
        ({"warmup_epochs": 0, "batch_size": 6, "warmup_bias_lr": 0.2}, 5, 300),
        ({"warmup_epochs": 5, "lr0": 0.001, "lrf": 1.0, "batch_size": 128}, 8, 250),
        ({"warmup_epochs": 3.7}, 2, 100),
    ],
)
def test_yolov4_pytorch_is_the_ports_loop(changed, epochs, nb):
    defaults = {"lr0": 0.01, "lrf": 0.2, "momentum": 0.937, "warmup_epochs": 3.0, "warmup_momentum": 0.9}
    a = defaults | {"warmup_bias_lr": 0.1, "batch_size": 16} | changed
    ours = from_native("yolov4", "pytorch", changed, {"epochs": epochs, "iters_per_epoch": nb})
    assert [group.name for group in ours.groups] == ["norm", "weight", "bias"]
    for ni, rates, momentum, accumulate in port(a, epochs, nb):
        assert [ours.lr(ni, j) for j in range(3)] == pytest.approx(rates, rel=1e-9, abs=1e-15), ni
        assert ours.momentum(ni) == pytest.approx(momentum)
        assert ours.accumulate(ni) == accumulate
    assert ours.length == epochs * nb


def test_yolov4_pytorch_lags_an_epoch_after_its_warmup():
    ours = from_native("yolov4", "pytorch", {"epochs": 10, "iters_per_epoch": 400, "warmup_epochs": 1})
    # the warmup ends at step 1000, in epoch 2: epoch 3 repeats that epoch's rate
    assert ours.lr(1000) == ours.lr(1199) == ours.lr(1200) == ours.lr(1599) > ours.lr(1600)
    adam = from_native("yolov4", "pytorch", {"epochs": 10, "iters_per_epoch": 400, "optimizer": "Adam"})
    assert adam.momentum(0) == adam.momentum(2000) == 0.937
    assert "not over when the run is" in from_native("yolov4", "pytorch", {"epochs": 1, "iters_per_epoch": 9}).notes[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 3}, "iters_per_epoch is missing"),
        ({"epochs": 0, "iters_per_epoch": 9}, "epochs: 0 is no whole number from 1 on"),
        ({"epochs": 3, "iters_per_epoch": 9, "optimizer": "lion"}, "optimizer: 'lion' is none of the peer's"),
        ({"epochs": 3, "iters_per_epoch": 9, "warmup_epochs": -1}, "warmup_epochs: -1 is below 0"),
        ({"epochs": 3, "iters_per_epoch": 9, "lr0": 0}, "lr0: 0 has no multiple"),
    ],
)
def test_yolov4_mistakes(arguments, message):
    with pytest.raises(InvalidSchedule, match=message):
        from_native("yolov4", "pytorch", arguments)
