"""timm's schedules by its own arguments, against its own code where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from yolo_cosine.schedules.curves import InvalidSchedule
from yolo_cosine.schedules.peers.timm_curves import Between, Cycles, ExponentialTo, InversePower, KDecay, TimmNoise
from yolo_cosine.schedules.presets import from_native

LR0 = [0.1, 0.01]
RUN = {"lr0": LR0}
METRICS = [0.1, 0.2, 0.3, 0.3, 0.31, 0.31, 0.31, 0.31, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4]


@pytest.fixture(scope="module")
def timm_scheduler():
    """The package `timm.scheduler`, without `timm/__init__.py`, which asks for a whole torchvision."""
    pytest.importorskip("torch", reason="timm's schedulers set the rates of a torch optimizer")
    spec = importlib.util.find_spec("timm")
    if spec is None:
        pytest.skip("timm is not installed, so there is no peer to compare with")
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "timm"}
    stub = types.ModuleType("timm")
    stub.__path__ = [str(Path(spec.origin).parent)]
    sys.modules["timm"] = stub
    yield importlib.import_module("timm.scheduler")
    for name in [name for name in sys.modules if name.split(".")[0] == "timm"]:
        del sys.modules[name]
    sys.modules.update(before)


def record(module, schedule, arguments, indices, metrics=(), lr_scale=None):
    """What timm's training script applies at each index: rates of each group, until the peer raises."""
    import torch

    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr0} for lr0 in LR0]
    for group, scale in zip(groups, lr_scale or (), strict=False):
        group["lr_scale"] = scale
    optimizer = torch.optim.SGD(groups, lr=1.0)
    made = getattr(module, schedule)(optimizer, **arguments)
    scheduler = made[0] if isinstance(made, tuple) else made
    rates = [[group["lr"] for group in optimizer.param_groups]]
    for i in range(1, indices):
        if scheduler is not None:
            try:
                scheduler.step(i, metrics[i - 1] if i <= len(metrics) else None)
                scheduler.step_update(i)
            except (ValueError, ZeroDivisionError):
                return rates
        rates.append([group["lr"] for group in optimizer.param_groups])
    return rates


def compare(module, schedule, arguments, indices=45, skip=(), metrics=(), lr_scale=None):
    """Our schedule and the peer's agree at every index, and both refuse where one does."""
    theirs = record(module, schedule, arguments, indices, metrics, lr_scale)
    extra = {} if lr_scale is None else {"lr_scale": lr_scale}
    ours = from_native("timm", schedule, {**arguments, **extra, **({"metrics": metrics} if metrics else {})}, RUN)
    largest = max(max(row) for row in theirs)
    for i, row in enumerate(theirs):
        if i not in skip:
            assert [ours.lr(i, g) for g in range(len(LR0))] == pytest.approx(row, rel=1e-9, abs=1e-12 * largest), i
    if len(theirs) < indices and len(theirs) not in skip:
        with pytest.raises(InvalidSchedule):
            ours.lr(len(theirs))
    return ours


