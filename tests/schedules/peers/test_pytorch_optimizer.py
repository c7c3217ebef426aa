"""pytorch_optimizer's schedules by its own arguments, against its own code where it is installed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_cosine.schedules.curves import Constant, InvalidSchedule
from yolo_cosine.schedules.peers.pytorch_optimizer_curves import Affine, Chebyshev, PowerLaw, WholeCycles
from yolo_cosine.schedules.presets import from_native, schedules_of

LR0 = [0.1, 0.01]
RUN = {"lr0": LR0}
RATES = {"max_lr": 0.1, "min_lr": 0.001, "init_lr": 0.0001}
WSD = {"num_warmup_steps": 5, "num_stable_steps": 10, "num_decay_steps": 12, "min_lr_ratio": 0.1}


@pytest.fixture(scope="module")
def peer():
    pytest.importorskip("pytorch_optimizer", reason="the peer is not installed, so there is nothing to compare with")
    import pytorch_optimizer.lr_scheduler

    return pytorch_optimizer.lr_scheduler


def record(peer, schedule, arguments, indices):
    """Rates of both groups before each optimizer step, until the peer raises."""
    import torch

    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr0} for lr0 in LR0]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    scheduler = getattr(peer, schedule)(optimizer, **arguments)
    rates = []
    for _ in range(indices):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        try:
            scheduler.step()
        except ZeroDivisionError:
            return rates
    return rates


def compare(peer, schedule, arguments, indices=60):
    """Our schedule and the peer's agree at every index, and both refuse where one does."""
    theirs = record(peer, schedule, arguments, indices)
    ours = from_native("pytorch_optimizer", schedule, arguments, RUN)
    largest = max(map(max, theirs))
    for i, row in enumerate(theirs):
        assert [ours.lr(i, g) for g in (0, 1)] == pytest.approx(row, rel=1e-9, abs=1e-12 * largest), i
    if len(theirs) < indices:
        with pytest.raises(InvalidSchedule):
            ours.lr(len(theirs))


CASES = [
    ("LinearScheduler", {"t_max": 30, "warmup_steps": 5, **RATES}),
    ("LinearScheduler", {"t_max": 30, "max_lr": 0.1}),
    ("LinearScheduler", {"t_max": 5, "warmup_steps": 10, **RATES}),
    ("LinearScheduler", {"t_max": 10, "warmup_steps": 10, **RATES}),
    ("CosineScheduler", {"t_max": 30, "warmup_steps": 2.5, **RATES}),
    ("CosineScheduler", {"t_max": 1, "max_lr": 0.1}),
    ("CosineScheduler", {"t_max": 5, "warmup_steps": 20, **RATES}),
    ("CosineScheduler", {"t_max": 0, "max_lr": 0.1}),
    ("CosineScheduler", {"t_max": 2.5, "warmup_steps": 2.5, "max_lr": 0.1}),
    ("PolyScheduler", {"t_max": 30, "warmup_steps": 5, **RATES}),
    ("PolyScheduler", {"t_max": 30, "warmup_steps": 2.5, "poly_order": 2, "max_lr": 0.1, "min_lr": 0.01}),
    ("PolyScheduler", {"t_max": 30, "max_lr": 0.1}),
    ("CosineAnnealingWarmupRestarts", {"first_cycle_steps": 20}),
    ("CosineAnnealingWarmupRestarts", {"first_cycle_steps": 1, "max_lr": 0.1, "min_lr": 0.01}),
    ("CosineAnnealingWarmupRestarts", {"first_cycle_steps": 12, "warmup_steps": 4, "max_lr": 0.1, "min_lr": 0.01}),
    ("CosineAnnealingWarmupRestarts", {"first_cycle_steps": 9, "warmup_steps": 4, "cycle_mult": 1.5, "gamma": 0.5}),
    ("CosineAnnealingWarmupRestarts", {"first_cycle_steps": 20, "warmup_steps": 4, "cycle_mult": 0.3}),
    ("CosineAnnealingWarmupRestarts", {"first_cycle_steps": 7.5, "warmup_steps": 1.5}),
    ("REXScheduler", {"total_steps": 40, "max_lr": 0.1, "min_lr": 0.001}),
    ("REXScheduler", {"total_steps": 1}),
    ("REXScheduler", {"total_steps": 0, "min_lr": 0.1}),
    ("get_wsd_schedule", {**WSD}),
    ("get_wsd_schedule", {**WSD, "cooldown_type": "linear", "min_lr_ratio": 0.0}),
    ("get_wsd_schedule", {**WSD, "cooldown_type": "1-square"}),
    ("get_wsd_schedule", {**WSD, "cooldown_type": "cosine"}),
    ("get_wsd_schedule", {**WSD, "cooldown_type": "cosine", "num_cycles": 1.75}),
    ("get_wsd_schedule", {**WSD, "cooldown_type": "cosine", "num_cycles": 0}),
    ("get_wsd_schedule", {**WSD, "num_decay_steps": 0}),
    ("get_wsd_schedule", {**WSD, "num_warmup_steps": 0, "num_stable_steps": 0}),
    ("get_wsd_schedule", {"num_warmup_steps": 0, "num_stable_steps": 0, "num_decay_steps": 0}),
    ("get_wsd_schedule", {"num_warmup_steps": 4, "num_stable_steps": 0, "num_decay_steps": 0, "min_lr_ratio": 1.0}),
    *(("get_chebyshev_schedule", {"num_epochs": n}) for n in (0, 1, 2, 3, 4, 5, 8, 9, 33, 100)),
    ("get_chebyshev_schedule", {"num_epochs": 9, "is_warmup": True}),
]


