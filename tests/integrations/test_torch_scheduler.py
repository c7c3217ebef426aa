"""`ScheduleLR` beside PyTorch's own schedulers, alone, in chains and in sequence, and through a checkpoint."""

from __future__ import annotations

import copy
import io
import math
import pickle
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler as torch_lr

from yolo_cosine.config.load import load_config
from yolo_cosine.integrations.torch_scheduler import ScheduleLR
from yolo_cosine.schedules.compose import Repeat, join
from yolo_cosine.schedules.curves import Constant, Cosine, Exponential, InvalidSchedule, Linear
from yolo_cosine.schedules.cycles import CosinePeriodic


def make(lrs=(0.1,), cls=torch.optim.SGD, **options):
    groups = [{"params": [nn.Parameter(torch.ones(2))], "lr": lr} for lr in lrs]
    return cls(groups, **options)


def run(optimizer, scheduler, steps):
    """The rates that each of the optimizer's steps is done with, group by group."""
    seen = []
    for _ in range(steps):
        seen.append([float(group["lr"]) for group in optimizer.param_groups])
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad = torch.zeros_like(p)
        optimizer.step()
        scheduler.step()
    return seen


def first(seen):
    return [rates[0] for rates in seen]


def test_the_cosine_of_the_article_rises_again_as_pytorchs_does():
    """Adam, lr 0.01, eta_min 0.0001, T_max 10, 20 epochs, a linear model that learns to add."""

    def train(scheduled):
        torch.manual_seed(0)
        model = nn.Linear(4, 1)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        scheduler = scheduled(optimizer)
        rates, losses = [], []
        for _ in range(20):
            x = torch.randn(64, 4)
            loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            rates.append(scheduler.get_last_lr()[0])
            losses.append(loss.item())
        return rates, losses

    theirs, their_losses = train(lambda o: torch_lr.CosineAnnealingLR(o, T_max=10, eta_min=0.0001))
    ours, our_losses = train(lambda o: ScheduleLR(o, CosinePeriodic(1.0, 0.01, 10)))
    assert ours == pytest.approx(theirs, rel=1e-9)
    assert our_losses == pytest.approx(their_losses, rel=1e-5)
    assert ours[9] == pytest.approx(0.0001) and ours[19] == pytest.approx(0.01)

    held, _ = train(lambda o: ScheduleLR(o, Cosine(1.0, 0.01, 10)))
    assert held[:10] == pytest.approx(ours[:10], rel=1e-12) and held[9:] == [pytest.approx(0.0001)] * 11
    restarted, _ = train(lambda o: ScheduleLR(o, Repeat(Cosine(1.0, 0.01, 10))))
    assert restarted[8] == pytest.approx(ours[8]) and restarted[9] == restarted[19] == 0.01


def test_one_schedule_for_all_groups_or_one_for_each():
    optimizer = make((0.1, 0.4))
    seen = run(optimizer, ScheduleLR(optimizer, Linear(1.0, 0.0, 4)), 5)
    assert seen == [[0.1 * f, 0.4 * f] for f in (1.0, 0.75, 0.5, 0.25, 0.0)]
    optimizer = make((0.1, 0.4))
    scheduler = ScheduleLR(optimizer, [Constant(0.5), Linear(0.0, 1.0, 2)])
    assert run(optimizer, scheduler, 3) == [[0.05, 0.0], [0.05, 0.2], [0.05, 0.4]]
    assert scheduler.get_last_lr() == [0.05, 0.4]


@settings(max_examples=40, deadline=None)
@given(
    lr=st.floats(1e-6, 10),
    steps=st.integers(1, 40),
    end=st.floats(0, 1),
    extra=st.integers(1, 60),
)
def test_it_does_what_lambda_lr_does_with_the_same_function(lr, steps, end, extra):
    schedule = join(Linear(0.0, 1.0, 3), Cosine(1.0, end, steps))
    ours, theirs = make((lr,)), make((lr,))
    expected = run(theirs, torch_lr.LambdaLR(theirs, schedule), extra)
    assert run(ours, ScheduleLR(ours, schedule), extra) == expected  # to the bit