CASES = [
    ("CosineLRScheduler", {"t_initial": 20}),
    ("CosineLRScheduler", {"t_initial": 20, "lr_min": 0.02, "warmup_t": 5, "warmup_lr_init": 1e-4}),
    ("CosineLRScheduler", {"t_initial": 20, "lr_min": 1e-5, "warmup_t": 5, "warmup_prefix": True}),
    ("CosineLRScheduler", {"t_initial": 10, "lr_min": 1e-5, "warmup_t": 2.5, "cycle_limit": 3, "cycle_decay": 0.5}),
    ("CosineLRScheduler", {"t_initial": 5, "cycle_mul": 2.0, "cycle_limit": 2, "warmup_t": 0.5, "t_in_epochs": False}),
    ("CosineLRScheduler", {"t_initial": 10, "cycle_limit": 0, "lr_min": 1e-3}),
    ("CosineLRScheduler", {"t_initial": 10, "cycle_limit": -1, "lr_min": 1e-3, "warmup_t": 3}),
    ("CosineLRScheduler", {"t_initial": 10, "k_decay": 2.0, "cycle_limit": 3, "cycle_decay": 0.5, "lr_min": 1e-3}),
    ("CosineLRScheduler", {"t_initial": 10, "k_decay": 0, "lr_min": 1e-3}),
    ("CosineLRScheduler", {"t_initial": 16, "cycle_mul": 0.5, "cycle_limit": 3, "lr_min": 1e-3}),
    ("CosineLRScheduler", {"t_initial": 1, "lr_min": 1e-3, "warmup_t": 4}),
    ("TanhLRScheduler", {"t_initial": 20}),
    ("TanhLRScheduler", {"t_initial": 20, "lb": -4.0, "ub": 2.0, "lr_min": 1e-4, "warmup_t": 5}),
    ("TanhLRScheduler", {"t_initial": 10, "cycle_limit": 2, "cycle_decay": 0.3, "warmup_t": 5, "warmup_prefix": True}),
    ("TanhLRScheduler", {"t_initial": 10, "warmup_t": 15, "warmup_lr_init": 1e-3}),
    ("TanhLRScheduler", {"t_initial": 10, "cycle_limit": 0}),
    ("PolyLRScheduler", {"t_initial": 20}),
    ("PolyLRScheduler", {"t_initial": 20, "power": 2.0, "lr_min": 1e-4, "warmup_t": 3, "k_decay": 1.5}),
    ("PolyLRScheduler", {"t_initial": 20, "power": 0, "lr_min": 1e-4}),
    ("PolyLRScheduler", {"t_initial": 10, "power": 0.9, "cycle_limit": 3, "cycle_mul": 2, "cycle_decay": 0.5}),
    ("StepLRScheduler", {"decay_t": 2.4, "decay_rate": 0.9, "warmup_t": 3}),
    ("StepLRScheduler", {"decay_t": 7, "decay_rate": 0.5, "warmup_t": 2.5, "warmup_prefix": False}),
    ("StepLRScheduler", {"decay_t": 7}),
    ("MultiStepLRScheduler", {"decay_t": [10, 20], "decay_rate": 0.1}),
    ("MultiStepLRScheduler", {"decay_t": (0, 1, 2, 2), "decay_rate": 0.5}),
    ("MultiStepLRScheduler", {"decay_t": [4, 9.5], "decay_rate": 0.5, "warmup_t": 6, "warmup_lr_init": 0.2}),
    ("MultiStepLRScheduler", {"decay_t": [4, 9], "decay_rate": 0.5, "warmup_t": 6, "warmup_prefix": False}),
    ("MultiStepLRScheduler", {"decay_t": [], "decay_rate": 0.5}),
    ("WSDLRScheduler", {"t_initial": 30, "decay_t": 10, "lr_min": 0.02, "warmup_t": 5}),
    ("WSDLRScheduler", {"t_initial": 30, "decay_t": 30, "decay_fn": "cosine"}),
    ("WSDLRScheduler", {"t_initial": 30, "decay_t": 7.5, "decay_fn": "exp", "lr_min": 1e-3, "warmup_t": 2.5}),
    ("WSDLRScheduler", {"t_initial": 30, "decay_t": 9, "stable_fn": "rsqrt", "decay_fn": "linear", "warmup_t": 5}),
    ("WSDLRScheduler", {"t_initial": 30, "decay_t": 9, "stable_fn": "rsqrt", "stable_timescale": 4, "lr_min": 5e-3}),
    (
        "WSDLRScheduler",
        {
            "t_initial": 30, "decay_t": 9, "stable_fn": "power", "stable_power": 0.8, "stable_timescale": 3,
            "decay_fn": "power", "decay_power": 2.0, "lr_min": 1e-4, "warmup_t": 2,
        },
    ),
    ("WSDLRScheduler", {"t_initial": 30, "decay_t": 9, "stable_fn": "power", "stable_timescale": 3, "decay_fn": "exp"}),
]  # fmt: skip