@pytest.mark.parametrize(("schedule", "arguments"), CASES)
def test_each_schedule_applies_what_the_peer_applies(peer, schedule, arguments):
    compare(peer, schedule, arguments)


@settings(max_examples=60, deadline=None)
@given(
    first=st.integers(1, 20),
    warmup=st.floats(0, 0.99),
    max_lr=st.floats(1e-4, 1.0),
    min_lr=st.sampled_from([0.0, 1e-6, 0.05]),
    cycle_mult=st.sampled_from([1.0, 1, 2, 1.3, 0.5, 0.0]),
    gamma=st.floats(0.2, 1.1),
)
def test_any_restarts_are_the_peers(peer, first, warmup, **arguments):
    arguments |= {"first_cycle_steps": first, "warmup_steps": int(warmup * first)}
    compare(peer, "CosineAnnealingWarmupRestarts", arguments)


@settings(max_examples=60, deadline=None)
@given(
    schedule=st.sampled_from(["LinearScheduler", "CosineScheduler", "PolyScheduler"]),
    t_max=st.integers(0, 40),
    warmup_steps=st.one_of(st.integers(0, 45), st.sampled_from([0.5, 3.75])),
    max_lr=st.floats(0.0, 1.0),
    min_lr=st.floats(0.0, 1.0),
    init_lr=st.floats(0.0, 1.0),
)
def test_any_warmup_and_decay_are_the_peers(peer, schedule, **arguments):
    compare(peer, schedule, arguments)


@settings(max_examples=60, deadline=None)
@given(
    num_warmup_steps=st.integers(0, 20),
    num_stable_steps=st.integers(0, 20),
    num_decay_steps=st.integers(0, 20),
    min_lr_ratio=st.sampled_from([0.0, 0.1, 1.0]),
    num_cycles=st.sampled_from([0.5, 0.25, 1, 2.5, -0.5]),
    cooldown_type=st.sampled_from(["cosine", "1-sqrt", "linear", "1-square"]),
)
def test_any_wsd_is_the_peers(peer, **arguments):
    compare(peer, "get_wsd_schedule", arguments)


@pytest.mark.parametrize("bounds", [{}, {"min_lr": 0.001, "max_value": 2.0, "min_value": 0.5}, {"min_lr": 0.2}])
def test_a_proportion_follows_the_rate_as_the_peers_does(peer, bounds):
    import torch

    arguments = {"total_steps": 20, "max_lr": 0.1, "min_lr": 0.001}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = peer.REXScheduler(optimizer, **arguments)
    theirs = peer.ProportionScheduler(scheduler, max_lr=0.1, **bounds)
    nested = {"lr_scheduler": {"type": "REXScheduler", **arguments}, "max_lr": 0.1, **bounds}
    ours = from_native("pytorch_optimizer", "ProportionScheduler", nested, {"lr0": 0.3})
    for i in range(1, 25):
        scheduler.step()
        assert ours.lr(i) == pytest.approx(theirs.step(), rel=1e-9), i


def test_every_public_schedule_is_known_by_both_of_its_names(peer):
    classes = {name for name in peer.__all__ if name.endswith(("LR", "Scheduler", "Restarts", "_schedule"))}
    ours = set(schedules_of("pytorch_optimizer"))
    assert classes | set(peer.get_supported_lr_schedulers()) == ours
    native = from_native("pytorch_optimizer", "cosine", {"t_max": 10, "max_lr": 0.1}, RUN)
    assert native == from_native("pytorch_optimizer", "CosineScheduler", {"t_max": 10, "max_lr": 0.1}, RUN)


def test_pytorchs_own_schedulers_are_pytorchs():
    arguments = {"T_max": 10, "eta_min": 0.001}
    native = from_native("pytorch_optimizer", "cosine_annealing", arguments, RUN)
    assert native == from_native("torch", "CosineAnnealingLR", arguments, RUN)


@pytest.mark.parametrize("schedule", ["LinearScheduler", "CosineScheduler", "PolyScheduler"])
def test_the_first_step_has_the_minimum_and_the_second_the_schedules_own_start(schedule):
    native = from_native("pytorch_optimizer", schedule, {"t_max": 20, "warmup_steps": 5, **RATES}, RUN)
    assert [native.lr(i, 1) for i in (0, 1, 6)] == pytest.approx([0.001, 0.0001, 0.1])