def test_momentum_is_set_for_sgd_and_beta1_for_adam():
    sgd = make(momentum=0.9)
    scheduler = ScheduleLR(sgd, Constant(1.0), momentum=Linear(0.8, 0.9, 2))
    assert sgd.param_groups[0]["momentum"] == 0.8
    run(sgd, scheduler, 1)
    assert sgd.param_groups[0]["momentum"] == pytest.approx(0.85)
    adam = make(cls=torch.optim.AdamW, betas=(0.9, 0.99))
    ScheduleLR(adam, Constant(1.0), momentum=Constant(0.7))
    assert adam.param_groups[0]["betas"] == (0.7, 0.99)


@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize(
    "partner",
    [
        lambda o: torch_lr.ExponentialLR(o, gamma=0.99),
        lambda o: torch_lr.LinearLR(o, start_factor=0.1, total_iters=7),
        lambda o: torch_lr.ConstantLR(o, factor=0.25, total_iters=5),
        lambda o: torch_lr.StepLR(o, step_size=3, gamma=0.5),
        lambda o: ScheduleLR(o, Exponential(1.0, 0.97)),
    ],
    ids=["ExponentialLR", "LinearLR", "ConstantLR", "StepLR", "ScheduleLR"],
)
def test_a_chain_is_a_product(partner, ours_first):
    schedule = CosinePeriodic(1.0, 0.1, 10)
    alone = make()
    factors = [lr / 0.1 for lr in first(run(alone, partner(alone), 200))]
    optimizer = make()
    makers = [lambda o: ScheduleLR(o, schedule), partner]
    chain = torch_lr.ChainedScheduler([m(optimizer) for m in (makers if ours_first else makers[::-1])])
    seen = first(run(optimizer, chain, 200))
    assert seen == pytest.approx([0.1 * schedule(k) * factors[k] for k in range(200)], rel=1e-11)


def test_a_chain_of_two_of_ours_knows_a_start_at_zero():
    optimizer = make()
    warmup, decay = Linear(0.0, 1.0, 5), Cosine(1.0, 0.1, 20)
    chain = torch_lr.ChainedScheduler([ScheduleLR(optimizer, warmup), ScheduleLR(optimizer, decay)])
    assert first(run(optimizer, chain, 30)) == pytest.approx([0.1 * warmup(k) * decay(k) for k in range(30)], rel=1e-12)


def test_alone_it_does_not_drift():
    optimizer = make()
    schedule = CosinePeriodic(1.0, 0.0, 7)  # to 0 and back, again and again
    scheduler = ScheduleLR(optimizer, schedule)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(5000):
            scheduler.step()
    assert scheduler.get_last_lr() == [0.1 * schedule(5000)] and scheduler.outside == [1.0]


def test_a_rate_set_by_hand_is_kept_as_a_factor_and_one_at_zero_is_not():
    optimizer = make()
    scheduler = ScheduleLR(optimizer, join(Constant(1.0, 3), Linear(1.0, 0.0, 2), Constant(0.0, 1), Constant(1.0)))
    run(optimizer, scheduler, 1)
    optimizer.param_groups[0]["lr"] *= 0.5
    assert first(run(optimizer, scheduler, 4)) == [0.05, 0.05, 0.05, 0.025]
    assert optimizer.param_groups[0]["lr"] == 0.0
    optimizer.param_groups[0]["lr"] = 3.0  # is no factor of 0
    assert first(run(optimizer, scheduler, 2)) == [3.0, 0.05]


def test_reduce_on_plateau_beside_it():
    optimizer = make()
    scheduler = ScheduleLR(optimizer, Linear(1.0, 0.5, 10))
    plateau = torch_lr.ReduceLROnPlateau(optimizer, factor=0.1, patience=0)
    for loss in (1.0, 2.0, 0.5, 0.4):  # the second is worse
        run(optimizer, scheduler, 1)
        plateau.step(loss)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.8 * 0.1)


