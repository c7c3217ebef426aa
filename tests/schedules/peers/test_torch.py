"""PyTorch's schedulers: equal to PyTorch itself, alone and together, and clear about mistakes."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR

from yolo_cosine.schedules.compose import Join, Product, Shift
from yolo_cosine.schedules.curves import Constant, InvalidSchedule, Linear
from yolo_cosine.schedules.cycles import CosinePeriodic, CosineRestarts, Cyclic
from yolo_cosine.schedules.expression import Clock, read_phases, write_phases
from yolo_cosine.schedules.native import NativeGroup
from yolo_cosine.schedules.presets import from_native, schedules_of

LR0 = [0.1, 0.01]
STEPS = 40


def optimizer(lr0s=LR0, kind=torch.optim.SGD) -> torch.optim.Optimizer:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr0} for lr0 in lr0s]
    return kind(groups, lr=1.0, momentum=0.9) if kind is torch.optim.SGD else kind(groups, lr=1.0)


def construct(opt, written, **more):
    """The real scheduler of a mapping with `type` and arguments."""
    arguments = dict(written) | more
    name = arguments.pop("type")
    if "lr_lambda" in arguments:
        arguments["lr_lambda"] = eval(f"lambda epoch: {arguments['lr_lambda']}")
    if "scale_fn" in arguments:
        arguments["scale_fn"] = eval(f"lambda x: {arguments['scale_fn']}")
    if "schedulers" in arguments:
        children = [construct(opt, child) for child in arguments.pop("schedulers")]
        return getattr(lr_scheduler, name)(*((opt, children) if name == "SequentialLR" else (children,)), **arguments)
    return SWALR(opt, **arguments) if name == "SWALR" else getattr(lr_scheduler, name)(opt, **arguments)


def theirs(written, lr0s=LR0, steps=STEPS, edit=None, kind=torch.optim.SGD):
    """Rates and momenta by step and group, and the step at which PyTorch raises (-1: in the constructor)."""
    opt = optimizer(lr0s, kind)
    rates, momenta = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            scheduler = construct(opt, written)
        except (ValueError, ZeroDivisionError):
            return rates, momenta, -1
        for step in range(steps):
            rates.append([group["lr"] for group in opt.param_groups])
            momenta.append([group.get("momentum", group.get("betas", (0,))[0]) for group in opt.param_groups])
            opt.step()
            if step == edit:
                for group in opt.param_groups:
                    group["lr"] *= 0.5
            try:
                scheduler.step()
            except (ValueError, ZeroDivisionError, NotImplementedError):
                return rates, momenta, step + 1
    return rates, momenta, None


def ours(written, lr0=LR0, **more):
    arguments = dict(written)
    return from_native("torch", arguments.pop("type"), arguments, {"lr0": lr0, **more})


def check(written, lr0s=LR0, edit=None, kind=torch.optim.SGD):
    rates, momenta, raises = theirs(written, lr0s, edit=edit, kind=kind)
    if raises == -1:
        with pytest.raises(InvalidSchedule):
            ours(written, lr0s)
        return
    edited = {} if edit is None else {"edit": {"epoch": edit, "factor": 0.5}}
    schedule = ours(written | edited, lr0s, optimizer=kind.__name__)
    largest = max(abs(rate) for row in rates for rate in row)
    for step, row in enumerate(rates):
        got = [schedule.lr(step, g) for g in range(len(row))]
        assert got == pytest.approx(row, rel=1e-9, abs=1e-13 * largest + 1e-16), step
        if schedule.momenta:
            assert [schedule.momentum(step, g) for g in range(len(row))] == pytest.approx(momenta[step]), step
        else:
            assert momenta[step] == [0.9, 0.9]
    if raises is not None:
        with pytest.raises(InvalidSchedule):
            schedule.lr(raises)


WARMUP = {"type": "LinearLR", "start_factor": 0.1, "total_iters": 5}
COSINE = {"type": "CosineAnnealingLR", "T_max": 10, "eta_min": 1e-3}

TABLE = [
    {"type": "LambdaLR", "lr_lambda": "0.95 ** epoch"},
    {"type": "LambdaLR", "lr_lambda": "max(0.1, math.cos(math.pi * epoch / 50)) if epoch > 3 else (epoch + 1) / 4"},
    {"type": "MultiplicativeLR", "lr_lambda": "0.9"},
    {"type": "MultiplicativeLR", "lr_lambda": "0.5 if epoch % 10 == 0 else 1.0"},
    {"type": "StepLR", "step_size": 7},
    {"type": "StepLR", "step_size": 2.5, "gamma": 0.5},
    {"type": "StepLR", "step_size": 0},
    {"type": "MultiStepLR", "milestones": [20, 0, 5, 5, 2.5, -1], "gamma": 0.5},
    {"type": "MultiStepLR", "milestones": []},
    {"type": "ConstantLR"},
    {"type": "ConstantLR", "factor": 0.0, "total_iters": 3},
    {"type": "ConstantLR", "factor": 0.5, "total_iters": 0},
    {"type": "ConstantLR", "factor": 0.5, "total_iters": 4.5},
    {"type": "LinearLR"},
    {"type": "LinearLR", "start_factor": 1.0, "end_factor": 0.0, "total_iters": 9},
    {"type": "LinearLR", "start_factor": 0.1, "total_iters": 0},
    {"type": "LinearLR", "start_factor": 0.1, "total_iters": 4.5},
    {"type": "LinearLR", "start_factor": 0.01, "total_iters": 500},
    {"type": "ExponentialLR", "gamma": 0.93},
    {"type": "PolynomialLR"},
    {"type": "PolynomialLR", "total_iters": 20, "power": 2.5},
    {"type": "PolynomialLR", "total_iters": 4.5, "power": 2},
    {"type": "PolynomialLR", "total_iters": 0},
    {"type": "PolynomialLR", "total_iters": 4, "power": -1},
    COSINE,
    {"type": "CosineAnnealingLR", "T_max": 1},
    {"type": "CosineAnnealingLR", "T_max": 4.5, "eta_min": 0.02},
    {"type": "CosineAnnealingLR", "T_max": 0},
    {"type": "CosineAnnealingLR", "T_max": 12, "eta_min": 0.1},
    {"type": "CosineAnnealingWarmRestarts", "T_0": 3, "T_mult": 2, "eta_min": 1e-3},
    {"type": "CosineAnnealingWarmRestarts", "T_0": 1},
    {"type": "SWALR", "swa_lr": [0.05, 0.02]},
    {"type": "SWALR", "swa_lr": 0.05, "anneal_epochs": 4, "anneal_strategy": "linear"},
    {"type": "SWALR", "swa_lr": 0.05, "anneal_epochs": 0},
    {"type": "CyclicLR", "base_lr": 0.01, "max_lr": [0.1, 0.2], "step_size_up": 6},
    {"type": "CyclicLR", "base_lr": 0.01, "max_lr": 0.1, "step_size_up": 2.5, "step_size_down": 4, "mode": "triangular2"},
    {"type": "CyclicLR", "base_lr": 0.01, "max_lr": 0.1, "step_size_up": 5, "step_size_down": 0, "mode": "exp_range", "gamma": 0.9},
    {"type": "CyclicLR", "base_lr": 0.01, "max_lr": 0.1, "step_size_up": 5, "scale_fn": "1 / 5 ** (x * 0.1)", "base_momentum": [0.7, 0.6]},
    {"type": "CyclicLR", "base_lr": 0.01, "max_lr": 0.1, "step_size_up": 5, "scale_fn": "0.9 ** x", "scale_mode": "iterations"},
    {"type": "CyclicLR", "base_lr": 0.01, "max_lr": 0.1, "step_size_up": 5, "cycle_momentum": False},
    {"type": "OneCycleLR", "max_lr": LR0, "total_steps": 20},
    {"type": "OneCycleLR", "max_lr": 0.3, "epochs": 3, "steps_per_epoch": 9, "div_factor": 10, "final_div_factor": 2},
    {"type": "OneCycleLR", "max_lr": 0.3, "total_steps": 37, "pct_start": 0.25, "three_phase": True},
    {"type": "OneCycleLR", "max_lr": 0.3, "total_steps": 30, "anneal_strategy": "linear", "cycle_momentum": False},
    {"type": "OneCycleLR", "max_lr": 0.3, "total_steps": 1},
    {"type": "OneCycleLR", "max_lr": 0.3, "total_steps": 20, "pct_start": 0.0},
    {"type": "OneCycleLR", "max_lr": 0.3, "total_steps": 20, "pct_start": 1.0},
    {"type": "OneCycleLR", "max_lr": 0.3, "total_steps": 10, "pct_start": 0.1},
    {"type": "OneCycleLR", "max_lr": 0.3, "total_steps": 10, "pct_start": 0.9, "three_phase": True, "anneal_strategy": "linear"},
    {"type": "SequentialLR", "schedulers": [WARMUP, COSINE], "milestones": [5]},
    {"type": "SequentialLR", "schedulers": [WARMUP, COSINE], "milestones": [3]},
    {"type": "SequentialLR", "schedulers": [WARMUP, COSINE], "milestones": [0]},
    {"type": "SequentialLR", "schedulers": [WARMUP, COSINE], "milestones": [4.5]},
    {"type": "SequentialLR", "schedulers": [WARMUP, COSINE, {"type": "SWALR", "swa_lr": 0.05}], "milestones": [5, 14]},
    {"type": "SequentialLR", "schedulers": [WARMUP, COSINE, {"type": "MultiplicativeLR", "lr_lambda": "0.9"}], "milestones": [5, 5]},
    {"type": "SequentialLR", "schedulers": [{"type": "LinearLR", "total_iters": 0}, COSINE], "milestones": [4]},
    {"type": "SequentialLR", "schedulers": [COSINE, {"type": "LinearLR", "total_iters": 0}], "milestones": [4]},
    {"type": "SequentialLR", "schedulers": [WARMUP, {"type": "OneCycleLR", "max_lr": 0.3, "total_steps": 20}], "milestones": [5]},
    {"type": "SequentialLR", "schedulers": [{"type": "ChainedScheduler", "schedulers": [WARMUP, COSINE]}, COSINE], "milestones": [9]},
    {"type": "SequentialLR", "schedulers": [COSINE, {"type": "ChainedScheduler", "schedulers": [WARMUP]}], "milestones": [9]},
    {"type": "ChainedScheduler", "schedulers": [WARMUP, {"type": "ExponentialLR", "gamma": 0.95}]},
    {"type": "ChainedScheduler", "schedulers": [WARMUP, {"type": "CosineAnnealingLR", "T_max": 12}]},
    {"type": "ChainedScheduler", "schedulers": [WARMUP, COSINE]},
    {"type": "ChainedScheduler", "schedulers": [COSINE, {"type": "ExponentialLR", "gamma": 0.95}]},
    {"type": "ChainedScheduler", "schedulers": [COSINE, {"type": "LambdaLR", "lr_lambda": "0.9 ** epoch"}, WARMUP]},
    {"type": "ChainedScheduler", "schedulers": [{"type": "ConstantLR"}, {"type": "CosineAnnealingLR", "T_max": 6, "eta_min": 0.1}]},
    {"type": "ChainedScheduler", "schedulers": [WARMUP, {"type": "CyclicLR", "base_lr": 0.01, "max_lr": 0.1, "step_size_up": 6}]},
    {"type": "ChainedScheduler", "schedulers": [{"type": "SequentialLR", "schedulers": [WARMUP, COSINE], "milestones": [5]}, {"type": "StepLR", "step_size": 3}]},
]  # fmt: skip


@pytest.mark.parametrize("written", TABLE, ids=lambda w: w["type"])
def test_parity(written):
    check(written)


def leaves():
    """Schedulers with arguments from the useful to the absurd."""

    def of(name, **arguments):
        return st.fixed_dictionaries({"type": st.just(name), **{k: st.sampled_from(v) for k, v in arguments.items()}})

    lengths = [-1, 0, 1, 2, 5, 4.5, 0.5, 100]
    return st.one_of(
        of("LambdaLR", lr_lambda=["0.9 ** epoch", "1 - epoch / 100", "0.5", "1.0 if epoch < 3 else 0.1"]),
        of("MultiplicativeLR", lr_lambda=["0.9", "1.01", "0.95 if epoch < 4 else 1.0"]),
        of("StepLR", step_size=[1, 2, 5, 2.5, -3], gamma=[0.5, 1.0, 0.1]),
        of("MultiStepLR", milestones=[[], [0], [3, 1, 8], [2, 2], [-2, 2.5, 6]], gamma=[0.5, 0.1]),
        of("ConstantLR", factor=[0.1, 1.0, 0.5, 0], total_iters=lengths),
        of("LinearLR", start_factor=[0.1, 1 / 3, 1.0, 0.0], end_factor=[1.0, 0.5, 0.0], total_iters=lengths),
        of("ExponentialLR", gamma=[0.9, 1.0, 1.1]),
        of("PolynomialLR", total_iters=[*lengths, 30], power=[1.0, 2, 0.5, 0, -1]),
        of("CosineAnnealingLR", T_max=[1, 2, 3, 10, 30, 4.5, -3], eta_min=[0.0, 1e-4, 0.01, 0.1]),
        of("CosineAnnealingWarmRestarts", T_0=[1, 3, 50, 0], T_mult=[1, 2, 3], eta_min=[0.0, 1e-3]),
    )


CYCLES = st.one_of(
    st.fixed_dictionaries(
        {
            "type": st.just("OneCycleLR"), "max_lr": st.sampled_from([0.3, LR0]), "total_steps": st.integers(1, 60),
            "pct_start": st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.6, 0.9, 1.0]), "three_phase": st.booleans(),
            "anneal_strategy": st.sampled_from(["cos", "linear"]), "div_factor": st.sampled_from([25.0, 4]),
        }
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("CyclicLR"), "base_lr": st.sampled_from([0.01, [0.01, 0.001]]), "max_lr": st.just(LR0),
            "step_size_up": st.sampled_from([1, 3, 2.5, 0]), "step_size_down": st.sampled_from([None, 1, 4, 2.5, 0]),
            "mode": st.sampled_from(["triangular", "triangular2", "exp_range"]), "gamma": st.sampled_from([1.0, 0.9]),
        }
    ),
)  # fmt: skip


def together(children):
    """A SequentialLR or ChainedScheduler of one to three."""
    several = st.lists(children, min_size=1, max_size=3)
    milestones = st.lists(st.sampled_from([0, 1, 2, 3, 6, 9, 2.5]), min_size=2, max_size=2).map(sorted)
    sequence = st.builds(
        lambda s, m: {"type": "SequentialLR", "schedulers": s, "milestones": m[: len(s) - 1]}, several, milestones
    )
    return sequence | st.builds(lambda s: {"type": "ChainedScheduler", "schedulers": s}, several)


@settings(max_examples=150, deadline=None)
@given(written=leaves() | CYCLES, edit=st.sampled_from([None, None, 2, 9]), lr0s=st.sampled_from([LR0, [0.1, 0.0]]))
def test_parity_alone(written, edit, lr0s):
    check(written, lr0s, edit)


@settings(max_examples=150, deadline=None)
@given(written=together(leaves()), edit=st.sampled_from([None, None, 2, 9]))
def test_parity_together(written, edit):
    check(written, edit=edit)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adagrad])
@pytest.mark.parametrize("written", [TABLE[34], {"type": "OneCycleLR", "max_lr": 0.3, "total_steps": 60}])
def test_momentum_is_beta1_for_adam_and_needs_an_optimizer_that_has_it(written, kind):
    if kind is torch.optim.AdamW:
        check(written, kind=kind)
        return
    with pytest.raises(ValueError, match="must support momentum"):
        construct(optimizer(kind=kind), written)
    with pytest.raises(InvalidSchedule, match="cycle_momentum: Adagrad has neither momentum nor beta1"):
        ours(written, optimizer="Adagrad")


def test_every_public_scheduler_is_there():
    public = {*lr_scheduler.__all__, "SWALR"} - {"LRScheduler"}
    assert set(schedules_of("torch")) == public


@pytest.mark.parametrize(
    "settings_of_it",
    [
        {"patience": 1},
        {"patience": 0, "factor": 0.5, "cooldown": 1, "min_lr": [0.03, 0.0001]},
        {"mode": "max", "patience": 2, "threshold": 0.1, "threshold_mode": "abs", "eps": 1e-3},
    ],
)
def test_plateau(settings_of_it):
    metrics = [1.0, 0.9, 0.9, 0.9, 0.95, 0.5, 0.5, 0.5, 0.5, 0.4, 0.4, 0.4, 0.4, 0.4]
    opt = optimizer()
    scheduler = lr_scheduler.ReduceLROnPlateau(opt, **settings_of_it)
    schedule = ours({"type": "ReduceLROnPlateau", "metrics": metrics, **settings_of_it})
    for step in range(len(metrics)):
        rates = [group["lr"] for group in opt.param_groups]
        assert [schedule.lr(step, g) for g in (0, 1)] == pytest.approx(rates, rel=1e-12)
        scheduler.step(metrics[step])
    assert schedule.lr(10**6) == pytest.approx(opt.param_groups[0]["lr"])


@pytest.mark.parametrize("T_mult", [1, 2])
def test_restarts_with_the_fractional_call_of_the_documentation(T_mult):
    """`step(epoch + i / iters)` after each batch: every value comes one batch late, so the first is used twice."""
    opt, iters, rates = optimizer(), 8, []
    scheduler = lr_scheduler.CosineAnnealingWarmRestarts(opt, T_0=3, T_mult=T_mult, eta_min=1e-3)
    for epoch in range(12):
        for i in range(iters):
            rates.append([group["lr"] for group in opt.param_groups])
            opt.step()
            scheduler.step(epoch + i / iters)
    written = {"type": "CosineAnnealingWarmRestarts", "T_0": 3, "T_mult": T_mult, "eta_min": 1e-3}
    schedule = ours(written | {"call": "step(epoch + i / iters) after"}, iters_per_epoch=iters)
    assert [[schedule.lr(k, g) for g in (0, 1)] for k in range(len(rates))] == [pytest.approx(row) for row in rates]
    assert schedule.lr(0) == schedule.lr(1) == 0.1
    early = ours(written | {"call": "step(epoch + i/iters) before"}, iters_per_epoch=iters)
    assert [early.lr(k) for k in range(40)] == [schedule.lr(k + 1) for k in range(40)]


@pytest.mark.parametrize("written", [TABLE[0], TABLE[24], TABLE[30], TABLE[13]], ids=lambda w: w["type"])
def test_a_resumed_run_goes_on(written):
    """PyTorch's `last_epoch`, on an optimizer whose state has been restored."""
    first = theirs(written)[0]
    opt = optimizer()
    for group, initial, rate in zip(opt.param_groups, LR0, first[7], strict=True):
        group["initial_lr"], group["lr"] = initial, rate
    scheduler = construct(opt, written, last_epoch=6)
    schedule = ours(written | {"last_epoch": 6})
    for step in range(20):
        rates = [group["lr"] for group in opt.param_groups]
        assert rates == pytest.approx(first[7 + step])
        assert [schedule.lr(step, g) for g in (0, 1)] == pytest.approx(rates)
        opt.step()
        scheduler.step()