def test_past_the_end_the_cosine_rises_and_the_line_falls_below_0_and_notes_say_so():
    cosine = from_native("pytorch_optimizer", "CosineScheduler", {"t_max": 20, "max_lr": 0.1}, RUN)
    assert [cosine.lr(i) for i in (21, 41)] == pytest.approx([0.0, 0.1], abs=1e-12)
    assert "rises again" in cosine.notes[0]
    line = from_native("pytorch_optimizer", "LinearScheduler", {"t_max": 20, "max_lr": 0.1}, RUN)
    assert line.lr(31) == pytest.approx(-0.05) and "below" in line.notes[0]


def test_only_the_cosine_cools_down_to_the_ratio_and_a_note_says_so():
    line = from_native("pytorch_optimizer", "get_wsd_schedule", {**WSD, "cooldown_type": "linear"}, {"lr0": 1.0})
    assert [line.lr(i) for i in (26, 27, 500)] == pytest.approx([1 / 12, 0.1, 0.1])
    assert "jumps up" in line.notes[0]
    cosine = from_native("pytorch_optimizer", "get_wsd_schedule", {**WSD, "cooldown_type": "cosine"}, {"lr0": 1.0})
    assert not cosine.notes and cosine.lr(26) > 0.1


def test_absolute_rates_are_the_same_whatever_the_groups_own_are():
    arguments = {"t_max": 20, "max_lr": 0.1, "min_lr": 0.01}
    for common in ({}, {"lr0": 0.7}, {"lr0": [0.3, 0.0]}):
        native = from_native("pytorch_optimizer", "LinearScheduler", arguments, common)
        for group in range(len(native.groups)):
            assert [native.lr(i, group) for i in (0, 1, 21)] == pytest.approx([0.01, 0.1, 0.01])


def test_growing_whole_cycles_are_found_in_few_steps():
    curve = WholeCycles(1.0, 0.0, first=20, T_mult=2.0, warmup=5)
    starts = [sum(15 * 2**i + 5 for i in range(n)) for n in range(40)]  # what follows the warmup doubles
    assert starts[:4] == [0, 20, 55, 120] and starts[-1] > 10**12
    assert [curve(start) for start in starts] == [0.0] * 40
    assert [curve(start + 5) for start in starts] == [1.0] * 40


@pytest.mark.parametrize(
    ("schedule", "arguments", "message"),
    [
        ("LinearScheduler", {"t_max": 10}, "max_lr is missing"),
        ("LinearScheduler", {"t_max": -1, "max_lr": 0.1}, "t_max: -1 is below 0"),
        ("CosineScheduler", {"t_max": 10, "max_lr": -0.1}, "max_lr: -0.1 is below 0"),
        ("CosineScheduler", {"t_max": 10, "max_lr": 0.1, "min_lr": -1}, "min_lr: -1 is below 0"),
        ("CosineScheduler", {"t_max": 10, "max_lr": 0.1, "init_lr": -1}, "init_lr: -1 is below 0"),
        ("CosineScheduler", {"t_max": 10, "max_lr": 0.1, "warmup_steps": -1}, "warmup_steps: -1 is below 0"),
        ("PolyScheduler", {"t_max": 10, "max_lr": 0.1, "poly_order": 0}, "poly_order: 0 is not above 0"),
        ("PolyScheduler", {"t_max": "ten", "max_lr": 0.1}, "an argument has the wrong type"),
        ("CosineAnnealingWarmupRestarts", {"first_cycle_steps": 5, "warmup_steps": 5}, "warmup_steps: 5 is not from 0"),
        ("CosineAnnealingWarmupRestarts", {"first_cycle_steps": 5, "last_epoch": 3}, "last_epoch: 3 is a resume"),
        ("REXScheduler", {}, "total_steps is missing"),
        ("get_wsd_schedule", {**WSD, "cooldown_type": "sqrt"}, "cooldown_type: 'sqrt' is none of"),
        ("get_wsd_schedule", {**WSD, "num_decay_steps": -1}, "num_decay_steps: -1 is below 0"),
        ("get_chebyshev_schedule", {"epochs": 9}, "epochs: there is no such argument; did you mean num_epochs"),
        ("ProportionScheduler", {"lr_scheduler": "cosine", "max_lr": 0.1}, "lr_scheduler: 'cosine' is no schedule"),
        ("ProportionScheduler", {"lr_scheduler": {"type": "rex"}, "max_lr": 0.1}, "total_steps is missing"),
        ("CosineSchedule", {}, "did you mean CosineScheduler"),
    ],
)
def test_mistakes_are_named(schedule, arguments, message):
    with pytest.raises(InvalidSchedule, match=message):
        from_native("pytorch_optimizer", schedule, arguments, RUN)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PowerLaw(0.0, 1.0, 0), "power: 0 is not above 0"),
        (lambda: Chebyshev(8, 3), "order: 3 is no power of two"),
        (lambda: WholeCycles(1.0, 0.0, first=3, warmup=3), "warmup: 3 steps do not fit"),
    ],
)
def test_curves_refuse_what_cannot_be(build, message):
    with pytest.raises(InvalidSchedule, match=message):
        build()


def test_an_affine_schedule_is_as_long_as_what_it_maps():
    curve = Affine(Constant(0.5, 7), factor=2.0, offset=0.25)
    assert (curve(3), curve.steps) == (1.25, 7)