@pytest.mark.parametrize("others", ["ours", "theirs"])
def test_in_sequence_each_starts_from_the_initial_rate(others):
    optimizer = make((0.1, 0.2))
    warmup = (
        ScheduleLR(optimizer, Linear(0.0, 1.0, 5))
        if others == "ours"
        else torch_lr.LinearLR(optimizer, start_factor=0.1, total_iters=5)
    )
    decay = ScheduleLR(optimizer, Cosine(1.0, 0.1, 10))
    sequence = torch_lr.SequentialLR(optimizer, [warmup, decay], milestones=[5])
    seen = run(optimizer, sequence, 20)
    rises = Linear(0.0 if others == "ours" else 0.1, 1.0, 5)
    expected = [rises(k) if k < 5 else Cosine(1.0, 0.1, 10)(k - 5) for k in range(20)]
    assert first(seen) == pytest.approx([0.1 * e for e in expected], abs=1e-15)
    assert [r[1] for r in seen] == pytest.approx([0.2 * e for e in expected], abs=1e-15)


def test_in_sequence_with_a_scheduler_of_theirs_after_it():
    optimizer = make()
    sequence = torch_lr.SequentialLR(
        optimizer,
        [ScheduleLR(optimizer, Linear(0.5, 1.0, 4)), torch_lr.ExponentialLR(optimizer, gamma=0.5)],
        milestones=[4],
    )
    assert first(run(optimizer, sequence, 7)) == pytest.approx([0.05, 0.0625, 0.075, 0.0875, 0.1, 0.05, 0.025])


def trained(optimizer, scheduler, steps, checkpoint=None, order=("optimizer", "scheduler")):
    parts = {"optimizer": optimizer, "scheduler": scheduler}
    for name in order if checkpoint else ():
        parts[name].load_state_dict(checkpoint[name])
    return first(run(optimizer, scheduler, steps))


@pytest.mark.parametrize(
    "order", [("optimizer", "scheduler"), ("scheduler", "optimizer"), ("scheduler",)], ids="-".join
)
@pytest.mark.parametrize("kind", ["alone", "chained", "sequential"])
def test_a_resumed_run_goes_on_to_the_bit(order, kind):
    def fresh():
        optimizer = make(momentum=0.9)
        ours = ScheduleLR(optimizer, join(Linear(0.0, 1.0, 4), Cosine(1.0, 0.0, 12)))
        if kind == "chained":
            return optimizer, torch_lr.ChainedScheduler([ours, torch_lr.StepLR(optimizer, 2, 0.7)])
        if kind == "sequential":
            later = ScheduleLR(optimizer, Cosine(0.5, 0.1, 5))
            return optimizer, torch_lr.SequentialLR(optimizer, [ours, later], milestones=[9])
        return optimizer, ours

    whole = trained(*fresh(), 25)
    optimizer, scheduler = fresh()
    trained(optimizer, scheduler, 7)
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, file)
    file.seek(0)
    checkpoint = torch.load(file, weights_only=True)
    assert trained(*fresh(), 18, checkpoint, order) == whole[7:]


def test_the_state_holds_plain_values_only():
    optimizer = make((0.1, 0.2))
    scheduler = ScheduleLR(optimizer, Linear(1.0, 0.0, 4))
    run(optimizer, scheduler, 2)
    state = scheduler.state_dict()
    numbers = [v for value in state.values() for v in (value if isinstance(value, list) else [value])]
    assert all(type(v) in (int, float) for v in numbers)
    assert state["last_epoch"] == 2 and state["base_lrs"] == [0.1, 0.2]


