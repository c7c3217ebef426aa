from __future__ import annotations

import types

import pytest
import torch
from torch import nn
from ultralytics.optim.muon import MuSGD

from yolo_cosine.config.load import load_config
from yolo_cosine.engine.apply import AppliedSchedule, applied
from yolo_cosine.engine.optim import build_optimizer, clip_gradients, step_if, uncompiled
from yolo_cosine.errors import UserError
from yolo_cosine.model import detector
from yolo_cosine.schedules.build import build_schedule


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return detector.build_detector("yolo11n", ("a", "b"))


@pytest.mark.parametrize("name", ["SGD", "AdamW", "MuSGD"])
def test_groups_are_those_of_ultralytics(model, name):
    from ultralytics.engine.trainer import BaseTrainer

    detector.freeze(model, None)
    config = load_config(None, [f"optimizer={name}", "batch=16", "nominal_batch=64"])
    optimizer, groups = build_optimizer(model, config)
    peer = BaseTrainer.build_optimizer(
        types.SimpleNamespace(), model, name, lr=config.lr0, momentum=config.momentum, decay=config.weight_decay
    )
    ids = {"weight": "weight", "bn": "norm", "bias": "bias", "muon": "muon"}

    def described(optimizer, kind):
        return {
            (frozenset(id(p) for p in g["params"] if p.requires_grad), kind(g), round(g["lr"], 9), g["weight_decay"])
            for g in optimizer.param_groups
            if any(p.requires_grad for p in g["params"])
        }

    ours = described(optimizer, lambda g: g["name"].removeprefix("head_"))
    assert ours == described(peer, lambda g: ids[g["param_group"]])
    assert isinstance(optimizer, type(peer))
    assert [g.name for g in groups] == [g["name"] for g in optimizer.param_groups]
    for key in ("nesterov", "momentum", "betas", "use_muon"):
        assert {g.get(key) for g in optimizer.param_groups} == {
            g.get(key) for g in peer.param_groups if len(g["params"])
        }


def test_frozen_parameters_are_in_no_group(model):
    detector.freeze(model, 10)
    optimizer, _ = build_optimizer(model, load_config(None))
    assert all(p.requires_grad for g in optimizer.param_groups for p in g["params"])
    detector.freeze(model, None)


def test_what_is_logged_is_what_was_applied(model):
    config = load_config(None, ["epochs=10", "warmup_epochs=2"])
    optimizer, groups = build_optimizer(model, config)
    schedule = build_schedule(config, groups, 10)
    apply = AppliedSchedule(optimizer, groups, schedule)
    for step in (0, 7, 20, 99):
        apply(step)
        values = applied(optimizer)
        assert set(values) == {"lr/weight", "lr/norm", "lr/bias", "momentum"}
        assert values["lr/bias"] == next(g["lr"] for g in optimizer.param_groups if g["name"] == "bias")
        assert values["momentum"] == optimizer.param_groups[1]["momentum"]
    assert values["lr/weight"] == pytest.approx(config.lr0 * config.lrf)


@pytest.mark.parametrize("limit", [0.0, 1.0, 1e9])
def test_clipping(limit):
    parameters = [torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(2, 2))]
    for p in parameters:
        p.grad = torch.full_like(p, 3.0)
    norm = clip_gradients(parameters, limit)
    assert norm.item() == pytest.approx(3 * 7**0.5)
    after = torch.cat([p.grad.flatten() for p in parameters]).norm().item()
    assert after == pytest.approx(1.0 if limit == 1.0 else norm.item(), rel=1e-5)


def test_layers_have_groups_and_factors_of_their_own(model):
    config = load_config(None, ["lr_factors={bias: 2, layers 0-9: 0.1}"])
    optimizer, groups = build_optimizer(model, config)
    assert [g.name for g in groups] == [
        "weight", "norm", "bias", "weight_layers_0-9", "norm_layers_0-9", "bias_layers_0-9",
    ]  # fmt: skip
    AppliedSchedule(optimizer, groups, build_schedule(config, groups, 10))(500)
    rates = {g["name"]: g["lr"] for g in optimizer.param_groups}
    assert rates["bias"] == pytest.approx(2 * rates["weight"])
    assert rates["bias_layers_0-9"] == pytest.approx(0.2 * rates["weight"])
    early = {id(p) for layer in model.model[:10] for p in layer.parameters()}
    for g in optimizer.param_groups:
        assert {id(p) in early for p in g["params"]} == {g["name"].endswith("_layers_0-9")}


def test_layers_that_are_not_there_are_refused(model):
    with pytest.raises(UserError, match=r"layers 90-99: holds nothing that is trained; the network has layers 0 to 23"):
        build_optimizer(model, load_config(None, ["lr_factors={layers 90-99: 0.1}"]))


@pytest.mark.parametrize(("name", "momentum"), [("SGD", 0.9), ("SGD", 0), ("AdamW", 0.9), ("MuSGD", 0.9)])
def test_a_step_that_is_left_out_leaves_no_trace(name, momentum):
    results = []
    for happening in ((True, True), (False, True, False, True)):
        torch.manual_seed(0)
        model = detector.build_detector("yolo11n.yaml", ("a",))
        detector.freeze(model, None)
        optimizer, _ = build_optimizer(model, load_config(None, [f"optimizer={name}", f"momentum={momentum}"]))
        for group in optimizer.param_groups:
            group["momentum"] = 0.8  # a warmup's
        for happens in happening:
            for p in model.parameters():
                p.grad = torch.full_like(p, 0.1 if happens else float("nan"))
            step_if(optimizer, torch.tensor(happens))
        results.append([p.detach() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
        (torch.optim.AdamW, {"lr": 0.1}),
        (MuSGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ],
)
def test_an_optimizer_that_is_not_compiled_does_what_it_does_anyway(kind, keys):
    def trained(optimizer_of):
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
        groups = [
            {"params": list(layer.parameters()), **({"use_muon": False} if kind is MuSGD else {})} for layer in layers
        ]
        optimizer = optimizer_of(groups[:1], **keys)
        optimizer.add_param_group(groups[1])
        for step in range(4):
            if step == 2:  # in the middle the state goes out and comes back
                state = optimizer.state_dict()
                optimizer = optimizer_of(groups, **keys)
                optimizer.load_state_dict(state)
            layers(torch.arange(3.0)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        assert all(p.grad is None for p in layers.parameters())
        return [p.detach() for p in layers.parameters()]

    plain, ours = trained(kind), trained(uncompiled(kind))
    assert all(torch.equal(a, b) for a, b in zip(plain, ours, strict=True))
    assert issubclass(uncompiled(kind), kind)
