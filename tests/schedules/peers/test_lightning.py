"""Lightning: PyTorch's own schedulers, stepped as Lightning steps them."""

from __future__ import annotations

import logging
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from yolo_cosine.schedules.curves import InvalidSchedule
from yolo_cosine.schedules.expression import Clock, read_phases, write_phases
from yolo_cosine.schedules.presets import from_native

LR0 = [0.1, 0.01]
COSINE = ("CosineAnnealingLR", {"T_max": 7, "eta_min": 1e-3})
STEP = ("StepLR", {"step_size": 2, "gamma": 0.5})


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr0} for lr0 in LR0], momentum=0.9)


def by_rule(name, arguments, keys, batches, epochs):
    """The rates of every update, and the one left after the run, by the rule of `update_lr_schedulers`, in a loop."""
    opt = optimizer()
    scheduler = getattr(lr_scheduler, name)(opt, **arguments)
    interval, frequency = keys.get("interval", "epoch"), keys.get("frequency", 1)
    accumulate = keys.get("accumulate_grad_batches", 1)
    rates = []
    for epoch in range(epochs):
        for batch in range(batches):
            if (batch + 1) % accumulate == 0 or batch + 1 == batches:
                rates.append([group["lr"] for group in opt.param_groups])
                opt.step()
                if interval == "step" and (batch + 1) % frequency == 0:
                    scheduler.step()
        if interval == "epoch" and (epoch + 1) % frequency == 0:
            scheduler.step()
    return [*rates, [group["lr"] for group in opt.param_groups]]


def same(ours, rates):
    for index, row in enumerate(rates):
        assert [ours.lr(index, g) for g in range(len(row))] == pytest.approx(row, rel=1e-9, abs=1e-15), index


def ours(name, arguments, keys, batches):
    return from_native(
        "lightning", name, {"scheduler": arguments, "lightning": keys}, {"lr0": LR0, "iters_per_epoch": batches}
    )


@settings(max_examples=40, deadline=None)
@given(
    scheduler=st.sampled_from([COSINE, STEP, ("ExponentialLR", {"gamma": 0.9})]),
    interval=st.sampled_from(["step", "epoch"]),
    frequency=st.integers(1, 7),
    accumulate=st.integers(1, 5),
    batches=st.integers(1, 9),
    epochs=st.integers(1, 4),
)
def test_steps_by_the_rule(scheduler, interval, frequency, accumulate, batches, epochs):
    keys = {"interval": interval, "frequency": frequency, "accumulate_grad_batches": accumulate}
    same(ours(*scheduler, keys, batches), by_rule(*scheduler, keys, batches, epochs))


def real_rates(name, arguments, keys, batches, epochs):
    """The rates of every update of a run under Lightning's own Trainer, and the ones left after it."""
    try:
        import lightning
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision built for another torch
        pytest.skip(f"Lightning cannot be imported here: {error}")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    keys = dict(keys)
    accumulate = keys.pop("accumulate_grad_batches", 1)
    rates = []

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.a, self.b = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)

        def training_step(self, batch, batch_idx):
            return self.b(self.a(batch)).sum()

        def configure_optimizers(self):
            pairs = zip((self.a, self.b), LR0, strict=True)
            self.opt = torch.optim.SGD([{"params": m.parameters(), "lr": lr0} for m, lr0 in pairs], momentum=0.9)
            scheduler = getattr(lr_scheduler, name)(self.opt, **arguments)
            return {"optimizer": self.opt, "lr_scheduler": {"scheduler": scheduler, **keys}}

        def optimizer_step(self, epoch, batch_idx, optimizer, closure):
            rates.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step(closure=closure)

    module = Module()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_epochs=epochs, accumulate_grad_batches=accumulate, accelerator="cpu", logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(module, torch.utils.data.DataLoader(torch.zeros(batches, 1), batch_size=1))
    return [*rates, [group["lr"] for group in module.opt.param_groups]]