def test_the_state_of_a_lambda_lr_is_taken_over():
    schedule = Cosine(1.0, 0.0, 10)
    theirs = make()
    lambda_lr = torch_lr.LambdaLR(theirs, schedule)
    run(theirs, lambda_lr, 4)
    ours = make()
    scheduler = ScheduleLR(ours, schedule)
    ours.load_state_dict(theirs.state_dict())
    scheduler.load_state_dict(lambda_lr.state_dict())
    assert run(ours, scheduler, 5) == run(theirs, lambda_lr, 5)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_the_whole_of_it_can_be_copied_with_its_optimizer(copied):
    optimizer = make(cls=torch.optim.AdamW)
    scheduler = ScheduleLR(optimizer, Linear(1.0, 0.0, 10), momentum=Linear(0.8, 0.9, 10))
    run(optimizer, scheduler, 3)
    other_optimizer, other = copied((optimizer, scheduler))
    assert other.optimizer is other_optimizer is not optimizer
    assert run(other_optimizer, other, 4) == run(optimizer, scheduler, 4)
    assert other_optimizer.param_groups[0]["betas"] == optimizer.param_groups[0]["betas"]


def test_last_epoch_goes_on_without_a_state():
    schedule = Cosine(1.0, 0.0, 10)
    optimizer = make()
    optimizer.param_groups[0]["initial_lr"] = 0.1
    scheduler = ScheduleLR(optimizer, schedule, last_epoch=5)
    assert scheduler.get_last_lr() == [0.1 * schedule(6)]
    with pytest.raises(KeyError, match="initial_lr"):
        ScheduleLR(make(), schedule, last_epoch=5)


@pytest.mark.filterwarnings("ignore:Detected call")
def test_last_epoch_may_be_moved_by_hand():
    """As Ultralytics' trainer does before its first epoch, and as loops do that resume by it."""
    optimizer = make()
    scheduler = ScheduleLR(optimizer, Linear(0.5, 1.0, 10))
    for place in (-1, 6):
        scheduler.last_epoch = place
        scheduler.step()
        assert scheduler.get_last_lr() == [0.1 * Linear(0.5, 1.0, 10)(place + 1)]


def test_a_step_with_a_number_goes_there():
    optimizer = make()
    scheduler = ScheduleLR(optimizer, Linear(1.0, 0.0, 10))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler.step(7)
        assert scheduler.get_last_lr() == [pytest.approx(0.03)]
        scheduler.step()
    assert scheduler.get_last_lr() == [pytest.approx(0.02)]


def test_a_rate_that_is_a_tensor_stays_the_same_tensor():
    rate = torch.tensor(0.1)
    parameter = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([parameter], lr=rate)
    scheduler = ScheduleLR(optimizer, Linear(1.0, 0.0, 4))
    held = optimizer.param_groups[0]["lr"]
    seen = first(run(optimizer, scheduler, 5))
    assert optimizer.param_groups[0]["lr"] is held
    assert seen == pytest.approx([0.1, 0.075, 0.05, 0.025, 0.0], rel=1e-6) and scheduler.outside == [1.0]
    assert all(type(v) is float for v in scheduler.state_dict()["base_lrs"])


def test_asking_for_the_rates_between_steps_changes_nothing():
    optimizer = make()
    scheduler = ScheduleLR(optimizer, Linear(1.0, 0.0, 4))
    run(optimizer, scheduler, 1)
    with pytest.warns(UserWarning, match="get_last_lr"):
        assert scheduler.get_lr() == [pytest.approx(0.075)]
    assert first(run(optimizer, scheduler, 2)) == pytest.approx([0.075, 0.05])


def test_phases():
    optimizer = make(momentum=0.9)
    phases = [{"curve": "linear", "start": 0, "end": 1, "for": "1ep"}, {"curve": "cosine", "end": 0.01, "for": "rest"}]
    momentum = [{"curve": "linear", "end": 0.8, "for": "rest"}]
    scheduler = ScheduleLR.from_phases(optimizer, phases, steps=50, steps_per_epoch=10, momentum=momentum)
    assert optimizer.param_groups[0]["momentum"] == 0.9  # where no start is named, it is the optimizer's
    seen = first(run(optimizer, scheduler, 50))
    assert seen[0] == 0 and seen[10] == max(seen) == 0.1 and seen[49] == pytest.approx(0.001)
    assert optimizer.param_groups[0]["momentum"] == pytest.approx(0.8)