@pytest.mark.parametrize(("schedule", "arguments"), CASES)
def test_the_classes_apply_what_timm_applies(timm_scheduler, schedule, arguments):
    compare(timm_scheduler, schedule, arguments)


FACTORY = [
    {},
    {"num_epochs": 20, "warmup_epochs": 3, "min_lr": 1e-5},
    {"num_epochs": 8, "cycle_limit": 3, "cooldown_epochs": 4},
    {"num_epochs": 5, "warmup_epochs": 1, "step_on_epochs": False, "updates_per_epoch": 7},
    {"num_epochs": 10, "warmup_epochs": 2, "warmup_prefix": True, "cycle_mul": 2.0, "cycle_limit": 2},
    {"sched": "tanh", "num_epochs": 20, "warmup_epochs": 3, "min_lr": 1e-5},
    {"sched": "poly", "num_epochs": 20, "decay_rate": 0.9, "k_decay": 2.0},
    {"sched": "step", "decay_epochs": 4.5, "warmup_epochs": 3},
    {"sched": "step", "decay_epochs": 0.5, "step_on_epochs": False, "updates_per_epoch": 9, "warmup_prefix": True},
    {"sched": "multistep", "decay_milestones": [5, 12], "warmup_epochs": 2},
    {"sched": "multistep", "decay_milestones": [1, 3], "step_on_epochs": False, "updates_per_epoch": 9},
    {"sched": "constant", "warmup_epochs": 4},
    {"sched": "none", "warmup_epochs": 4},
    {"sched": "wsd", "num_epochs": 33, "warmup_epochs": 5, "min_lr": 1e-4},
    {"sched": "wsd", "num_epochs": 33, "warmup_epochs": 5, "decay_epochs": 6, "warmup_prefix": True, "decay_fn": "exp"},
    {"sched": "wsd", "num_epochs": 4, "decay_epochs": 1.5, "step_on_epochs": False, "updates_per_epoch": 9},
    {"sched": "rsqrt", "num_epochs": 33, "warmup_epochs": 5, "min_lr": 1e-4},
    {"sched": "rsqrt", "num_epochs": 4, "stable_timescale": 0.5, "step_on_epochs": False, "updates_per_epoch": 9},
    {"num_epochs": 20, "noise": [0.2, 0.7], "noise_seed": 3},
    {"num_epochs": 20, "noise": 0.5, "noise_pct": 0.2},
    {"num_epochs": 20, "noise": [0.5], "sched": "step", "decay_epochs": 4},
]


@pytest.mark.parametrize("arguments", FACTORY)
def test_the_factory_applies_what_timm_applies_and_returns_as_many_epochs(timm_scheduler, arguments):
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    _, epochs = timm_scheduler.create_scheduler_v2(optimizer, **arguments)
    compare(timm_scheduler, "create_scheduler_v2", arguments)
    ours = from_native("timm", "create_scheduler_v2", {**arguments, "returned_num_epochs": epochs}, RUN)
    assert ours.length // arguments.get("updates_per_epoch", 1) == epochs


def test_the_factory_by_the_training_scripts_names(timm_scheduler):
    import torch

    arguments = {
        "sched": "cosine", "epochs": 12, "warmup_epochs": 2, "min_lr": 1e-5, "lr_cycle_limit": 2, "lr_k_decay": 1.5,
        "lr_noise": [0.5, 1.0], "seed": 7, "sched_on_updates": True,
    }  # fmt: skip
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler, _ = timm_scheduler.create_scheduler(types.SimpleNamespace(**arguments), optimizer, updates_per_epoch=3)
    ours = from_native("timm", "create_scheduler", {**arguments, "updates_per_epoch": 3}, {"lr0": 0.1})
    for i in range(1, 60):
        scheduler.step_update(i)
        assert ours.lr(i) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9), i