@pytest.mark.parametrize(
    ("scheduler", "keys", "batches", "epochs"),
    [
        (COSINE, {}, 4, 3),
        (COSINE, {"interval": "step"}, 4, 3),
        (COSINE, {"interval": "step", "frequency": 3}, 7, 3),
        (COSINE, {"interval": "step", "accumulate_grad_batches": 3}, 7, 3),
        (STEP, {"interval": "step", "frequency": 2, "accumulate_grad_batches": 3}, 7, 3),
        (STEP, {"interval": "epoch", "frequency": 2, "accumulate_grad_batches": 2}, 3, 5),
    ],
)
def test_parity_with_the_trainer(scheduler, keys, batches, epochs):
    rates = real_rates(*scheduler, keys, batches, epochs)
    assert rates == by_rule(*scheduler, keys, batches, epochs)
    same(ours(*scheduler, keys, batches), rates)


def test_frequency_counts_within_the_epoch():
    """Six batches an epoch, every fifth: one step an epoch, after updates 5, 11, 17, ..."""
    schedule = ours(*STEP, {"interval": "step", "frequency": 5}, 6)
    assert [k for k in range(1, 31) if schedule.lr(k) != schedule.lr(k - 1)] == [11, 23]
    assert any("frequency=5" in note for note in schedule.notes)


def test_the_last_update_of_an_epoch_takes_what_is_left():
    schedule = ours(*STEP, {"accumulate_grad_batches": 4, "max_epochs": 3}, 10)
    assert [schedule.accumulate(k) for k in range(7)] == [4, 4, 2, 4, 4, 2, 4]
    assert schedule.length == 9 and schedule.clock == "update"
    assert ours(*STEP, {"accumulate_grad_batches": 4}, 3).accumulate(0) == 3


def test_one_cycle_takes_the_groups_rates_and_lets_one_more_step_through():
    schedule = ours("OneCycleLR", {"type": "OneCycleLR", "total_steps": 12}, {"interval": "step"}, 6)
    assert max(schedule.lr(k, 1) for k in range(12)) <= 0.01
    assert schedule.momentum(0) == pytest.approx(0.95)
    schedule.lr(12)
    with pytest.raises(InvalidSchedule, match="total_steps: the cycle of 12 steps is over"):
        schedule.lr(13)


def test_the_clock_can_be_written_and_read():
    factor = ours(*COSINE, {"interval": "step", "frequency": 2}, 5).factors[0]
    again = read_phases(write_phases(factor), Clock(5, 100), "phases")
    assert [again(k) for k in range(30)] == [factor(k) for k in range(30)]


@pytest.mark.parametrize(
    ("scheduler", "keys", "common", "message"),
    [
        ({"T_max": 5}, {"interval": "batch"}, {}, "lightning.interval: 'batch' is not known; write step or epoch"),
        ({"T_max": 5}, {"frequency": 0}, {}, "lightning.frequency: 0 is no whole number from 1 on"),
        ({"T_max": 5}, {"accumulate_grad_batches": 1.5}, {}, "accumulate_grad_batches: 1.5 is no whole number"),
        ({"T_max": 5}, {"intervall": "step"}, {}, "lightning.intervall: there is no such key; did you mean interval"),
        ({"T_max": 5}, "step", {}, "lightning: 'step' are no keys"),
        ({"T_max": 5}, {}, {"iters_per_epoch": None}, "iters_per_epoch is missing"),
        ({"T_mx": 5}, {}, {}, "scheduler: T_mx: there is no such argument; did you mean T_max"),
        ({"type": "StepLR", "step_size": 1}, {}, {}, "scheduler.type: 'StepLR' is another scheduler"),
        ([5], {}, {}, r"scheduler: \[5\] are no arguments"),
    ],
)
def test_mistakes(scheduler, keys, common, message):
    native = {"scheduler": scheduler, "lightning": keys}
    with pytest.raises(InvalidSchedule, match=f"^lightning.CosineAnnealingLR: .*{message}"):
        from_native("lightning", "CosineAnnealingLR", native, {"lr0": 0.1, "iters_per_epoch": 5} | common)