def test_compositions_are_of_common_curves():
    """What a reader finds in the YAML: the simple things are simple."""
    sequence = ours(TABLE[49])
    assert sequence.factors[0] == Join((Linear(0.1, 1.0, 5), CosinePeriodic(1.0, 0.01, 10)), (0, 5))
    assert sequence.factors[1] == Join((Linear(0.1, 1.0, 5), CosinePeriodic(1.0, 0.1, 10)), (0, 5))
    assert sequence.groups == (NativeGroup("g0", 0.1), NativeGroup("g1", 0.01))
    restarts = ours({"type": "CosineAnnealingWarmRestarts", "T_0": 5, "T_mult": 2}, 0.1)
    assert restarts.factors == (CosineRestarts(1.0, 0.0, 5, 2),)
    cyclic = ours({"type": "CyclicLR", "base_lr": 0.01, "max_lr": 0.1, "step_size_up": 5}, 0.1)
    assert cyclic.factors == (Cyclic(0.1, 1.0, 5),) and cyclic.momenta == (Cyclic(0.9, 0.8, 5),)
    chained = ours(
        {"type": "ChainedScheduler", "schedulers": [WARMUP, {"type": "CosineAnnealingLR", "T_max": 12}]}, 0.1
    )
    cosine = CosinePeriodic(1.0, 0.0, 12)
    assert chained.factors[0] == Join(
        (Product((Linear(0.1, 1.0, 5), cosine)), Shift(cosine, 5), Shift(cosine, 12)), (0, 5, 12)
    )


