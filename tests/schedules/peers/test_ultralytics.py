"""Ultralytics' schedules against its own training loop, run on a network of a few numbers."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_cosine.schedules.curves import InvalidSchedule
from yolo_cosine.schedules.peers.ultralytics_ import TrainerGroup, trainer_schedule
from yolo_cosine.schedules.presets import from_native

REASON = "ultralytics is not installed, and this is a comparison with it"


def record_peer(steps_per_epoch: int, nc: int = 10, images: int | None = None, **arguments) -> list[SimpleNamespace]:
    """What the optimizer of a real run of Ultralytics' loop held at every step.

    Data, network, validation, saving and logging are stood in for; none of them has a say in the learning rate.
    """
    pytest.importorskip("ultralytics", reason=REASON)
    import torch
    from torch import nn
    from ultralytics.cfg import get_cfg
    from ultralytics.engine.trainer import BaseTrainer
    from ultralytics.utils.torch_utils import EarlyStopping

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            head = nn.Module()
            head.cv3 = nn.Conv2d(1, 1, 1)
            self.model = nn.ModuleList([nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), head])
            self.criterion = None

        def forward(self, batch):
            loss = sum(p.sum() for p in self.parameters())
            return loss, {"loss": loss.detach()}

    class Loader(list):
        num_workers, batch_size, drop_last = 0, 1, False

    class Trainer(BaseTrainer):
        def __init__(self):
            self.args = get_cfg(overrides={"plots": False, "val": False, "save": False, "amp": False, "close_mosaic": 0}
                                | arguments)  # fmt: skip
            self.batch_size, self.epochs, self.start_epoch = self.args.batch, self.args.epochs, 0
            self.world_size, self.device, self.amp, self.save_dir = 0, torch.device("cpu"), False, Path()
            self.optimizer = self.loss = self.fitness = self.ema = None
            self.loss_names, self.freeze_layer_names, self.metrics, self.plot_idx = (), (), {}, []
            self.csv = Path("results.csv")
            self.data, self.stride = {"train": 0, "val": 0, "nc": nc}, 32
            self.callbacks = {}

        def _setup_train(self):
            self.model = Network()
            self.scaler = torch.amp.GradScaler("cuda", enabled=False)
            self._build_train_pipeline()
            self.ema = SimpleNamespace(update=lambda model: None, update_attr=lambda *args, **kwargs: None)
            self.stopper, self.stop = EarlyStopping(self.args.patience), False
            self.scheduler.last_epoch = self.start_epoch - 1
            self.validator = None

        def get_dataloader(self, *args, **kwargs):
            loader = Loader([{"img": torch.zeros(1, 1, 1, 1), "cls": torch.zeros(1)}] * steps_per_epoch)
            loader.dataset = range(images or steps_per_epoch * self.batch_size)
            loader.sampler = loader.dataset
            return loader

        def validate(self):
            return {}, 0.0

        def label_loss_items(self, loss_items=None, prefix="train"):
            return {} if loss_items else []

        def save_metrics(self, metrics):
            pass

        def save_model(self):
            return False

        def final_eval(self):
            pass

    trainer, steps = Trainer(), []

    def note(trainer):
        groups = trainer.optimizer.param_groups
        momenta = [g["momentum"] if "momentum" in g else g["betas"][0] for g in groups]
        steps.append(SimpleNamespace(lr=[g["lr"] for g in groups], momentum=momenta, accumulate=trainer.accumulate))

    trainer.callbacks["on_train_batch_end"] = [note]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        trainer._do_train()
    assert len(steps) == steps_per_epoch * trainer.args.epochs
    return steps


def assert_equal(arguments: dict, steps_per_epoch: int, **of_the_data) -> None:
    peer = record_peer(steps_per_epoch, **arguments, **of_the_data)
    name = "cosine" if arguments.get("cos_lr") else "linear"
    ours = from_native("ultralytics", name, arguments | of_the_data, {"iters_per_epoch": steps_per_epoch})
    assert len(ours.groups) == len(peer[0].lr)
    for k, step in enumerate(peer):
        groups = range(len(ours.groups))
        assert [ours.lr(k, g) for g in groups] == pytest.approx(step.lr, rel=1e-12, abs=1e-15), f"step {k}"
        assert [ours.momentum(k, g) for g in groups] == pytest.approx(step.momentum, rel=1e-12), f"step {k}"
        assert ours.accumulate(k) == step.accumulate, f"step {k}"


@pytest.mark.parametrize(
    "arguments",
    [
        {"epochs": 6, "batch": 16, "optimizer": "SGD", "cos_lr": True},
        {"epochs": 6, "batch": 16, "optimizer": "SGD", "cos_lr": False},
        {"epochs": 1, "batch": 16, "optimizer": "SGD"},
        {"epochs": 2, "batch": 1, "optimizer": "SGD", "warmup_epochs": 9, "cos_lr": True},
        {"epochs": 3, "batch": 1, "nbs": 1024, "optimizer": "SGD"},
        {"epochs": 4, "batch": 24, "optimizer": "RMSProp", "warmup_epochs": 0.3, "lrf": 0.0},
        {"epochs": 4, "batch": 128, "optimizer": "adamw", "warmup_epochs": 1.5, "lrf": 1.0, "cos_lr": True},
        {"epochs": 3, "batch": 16, "optimizer": "NAdam", "warmup_epochs": 0.0},
        {"epochs": 3, "batch": 16, "optimizer": "MuSGD", "warmup_epochs": 1.0, "lr0": 0.02},
        {"epochs": 3, "batch": 16, "optimizer": "MuSGD", "warmup_epochs": 0.0, "warmup_bias_lr": 0.0, "momentum": 0.8},
        {"epochs": 5, "batch": 16, "lr0": 0.3, "momentum": 0.5},
    ],
    ids=str,
)
def test_every_step_is_the_peers(arguments):
    assert_equal(arguments, steps_per_epoch=10)


@settings(max_examples=12, deadline=None)
@given(
    arguments=st.fixed_dictionaries(
        {
            "epochs": st.integers(1, 6),
            "batch": st.integers(1, 80),
            "nbs": st.integers(1, 200),
            "lr0": st.floats(1e-4, 1),
            "lrf": st.floats(0, 1),
            "momentum": st.floats(0.1, 0.99),
            "warmup_epochs": st.floats(0, 8),
            "warmup_momentum": st.floats(0.1, 0.99),
            "warmup_bias_lr": st.floats(0.001, 1),
            "optimizer": st.sampled_from(["SGD", "AdamW", "MuSGD"]),
            "cos_lr": st.booleans(),
        }
    ),
    steps_per_epoch=st.integers(1, 9),
)
def test_any_arguments_give_the_peers_steps(arguments, steps_per_epoch):
    assert_equal(arguments, steps_per_epoch)


@pytest.mark.parametrize("data", [{"nc": 1}, {"nc": 80}, {"nc": 3, "images": 37}])
def test_auto_takes_adamw_for_short_runs(data):
    assert_equal({"epochs": 4, "batch": 8, "optimizer": "auto"}, steps_per_epoch=5, **data)


@pytest.mark.parametrize("warmup_epochs", [0.0, 1.0])
def test_auto_takes_musgd_for_long_runs(warmup_epochs):
    data = {"nc": 2, "images": 64 * 10_001}
    assert_equal({"epochs": 1, "batch": 64, "warmup_epochs": warmup_epochs}, steps_per_epoch=3, **data)


def test_the_warmup_of_an_epoch_aims_at_its_own_rate_and_the_last_epoch_is_one_above_the_end():
    ours = from_native("ultralytics", "linear", {"epochs": 4, "optimizer": "SGD"}, {"iters_per_epoch": 10})
    assert (ours.lr(0, "weight"), ours.lr(0, "bias")) == (0.0, 0.1)
    assert ours.lr(30) == ours.lr(39) == pytest.approx(0.01 * (1 - 0.75 * 0.99))  # warmup_epochs 3 end at step 30
    assert ours.lr(29) == pytest.approx(0.01 * (1 - 0.5 * 0.99) * 29 / 30)


def test_past_the_end_the_line_holds_and_the_cosine_rises_again():
    line, cosine = (
        from_native("ultralytics", name, {"epochs": 5, "optimizer": "SGD"}, {"iters_per_epoch": 10})
        for name in ("linear", "cosine")
    )
    assert line.lr(50) == line.lr(500) == pytest.approx(0.0001)
    assert cosine.lr(50) == pytest.approx(0.0001)
    assert cosine.lr(100) == pytest.approx(0.01)


def test_the_ramp_of_the_accumulation_rounds_as_numpys_interpolation_does():
    numpy = pytest.importorskip("numpy")
    ours = from_native(
        "ultralytics", "linear", {"epochs": 200, "batch": 1, "nbs": 6, "optimizer": "SGD", "warmup_epochs": 154},
        {"iters_per_epoch": 1},
    )  # fmt: skip
    exact_halves = [round(1 + 5 * k / 154) for k in range(155)]
    peer = [int(numpy.interp(k, [0, 154], [1, 6]).round()) for k in range(155)]
    assert peer != exact_halves
    assert [ours.accumulate(k) for k in range(155)] == peer


def test_a_resumed_run_has_the_rates_of_an_uninterrupted_one():
    arguments, run = {"epochs": 12, "optimizer": "SGD"}, {"iters_per_epoch": 40}
    whole = from_native("ultralytics", "cosine", arguments, run)
    resumed = from_native("ultralytics", "cosine", {**arguments, "resume_at_epoch": 7}, run)
    assert resumed.factors == whole.factors
    assert "first update" in resumed.notes[0]


def test_the_arguments_that_auto_left_in_a_checkpoint_bring_its_momentum():
    left = {"epochs": 8, "optimizer": "AdamW", "lr0": 0.002, "warmup_bias_lr": 0.0}  # auto with 1 class
    assert from_native("ultralytics", "linear", left, {"iters_per_epoch": 40}).momentum(0) == 0.9
    own = {**left, "warmup_bias_lr": 0.1}
    assert from_native("ultralytics", "linear", own, {"iters_per_epoch": 40}).momentum(0) == 0.937


def test_a_log_has_the_rate_of_each_epochs_last_step():
    arguments = {"optimizer": "SGD", "epochs": 5, "cos_lr": True}
    logged = from_native("ultralytics", "cosine", arguments, {"lr0": 0.01, "lrf": 0.01, "iters_per_epoch": 10})
    steps = from_native("ultralytics", "cosine", {**arguments, "lrf": 0.01}, {"lr0": 0.01, "iters_per_epoch": 10})
    assert (logged.clock, steps.clock) == ("epoch", "step")
    assert [logged.lr(e, "bias") for e in range(5)] == [steps.lr(10 * e + 9, "bias") for e in range(5)]
    run = {"lr0": 0.01, "lrf": 0.01, "iters_per_epoch": 10}
    assert from_native("ultralytics", "cosine", arguments, {**run, "granularity": "iteration"}).clock == "step"
    assert from_native("ultralytics", "cosine", arguments, {**run, "total_iters": 50}).clock == "step"


def test_equal_groups_have_equal_factors():
    ours = from_native("ultralytics", "cosine", {"optimizer": "SGD"}, {"iters_per_epoch": 10})
    assert ours.factors[0] == ours.factors[1] != ours.factors[2]
    assert [group.name for group in ours.groups] == ["weight", "bn", "bias"]


def test_any_curve_and_groups_can_be_composed():
    from yolo_cosine.schedules.curves import Constant

    groups = (TrainerGroup("early", "weight", 0.5), TrainerGroup("late_bias", "bias", 0.25))
    ours = trainer_schedule(
        groups, curve=Constant(1.0), epochs=5, steps_per_epoch=10, batch=8, nbs=32, warmup_epochs=1.0
    )
    assert [ours.lr(5, name) for name in ("early", "late_bias")] == [0.25, (0.1 + 0.25) / 2]
    assert [ours.accumulate(k) for k in (0, 5, 10)] == [1, 2, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, r"epochs: 0 is no whole number"),
        ({"epochs": 2.5}, r"epochs: 2\.5 is no whole number"),
        ({"batch": -1}, r"batch: -1 is no whole number"),
        ({"lr0": 1.5}, r"lr0: 1\.5 is not from 0 to 1"),
        ({"lr0": 0.0}, r"lr0: 0 has no multiple"),
        ({"lr0": [0.1, 0.2]}, r"lr0: \[0\.1, 0\.2\] is no finite number; write one number"),
        ({"momentum": -0.1}, r"momentum: -0\.1 is not from 0 to 1"),
        ({"warmup_epochs": float("nan")}, r"warmup_epochs: nan is no finite number"),
        ({"optimizer": "Lion"}, r"optimizer: 'Lion' is none of the peer's; write one of .*MuSGD"),
        ({"cos_lr": False}, r"cos_lr: False is not the schedule 'cosine'"),
        ({"time": 2.0}, r"time: 2\.0 hours .* write epochs"),
        ({"resume_at_epoch": 9, "epochs": 9}, r"resume_at_epoch: 9 is not inside a run of 9 epochs; write 1 to 8"),
        ({"nc": 0, "optimizer": "auto"}, r"nc: 0 is no whole number"),
        ({"warmup_epoch": 3}, r"warmup_epoch: there is no such argument; did you mean warmup_epochs\?"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(InvalidSchedule, match=message):
        from_native("ultralytics", "cosine", {"optimizer": "SGD"} | arguments, {"iters_per_epoch": 10})


def test_the_length_of_an_epoch_is_needed():
    with pytest.raises(InvalidSchedule, match=r"iters_per_epoch is missing"):
        from_native("ultralytics", "cosine", {"epochs": 3})