def test_a_peers_schedule_with_a_minimum_that_is_absolute_for_every_group():
    lrs = (0.1, 0.02, 0.1)
    ours, theirs = make(lrs), make(lrs)
    scheduler = ScheduleLR.from_native(ours, "torch", "CosineAnnealingLR", {"T_max": 10, "eta_min": 0.01})
    expected = run(theirs, torch_lr.CosineAnnealingLR(theirs, T_max=10, eta_min=0.01), 25)
    for mine, other in zip(run(ours, scheduler, 25), expected, strict=True):
        assert mine == pytest.approx(other, rel=1e-9)


def test_a_peers_schedule_with_rates_of_its_own_and_momentum():
    arguments = {"max_lr": [0.4, 0.2], "total_steps": 20}
    ours, theirs = make((0.1, 0.02), momentum=0.9), make((0.1, 0.02), momentum=0.9)
    expected = torch_lr.OneCycleLR(theirs, **arguments)
    scheduler = ScheduleLR.from_native(ours, "torch", "OneCycleLR", arguments, {"momentum": 0.9})
    for _ in range(18):
        assert [g["lr"] for g in ours.param_groups] == pytest.approx([g["lr"] for g in theirs.param_groups], rel=1e-9)
        assert ours.param_groups[1]["momentum"] == pytest.approx(theirs.param_groups[1]["momentum"], rel=1e-9)
        run(ours, scheduler, 1), run(theirs, expected, 1)


@pytest.mark.parametrize("lrs", [(0.01, 0.01, 0.01), (0.01, 0.02, 0.03)])
def test_a_trainer_with_groups_of_its_own(lrs):
    """Biases, the last group, fall to their rate from `warmup_bias_lr`, whatever their rate is."""
    optimizer = make(lrs, momentum=0.9)
    common = {"epochs": 6, "iters_per_epoch": 5}
    seen = run(optimizer, ScheduleLR.from_native(optimizer, "ultralytics", "linear", {"optimizer": "SGD"}, common), 20)
    assert seen[0] == [0.0, 0.0, pytest.approx(0.1)]
    assert seen[19] == pytest.approx([lr * (1 - 0.99 * 3 / 6) for lr in lrs])


def test_a_schedule_of_transformers():
    optimization = pytest.importorskip("transformers.optimization", reason="transformers is not installed")
    ours, theirs = make(), make()
    arguments = {"num_warmup_steps": 4, "num_training_steps": 20}
    expected = run(theirs, optimization.get_cosine_schedule_with_warmup(theirs, **arguments), 25)
    scheduler = ScheduleLR.from_native(ours, "transformers", "cosine", arguments)
    assert first(run(ours, scheduler, 25)) == pytest.approx(first(expected), abs=1e-15)


def test_a_config(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("warmup_epochs: 1\nlrf: 0.1\nlr0: 7.0\nwarmup_bias_lr: 0.3\nlr_factors: {bias: 2}\n")
    optimizer = make((0.1, 0.1), momentum=0.9)
    optimizer.param_groups[1]["name"] = "head.bias"
    scheduler = ScheduleLR.from_config(optimizer, path, epochs=5, steps_per_epoch=10)
    assert optimizer.param_groups[0]["momentum"] == 0.8  # warmup_momentum
    seen = run(optimizer, scheduler, 50)
    assert seen[0] == [0.0, pytest.approx(0.6)] and seen[10] == [0.1, 0.2]  # the optimizer's rates, not lr0
    assert seen[49] == pytest.approx([0.01, 0.02])
    assert optimizer.param_groups[0]["momentum"] == pytest.approx(0.937)

    adam = make(cls=torch.optim.AdamW)
    ScheduleLR.from_config(adam, load_config(path), epochs=5, steps_per_epoch=10)
    assert adam.param_groups[0]["betas"] == (0.9, 0.999)  # its beta1 has no warmup


def test_in_lightning():
    try:
        import lightning
        from lightning.pytorch.callbacks import LearningRateMonitor  # noqa: F401
    except Exception as error:
        pytest.skip(f"lightning cannot be imported: {error}")

    schedule, seen = join(Linear(0.0, 1.0, 3), Cosine(1.0, 0.1, 8)), []

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def training_step(self, batch, _):
            seen.append(self.optimizers().param_groups[0]["lr"])
            return self.layer(batch[0]).mean()

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": ScheduleLR(optimizer, schedule), "interval": "step"},
            }

    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(12, 2)))
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(Module(), loader)
    assert seen == [0.1 * schedule(k) for k in range(12)]