def test_the_number_of_groups_follows_from_the_arguments_where_the_run_has_one_rate():
    schedule = from_native("torch", "OneCycleLR", {"max_lr": [0.1, 0.02], "total_steps": 10}, {"lr0": 0.1})
    assert [group.name for group in schedule.groups] == ["g0", "g1"]
    assert [schedule.lr(2, g) for g in ("g0", "g1")] == pytest.approx([0.1, 0.02])


def test_past_the_end():
    cosine = ours({"type": "CosineAnnealingLR", "T_max": 100, "eta_min": 1e-4})
    assert cosine.lr(100) == pytest.approx(1e-4) and cosine.lr(200) == pytest.approx(0.1)
    assert any("rises again" in note for note in cosine.notes)
    assert ours(WARMUP).lr(10**9) == 0.1
    assert ours({"type": "PolynomialLR", "total_iters": 7}).lr(10**9) == 0


def test_one_cycle_tells_when_its_peak_is_no_step():
    assert any("step 8.25" in note for note in ours(TABLE[42]).notes)
    assert not ours(TABLE[40]).notes


@pytest.mark.parametrize(
    "edit",
    [
        {"epoch": 4, "factor": 0.5},
        "all group lrs are halved by hand at the end of epoch 4, before scheduler.step()",
        "divided by 2 at the end of epoch 4 and before step()",
    ],
)
def test_a_change_by_hand_stays_or_is_lost(edit):
    step = {"type": "StepLR", "step_size": 10}
    assert ours(step | {"edit": edit}).lr(4) == 0.1
    assert ours(step | {"edit": edit}).lr(5) == pytest.approx(0.05)
    closed = {"type": "LambdaLR", "lr_lambda": "0.9 ** epoch"}
    assert [ours(closed | {"edit": edit}).lr(k) for k in range(9)] == [ours(closed).lr(k) for k in range(9)]
    cosine = ours(COSINE | {"edit": edit})  # the way up is that of the cosine that nobody touched
    assert cosine.lr(6) < ours(COSINE).lr(6) and cosine.lr(14) == pytest.approx(ours(COSINE).lr(14))