@pytest.mark.filterwarnings("ignore:PlateauLRScheduler is deprecated")
@pytest.mark.parametrize(
    "arguments",
    [
        {"patience_t": 1},
        {"patience_t": 1, "decay_rate": 0.5, "warmup_t": 4, "warmup_lr_init": 1e-4, "lr_min": 2e-3},
        {"patience_t": 0, "decay_rate": 0.5, "warmup_t": 2.5, "cooldown_t": 2, "threshold": 0.1},
        {"patience_t": 1, "mode": "min", "decay_rate": 0.2, "noise_range_t": [1, 12], "noise_type": "uniform"},
        {"patience_t": 1, "mode": "min", "warmup_t": 3, "noise_range_t": 2, "noise_seed": 5},
    ],
)
@pytest.mark.parametrize("lr_scale", [None, [1.0, 0.5]])
def test_a_plateau_reduces_where_timm_reduces(timm_scheduler, arguments, lr_scale):
    compare(timm_scheduler, "PlateauLRScheduler", arguments, 17, metrics=METRICS, lr_scale=lr_scale)


@pytest.mark.parametrize("schedule", ["CosineLRScheduler", "TanhLRScheduler", "PolyLRScheduler"])
@settings(max_examples=60, deadline=None)
@given(
    t_initial=st.integers(1, 30),
    lr_min=st.sampled_from([0.0, 1e-5, 0.02]),
    cycle_mul=st.sampled_from([1, 1.0, 2.0, 1.5, 1.1, 0.5, 0.7]),
    cycle_decay=st.floats(0.1, 1.2),
    cycle_limit=st.integers(0, 4),
    warmup_t=st.one_of(st.integers(0, 40), st.sampled_from([0.5, 2.25, 7.75])),
    warmup_lr_init=st.sampled_from([0.0, 1e-6, 0.2]),
    warmup_prefix=st.booleans(),
    noise_range_t=st.sampled_from([None, 5, [3, 12]]),
    k_decay=st.sampled_from([1.0, 0.5, 2.0, 3]),
    lr_scale=st.sampled_from([None, [0.5, 1.0]]),
)
def test_any_cycles_are_timms(timm_scheduler, schedule, k_decay, lr_scale, **arguments):
    if schedule != "TanhLRScheduler":
        arguments["k_decay"] = k_decay
    t_initial, mul = arguments["t_initial"], arguments["cycle_mul"]
    prefix = arguments["warmup_t"] if arguments["warmup_prefix"] else 0
    starts = {t_initial * (mul**i - 1) / (mul - 1) for i in range(1, 60)} if mul != 1 else set()
    # timm finds the cycle by a logarithm, which may round a start into the cycle before
    near = [i for i in range(46) if any(abs(i - prefix - start) < 1e-6 for start in starts)]
    if mul < 1:
        # where all cycles end, timm's rounding decides whether it raises one step later; tanh asks when it is built
        near += [i for i in range(46) if i - prefix >= t_initial / (1 - mul) - 1e-6]
        assume(schedule != "TanhLRScheduler" or arguments["warmup_t"] < t_initial / (1 - mul) - 1)
    compare(timm_scheduler, schedule, arguments, skip=near, lr_scale=lr_scale)


def test_shrinking_cycles_end_where_timm_raises(timm_scheduler):
    arguments = {"t_initial": 16, "cycle_mul": 0.5, "cycle_limit": 4, "lr_min": 1e-4}
    assert len(record(timm_scheduler, "CosineLRScheduler", arguments, 45)) == 32
    compare(timm_scheduler, "CosineLRScheduler", arguments)