PHASES = [{"curve": "cosine", "end": 0, "for": "rest"}]
MISTAKES = [
    (lambda: ScheduleLR(make(), 0.5), "schedule: 0.5 is no schedule; give a curve"),
    (lambda: ScheduleLR(make(), [Constant(1.0)] * 2), "schedule: 2 for 1 groups; give one for all"),
    (lambda: ScheduleLR(make(), Constant(1.0), momentum=[]), "momentum: 0 for 1 groups"),
    (
        lambda: ScheduleLR(make(cls=torch.optim.Adagrad), Constant(1.0), momentum=Constant(0.9)),
        "momentum: Adagrad has neither momentum nor betas; leave the argument out",
    ),
    (lambda: ScheduleLR.from_phases(make(), PHASES, steps=0), "steps: 0 is below 1"),
    (lambda: ScheduleLR.from_phases(make(), [{"curve": "cosin", "for": "rest"}], 9), "did you mean cosine"),
    (
        lambda: ScheduleLR.from_native(
            make((0.1, 0.2)), "ultralytics", "linear", {}, {"epochs": 9, "iters_per_epoch": 5}
        ),
        "the optimizer has 2; give it as many",
    ),
    (lambda: ScheduleLR(make(), Constant(1.0)).load_state_dict({}), "state_dict: has no _last_lr"),
    (
        lambda: ScheduleLR(make(), Constant(1.0)).load_state_dict(ScheduleLR(make((1, 2)), Constant(1.0)).state_dict()),
        "state_dict: is of 2 groups, and the optimizer has 1",
    ),
]


@pytest.mark.parametrize("mistake, message", MISTAKES, ids=[m for _, m in MISTAKES])
def test_mistakes(mistake, message):
    with pytest.raises(InvalidSchedule) as error:
        mistake()
    assert message in str(error.value)


@pytest.mark.parametrize(
    "line, message",
    [
        ("plateau: {patience: 3}", "plateau: is nothing that a scheduler of PyTorch can do; chain ReduceLROnPlateau"),
        ("weight_decay_phases: [{curve: cosine, start: 1, end: 0, for: rest}]", "weight_decay_phases: .* the loop"),
        ("lr_factors: {layers 0-9: 0.1}", "lr_factors: names layers"),
    ],
)
def test_mistakes_in_a_config(tmp_path, line, message):
    path = tmp_path / "run.yaml"
    path.write_text(line)
    with pytest.raises(InvalidSchedule, match=message):
        ScheduleLR.from_config(make(), path, epochs=5, steps_per_epoch=10)


def test_a_group_that_is_added_later():
    optimizer = make()
    scheduler = ScheduleLR(optimizer, Constant(1.0))
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "lr": 0.3})
    with pytest.raises(InvalidSchedule, match="made for 1 groups, and the optimizer now has 2"):
        run(optimizer, scheduler, 1)


def test_it_is_as_exact_after_a_million_steps():
    optimizer = make()
    optimizer.param_groups[0]["initial_lr"] = 0.1
    schedule = Cosine(1.0, 0.01, 10**6)
    scheduler = ScheduleLR(optimizer, schedule, last_epoch=10**6 - 2)
    value = 0.01 + 0.99 * (1 + math.cos(math.pi * (10**6 - 1) / 10**6)) / 2
    assert scheduler.get_last_lr() == [pytest.approx(0.1 * value, rel=1e-15)]