def test_recursions_can_be_written_and_read():
    for written in (TABLE[-1], TABLE[-5], TABLE[3], COSINE | {"edit": {"epoch": 10, "factor": 0.5}}, TABLE[37]):
        factor = ours(written).factors[0]
        again = read_phases(write_phases(factor), Clock(10, 1000), "phases")
        assert [again(k) for k in range(50)] == [factor(k) for k in range(50)]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.5 ** e", [1, 0.5, 0.25]),
        ("lambda e: 0.5 ** e", [1, 0.5, 0.25]),
        ("lambda x: (1 - x / epochs) * (1 - lrf) + lrf", [1, 0.775, 0.55]),
        ("math.exp(-step) + np.cos(0) - 1", [1, math.exp(-1), math.exp(-2)]),
        ("1 if 1 <= i < 2 and not i == 0 else 0", [0, 1, 0]),
        ("lrf ** 2", [0.01] * 3),
        ("abs(shift) ** (step - step) + shift ** 2 - 1", [4] * 3),
        (0.25, [0.25] * 3),
        (["0.5 ** e", "1"], [1, 0.5, 0.25]),
    ],
)
def test_formulas(text, values):
    schedule = ours({"type": "LambdaLR", "lr_lambda": text}, [1.0, 1.0], lrf=0.1, epochs=4, shift=-2)
    assert [schedule.lr(k) for k in range(3)] == pytest.approx(values)
    if text == 0.25:
        assert schedule.factors[0] == Constant(0.25)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')", "().__class__", "[1][0]", "open('x')", "x.y", "a * b", "1 +", "'a'", "x if",
        "lambda a, b: a", "print(x)", "math.nothing(x)", "+".join(["x"] * 200), None, True, "{x}", "x := 3",
        "max(x, key=abs)",
    ],
)  # fmt: skip
def test_a_formula_is_arithmetic_and_nothing_else(text):
    with pytest.raises(InvalidSchedule, match=r"^torch\.MultiplicativeLR: lr_lambda: .*"):
        ours({"type": "MultiplicativeLR", "lr_lambda": text})