@pytest.mark.filterwarnings("ignore:PlateauLRScheduler is deprecated")
def test_the_factorys_plateau_is_timms(timm_scheduler):
    arguments = {"sched": "plateau", "patience_epochs": 1, "decay_rate": 0.5, "warmup_epochs": 2, "min_lr": 1e-3}
    ours = compare(timm_scheduler, "create_scheduler_v2", arguments, 17, metrics=METRICS)
    script = from_native("timm", "create_scheduler", {**arguments, "metrics": METRICS, "epochs": 300}, RUN)
    assert script == ours
    less = from_native("timm", "create_scheduler", {**arguments, "metrics": METRICS, "eval_metric": "loss"}, RUN)
    assert less.lr(16) < ours.lr(16)  # these metrics rise, so as a loss they never get better


@settings(max_examples=60, deadline=None)
@given(
    t_initial=st.integers(1, 30),
    decay=st.floats(0.01, 1.0),
    lr_min=st.sampled_from([0.0, 1e-4, 0.02]),
    stable_fn=st.sampled_from(["constant", "rsqrt", "power"]),
    stable_timescale=st.sampled_from([0.5, 3, 20]),
    stable_power=st.floats(0.1, 2.0),
    decay_fn=st.sampled_from(["linear", "1-sqrt", "cosine", "power", "exp"]),
    decay_power=st.floats(0.2, 3.0),
    decay_ratio=st.floats(0.01, 0.9),
    warmup_t=st.sampled_from([0, 1, 2.5, 10]),
)
def test_any_wsd_is_timms(timm_scheduler, t_initial, decay, **arguments):
    arguments |= {"t_initial": t_initial, "decay_t": decay * t_initial}
    compare(timm_scheduler, "WSDLRScheduler", arguments)


def test_the_first_index_has_what_the_constructor_wrote():
    tanh = from_native("timm", "TanhLRScheduler", {"t_initial": 10}, RUN)
    assert tanh.lr(0) == 0.1
    assert from_native("timm", "CosineLRScheduler", {"t_initial": 10, "cycle_limit": 0}, RUN).lr(0) == 0.1
    warm = from_native("timm", "CosineLRScheduler", {"t_initial": 10, "warmup_t": 3, "warmup_lr_init": 1e-3}, RUN)
    assert [warm.lr(0, g) for g in (0, 1)] == pytest.approx([1e-3, 1e-3])


def test_the_minimum_is_absolute_and_belongs_to_the_step_after_the_last():
    native = from_native("timm", "CosineLRScheduler", {"t_initial": 10, "lr_min": 0.02}, RUN)
    assert [native.lr(i, 1) for i in (0, 10, 99)] == pytest.approx([0.01, 0.02, 0.02])  # the small group rises
    assert native.lr(9) > 0.02
    assert native.length == 10


def test_the_base_rate_is_never_used_without_a_prefix_and_a_note_says_so():
    arguments = {"t_initial": 30, "warmup_t": 5}
    native = from_native("timm", "CosineLRScheduler", arguments, RUN)
    assert max(native.lr(i) for i in range(30)) < 0.1
    assert "jumps down" in native.notes[0]
    prefixed = from_native("timm", "CosineLRScheduler", {**arguments, "warmup_prefix": True}, RUN)
    assert prefixed.lr(5) == 0.1 and not prefixed.notes


def test_a_milestone_takes_effect_one_earlier():
    native = from_native("timm", "MultiStepLRScheduler", {"decay_t": [10], "decay_rate": 0.1}, {"lr0": 1.0})
    assert [native.lr(i) for i in (8, 9)] == pytest.approx([1.0, 0.1])


def test_tripling_cycles_restart_at_every_start():
    """timm itself misses the start at t = 121, where its logarithm rounds down; that is not imitated."""
    native = from_native("timm", "CosineLRScheduler", {"t_initial": 1, "cycle_mul": 3.0, "cycle_limit": 9}, RUN)
    assert [native.lr(i) for i in (1, 4, 13, 40, 121, 364, 1093)] == pytest.approx([0.1] * 7)


