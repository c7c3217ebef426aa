"""One example of every kind of schedule, from 1 towards 0 over 100 steps where it has ends: for the gallery and the tests."""

from __future__ import annotations

from yolo_cosine.schedules.compose import Clip, EpochWise, Noise, Product, RampInto, Repeat, Rounded, Scale, Shift, join
from yolo_cosine.schedules.curves import (
    Constant,
    Cosine,
    Exponential,
    Geometric,
    InverseSqrt,
    InverseTime,
    Linear,
    MultiStep,
    OneMinusSqrt,
    Piecewise,
    Polynomial,
    Power,
    Rex,
    Schedule,
    Sigmoid,
    Step,
    Tanh,
)
from yolo_cosine.schedules.cycles import CosinePeriodic, CosineRestarts, Cyclic, OneCycle

LENGTH = 100
"""Steps after which an example is over, if it ever is."""

EXAMPLES: dict[str, Schedule] = {
    "constant": Constant(1.0, LENGTH),
    "linear": Linear(1.0, 0.0, LENGTH),
    "cosine": Cosine(1.0, 0.0, LENGTH),
    "cosine-periodic": CosinePeriodic(1.0, 0.0, LENGTH),
    "cosine-restarts": CosineRestarts(1.0, 0.0, T_0=20, T_mult=2, decay=0.8, warmup=4),
    "polynomial": Polynomial(1.0, 0.0, LENGTH, power=2.0),
    "power": Power(0.0, 1.0, LENGTH, power=2.0),
    "geometric": Geometric(1.0, 0.01, LENGTH),
    "exponential": Exponential(1.0, 0.5, every=25, steps=LENGTH),
    "inverse-sqrt": InverseSqrt(1.0, timescale=10, steps=LENGTH),
    "inverse-time": InverseTime(1.0, rate=0.5, every=10, steps=LENGTH),
    "tanh": Tanh(1.0, 0.0, LENGTH),
    "sigmoid": Sigmoid(1.0, gamma=0.1, middle=50, steps=LENGTH),
    "one-minus-sqrt": OneMinusSqrt(1.0, 0.0, LENGTH),
    "rex": Rex(1.0, 0.0, LENGTH),
    "step": Step(1.0, 0.5, every=25, steps=LENGTH),
    "multistep": MultiStep(1.0, (60, 85), 0.1, steps=LENGTH),
    "piecewise": Piecewise((0.2, 1.0, 0.5, 0.1), (10, 50, 80), steps=LENGTH),
    "cyclic": Cyclic(0.1, 1.0, up=12, down=13, mode="triangular2"),
    "one-cycle": OneCycle(0.04, 1.0, 0.0, LENGTH),
    "join": join(Linear(0.0, 1.0, 10), Constant(1.0, 60), OneMinusSqrt(1.0, 0.0, 30)),
    "scale": Scale(Cosine(1.0, 0.0, LENGTH), 0.5),
    "shift": Shift(Cosine(1.0, 0.0, LENGTH), 30),
    "clip": Clip(Cosine(1.0, 0.0, LENGTH), low=0.2, high=0.8),
    "repeat": Repeat(Cosine(1.0, 0.0, 25), 4),
    "product": Product((Linear(0.0, 1.0, 20), Cosine(1.0, 0.0, LENGTH))),
    "epoch-wise": EpochWise(Cosine(1.0, 0.0, 10), 10),
    "ramp-into": RampInto(0.0, Cosine(1.0, 0.0, LENGTH), 20),
    "rounded": Rounded(Linear(1.0, 4.0, LENGTH)),
    "noise": Noise(Cosine(1.0, 0.0, LENGTH), std=0.1, every=2),
}
"""By the name that YAML has for the kind."""