@pytest.mark.parametrize(
    "text", ["1 / (epoch - 3)", "9.0 ** 9 ** (epoch + 5)", "(-1) ** (epoch + 0.5)", "log(3 - epoch)"]
)
def test_a_formula_without_a_value(text):
    with pytest.raises(InvalidSchedule, match=r"text: .* at step"):
        ours({"type": "LambdaLR", "lr_lambda": text}).lr(3)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"type": "LambdaLR"}, "lr_lambda: give it"),
        ({"type": "LambdaLR", "lr_lambda": "1", "T_max": 3}, "lr_lambda: give it, .* and not both"),
        ({"type": "LambdaLR", "lr_lambda": ["1", "1", "1"]}, "lr_lambda: 3 for 2 groups"),
        ({"type": "StepLR"}, "step_size is missing; write step_size=..."),
        ({"type": "StepLR", "step_size": "10"}, "step_size: '10' is no finite number"),
        ({"type": "StepLR", "step_sise": 10}, "step_sise: there is no such argument; did you mean step_size"),
        ({"type": "MultiStepLR", "milestones": 30}, "milestones: 30 is no list of steps"),
        ({"type": "ConstantLR", "factor": 1.5}, "factor: 1.5 is not from 0 to 1"),
        ({"type": "LinearLR", "start_factor": 0.0}, "start_factor: 0 is not above 0 and up to 1"),
        ({"type": "LinearLR", "end_factor": 1.1}, "end_factor: 1.1 is not from 0 to 1"),
        ({"type": "CosineAnnealingLR", "T_max": math.nan}, "T_max: nan is no finite number"),
        ({"type": "CosineAnnealingLR", "T_max": 5, "eta_min": [0, 0]}, r"eta_min: \[0, 0\] is no finite number"),
        ({"type": "CosineAnnealingLR", "T_max": 5, "last_epoch": -2}, "last_epoch: -2 is no epoch; write -1"),
        ({"type": "CosineAnnealingLR", "T_max": 5, "edit": "doubled"}, "edit: 'doubled' is not understood; write"),
        ({"type": "CosineAnnealingWarmRestarts", "T_0": 2.5}, "T_0: 2.5 is no length; write a whole number"),
        ({"type": "CosineAnnealingWarmRestarts", "T_0": 2, "T_mult": 0.5}, "T_mult: 0.5 is not a whole number from 1"),
        ({"type": "CosineAnnealingWarmRestarts", "T_0": 2, "call": "step()"}, r"call: 'step\(\)' is not understood"),
        ({"type": "SWALR", "swa_lr": 0.1, "anneal_epochs": -1}, "anneal_epochs: -1 is no length"),
        ({"type": "SWALR", "swa_lr": 0.1, "anneal_strategy": "cosine"}, "anneal_strategy: 'cosine' is not known"),
        ({"type": "CyclicLR", "base_lr": 0.1, "max_lr": [0.1]}, "max_lr: 1 values for 2 groups"),
        ({"type": "CyclicLR", "base_lr": 0.1, "max_lr": 1, "mode": "square"}, "mode: 'square' is not known"),
        ({"type": "CyclicLR", "base_lr": 0.1, "max_lr": 1, "step_size_up": 0}, "step_size_up: 0 steps are no way up"),
        ({"type": "CyclicLR", "base_lr": 0.1, "max_lr": 1, "step_size_down": -1}, "step_size_down: -1 is no number of"),
        ({"type": "OneCycleLR", "max_lr": 0.1}, "total_steps: missing; write it, or epochs and steps_per_epoch"),
        ({"type": "OneCycleLR", "max_lr": 0.1, "total_steps": 10.0}, "total_steps: 10.0 is no whole number from 1"),
        ({"type": "OneCycleLR", "max_lr": 0.1, "epochs": 0, "steps_per_epoch": 5}, "epochs: 0 is no whole number"),
        ({"type": "OneCycleLR", "max_lr": 0.1, "total_steps": 9, "pct_start": 1}, "pct_start: 1 is no float"),
        ({"type": "OneCycleLR", "max_lr": 0.1, "total_steps": 9, "div_factor": 0}, "div_factor: 0 divides the rate"),
        ({"type": "OneCycleLR", "max_lr": "x", "total_steps": 9}, "max_lr: 'x' is no finite number"),
        ({"type": "ReduceLROnPlateau"}, "metrics is missing"),
        ({"type": "ReduceLROnPlateau", "metrics": 0.1}, "metrics: 0.1 is no list of numbers"),
        ({"type": "ReduceLROnPlateau", "metrics": [], "factor": 1.0}, "factor: 1 lowers nothing"),
        ({"type": "SequentialLR", "schedulers": [], "milestones": []}, "schedulers: there is none"),
        ({"type": "SequentialLR", "schedulers": "x", "milestones": []}, "schedulers: 'x' is no list"),
        ({"type": "SequentialLR", "schedulers": [{}], "milestones": []}, r"schedulers\[0\]: {} has no type"),
        ({"type": "SequentialLR", "schedulers": [WARMUP], "milestones": [3]}, "milestones: 1 for 1 schedulers"),
        ({"type": "SequentialLR", "schedulers": [WARMUP] * 3, "milestones": [9, 3]}, "milestones: .* not in order"),
        (
            {"type": "SequentialLR", "schedulers": [{"type": "Cos"}], "milestones": []},
            "'Cos' is no scheduler; there are",
        ),
        (
            {
                "type": "SequentialLR",
                "schedulers": [{"type": "SequentialLR", "schedulers": [WARMUP, TABLE[40]], "milestones": [3]}],
                "milestones": [],
            },
            "a SequentialLR that moves the momentum loses count inside another",
        ),
        (
            {"type": "ChainedScheduler", "schedulers": [WARMUP, {"type": "ReduceLROnPlateau", "metrics": []}]},
            r"schedulers\[1\]: ReduceLROnPlateau needs a metric",
        ),
        (
            {"type": "ChainedScheduler", "schedulers": [WARMUP, {"type": "StepLR", "step_size": 3, "gama": 1}]},
            r"schedulers\[1\]: StepLR: gama: there is no such argument; did you mean gamma",
        ),
    ],
)
def test_mistakes(written, message):
    with pytest.raises(InvalidSchedule, match=f"^torch.{written['type']}: .*{message}"):
        ours(written)