def test_a_group_without_a_rate_of_its_own_rises_to_the_minimum():
    native = from_native("timm", "CosineLRScheduler", {"t_initial": 10, "lr_min": 0.02}, {"lr0": [0.1, 0.0]})
    assert [native.lr(i, 1) for i in (0, 5, 10)] == pytest.approx([0.0, 0.01, 0.02])


def test_the_run_gives_the_lengths_that_the_arguments_leave_out():
    run = {"lr0": 0.1, "epochs": 12, "iters_per_epoch": 5, "total_iters": 60}
    assert from_native("timm", "CosineLRScheduler", {"t_in_epochs": False}, run).length == 60
    assert from_native("timm", "CosineLRScheduler", {"warmup_t": 2, "warmup_prefix": True}, run).length == 12
    native = from_native("timm", "create_scheduler_v2", {"step_on_epochs": False}, run)
    assert native.length == 60 and native.clock == "update"


def test_a_plateau_without_metrics_is_the_rate_while_all_goes_well():
    native = from_native("timm", "PlateauLRScheduler", {"warmup_t": 2}, {"lr0": 0.1})
    assert [native.lr(i) for i in (0, 1, 2, 500)] == pytest.approx([0.0, 0.05, 0.1, 0.1])
    assert "metrics" in native.notes[0]


@pytest.mark.parametrize(
    ("schedule", "arguments", "message"),
    [
        ("CosineLRScheduler", {}, "t_initial is missing"),
        ("CosineLRScheduler", {"t_initial": 0}, "t_initial: 0 is not above 0"),
        ("CosineLRScheduler", {"t_initial": 10, "lr_min": -1}, "lr_min: -1 is below 0"),
        ("CosineLRScheduler", {"t_initial": 10, "warmup_t": -1}, "warmup_t: -1 is below 0"),
        ("CosineLRScheduler", {"t_initial": 10, "cycle_mul": 0}, "cycle_mul: 0 is not above 0"),
        ("CosineLRScheduler", {"t_initial": 10, "k_decay": -1}, "k: -1 is below 0"),
        ("CosineLRScheduler", {"t_initial": 10, "t_mul": 2}, "t_mul: there is no such argument"),
        ("CosineLRScheduler", {"t_initial": 10, "noise_range_t": [3]}, "noise_range_t: .3. has no end"),
        ("CosineLRScheduler", {"t_initial": 10, "noise_range_t": 3, "noise_pct": 0}, "pct: noise below 0"),
        ("CosineLRScheduler", {"t_initial": 10, "lr_scale": [1.0]}, "lr_scale: 1 for 2 groups"),
        ("CosineLRScheduler", {"t_initial": "10"}, "an argument has the wrong type"),
        ("TanhLRScheduler", {"t_initial": 10, "lb": 3}, "lb: 3 is not below ub=3.0"),
        ("TanhLRScheduler", {"t_initial": 10, "cycle_limit": -1}, "cycle_limit: -1 is below 0"),
        ("TanhLRScheduler", {"t_initial": 10, "warmup_t": 1, "warmup_lr_init": -1}, "warmup_lr_init: -1 is below 0"),
        ("StepLRScheduler", {}, "decay_t is missing"),
        ("StepLRScheduler", {"decay_t": 0}, "decay_t: 0 is no interval"),
        ("MultiStepLRScheduler", {"decay_t": [3, 1]}, "decay_t: .3, 1. are not in order"),
        ("MultiStepLRScheduler", {"decay_t": 3}, "an argument has the wrong type"),
        ("PlateauLRScheduler", {"decay_rate": 1}, "decay_rate: 1 lowers nothing"),
        ("PlateauLRScheduler", {"mode": "up"}, "mode: 'up' is not known"),
        ("WSDLRScheduler", {"t_initial": 0, "decay_t": 1}, "t_initial: 0 is not above 0"),
        ("WSDLRScheduler", {"t_initial": 5, "decay_t": 6}, "decay_t: 6 is not above 0 and at most t_initial=5"),
        ("WSDLRScheduler", {"t_initial": 5, "decay_t": 2, "lr_min": -1}, "lr_min: -1 is below 0"),
        ("WSDLRScheduler", {"t_initial": 5, "decay_t": 2, "stable_fn": "flat"}, "stable_fn: 'flat' is none of"),
        ("WSDLRScheduler", {"t_initial": 5, "decay_t": 2, "decay_fn": "sqrt"}, "decay_fn: 'sqrt' is none of"),
        ("WSDLRScheduler", {"t_initial": 5, "decay_t": 2, "decay_ratio": 1}, "decay_ratio: 1 is not between"),
        ("WSDLRScheduler", {"t_initial": 5, "decay_t": 2, "decay_power": 0}, "decay_power: 0 is not above 0"),
        ("WSDLRScheduler", {"t_initial": 5, "decay_t": 2, "stable_power": 0}, "stable_power: 0 is not above 0"),
        ("WSDLRScheduler", {"t_initial": 5, "decay_t": 2, "stable_fn": "rsqrt"}, "stable_timescale: 0 "),
        ("create_scheduler_v2", {"sched": "cosin"}, "sched: 'cosin' is none of"),
        ("create_scheduler_v2", {"step_on_epochs": False}, "updates_per_epoch: 0 is not above 0"),
        (
            "create_scheduler_v2",
            {"sched": "plateau", "step_on_epochs": False, "updates_per_epoch": 3},
            "step_on_epochs: a plateau is looked for once an epoch",
        ),
        ("create_scheduler_v2", {"sched": "wsd", "num_epochs": 10, "decay_epochs": 11}, "decay_epochs: a decay of 11"),
        ("create_scheduler_v2", {"num_epochs": 10, "returned_num_epochs": 11}, "returned_num_epochs: 11 is not what"),
        ("create_scheduler", {}, "sched is missing"),
        ("CosineScheduler", {}, "did you mean CosineLRScheduler"),
    ],
)
def test_mistakes_are_named(schedule, arguments, message):
    with pytest.raises(InvalidSchedule, match=message):
        from_native("timm", schedule, arguments, RUN)


def test_the_curves_hold_their_ends_and_refuse_what_cannot_be():
    from yolo_cosine.schedules.curves import Constant, Cosine

    assert KDecay(Cosine(1.0, 0.2, 10), 2.0)(25) == 0.2
    assert ExponentialTo(1.0, 0.2, 10)(0) == pytest.approx(1.0) and ExponentialTo(1.0, 0.2, 10)(25) == 0.2
    assert Cycles(Cosine(1.0, 0.0, 10), 1.0, 0.2, T_mult=2.0, cycle_limit=2).steps == 30
    assert Between(0.5, Constant(2.0), Constant(0.25))(3) == 0.875
    assert InversePower(1.0, 4, 0.5)(12) == 0.5
    for build, message in (
        (lambda: Cycles(Constant(1.0), 1.0, 0.0), "shape: 0 steps are no cycle"),
        (lambda: Cycles(Cosine(1, 0, 5), 1.0, 0.0, T_mult=0), "T_mult: 0 leaves no second cycle"),
        (lambda: Cycles(Cosine(1, 0, 5), 1.0, 0.0, cycle_limit=-1), "cycle_limit: -1 is below 0"),
        (lambda: InversePower(1.0, 0, 0.5), "timescale: 0 steps is no length"),
        (lambda: ExponentialTo(1.0, 0.0, 5, ratio=0), "ratio: 0 is not between"),
        (lambda: TimmNoise(Constant(1.0), 0, pct=0), "pct: noise below 0"),
    ):
        with pytest.raises(InvalidSchedule, match=message):
            build()
