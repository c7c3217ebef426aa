"""Parameter groups and optimizers."""

from __future__ import annotations

import inspect

import torch
from torch import nn, optim
from ultralytics.optim.muon import MuSGD

from yolo_cosine.config.schema import RunConfig
from yolo_cosine.errors import UserError
from yolo_cosine.schedules.run import Group, LayerRange, layer_ranges, make_group, nominal_accumulation

# What MuSGD of Ultralytics 8.4 is built with (engine/trainer.py, build_optimizer).
_MUON_SHARE, _SGD_SHARE, _HEAD_FACTOR = 0.2, 1.0, 3.0


def build_optimizer(model: nn.Module, config: RunConfig) -> tuple[optim.Optimizer, tuple[Group, ...]]:
    """The optimizer with the field's groups: weights with decay, norms and biases without.

    MuSGD has a fourth one, `muon`, with all matrices and filters, and each of the four a second time, as `head_...`,
    with three times the rate, for the class branch of the head; groups without parameters are left out.

    Returns:
        The optimizer, whose groups carry their `name`, and the groups in the same order.
    """
    decay = config.weight_decay * config.batch * nominal_accumulation(config) / config.nominal_batch
    boosted = _class_branch(model) if config.optimizer == "MuSGD" else set()
    ranges = layer_ranges(config)
    members: dict[Group, list[nn.Parameter]] = {}
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            kind = _kind(module, f"{module_name}.{name}", parameter, config.optimizer)
            layers = next((r for r in ranges if r.first <= _layer(module_name) <= r.last), None)
            head = id(parameter) in boosted
            group = make_group(config, kind, "head_" if head else "", layers, _HEAD_FACTOR if head else 1)
            members.setdefault(group, []).append(parameter)
    _check_layers(ranges, members, len(model.model))
    groups = tuple(sorted(members, key=lambda g: _place(g, ranges)))
    settings = [
        {
            "params": members[g],
            "name": g.name,
            "lr": g.lr0,
            "weight_decay": decay if g.kind in {"weight", "muon"} else 0.0,
            **({"use_muon": g.kind == "muon"} if config.optimizer == "MuSGD" else {}),
        }
        for g in groups
    ]
    return _create(config, settings), groups


def _create(config: RunConfig, settings: list[dict]) -> optim.Optimizer:
    # fused: one kernel for all tensors, which can be told on the device to leave an update out (`step_if`). Not every device can
    fused = settings[0]["params"][0].device.type in {"cpu", "cuda"}
    if config.optimizer == "AdamW":
        return uncompiled(optim.AdamW)(settings, lr=config.lr0, betas=(config.momentum, 0.999), fused=fused)
    # PyTorch's SGD refuses Nesterov without momentum
    nesterov = config.momentum > 0
    if config.optimizer == "MuSGD":
        return uncompiled(MuSGD)(
            settings, lr=config.lr0, momentum=config.momentum, nesterov=nesterov, muon=_MUON_SHARE, sgd=_SGD_SHARE
        )
    optimizer = uncompiled(optim.SGD)(settings, lr=config.lr0, momentum=config.momentum, nesterov=nesterov, fused=fused)
    # Zeros come to the same as no buffer, but a fused first step that is left out would leave a new one unset. Without momentum
    # too: a warmup may have some.
    for parameter in (p for group in optimizer.param_groups for p in group["params"]):
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def step_if(optimizer: optim.Optimizer, happens: torch.Tensor) -> None:
    """Take an optimizer's step, unless `happens`, () bool on the device of its parameters, is false. The host does not wait to
    learn it where the optimizer is a fused one."""
    if all(group.get("fused") for group in optimizer.param_groups):
        optimizer.found_inf = (~happens).float()
        optimizer.step()
    elif happens:
        optimizer.step()


def uncompiled(kind: type[optim.Optimizer]) -> type[optim.Optimizer]:
    """The same optimizer, for those who do not compile it.

    PyTorch wraps the methods of optimizers in what keeps its compiler from tracing them. The wrappers import the compiler
    when the first of them is called, which takes a second, and do nothing more where none is at work.
    """
    names = ("add_param_group", "state_dict", "load_state_dict", "zero_grad", "step")
    plain = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    plain["step"] = torch.no_grad()(plain["step"])  # the one thing that its wrapper does besides
    return type(kind.__name__, (kind,), plain)


def _kind(module: nn.Module, name: str, parameter: nn.Parameter, optimizer: str) -> str:
    if optimizer == "MuSGD" and parameter.ndim in {2, 4}:
        return "muon"
    if "bias" in name:
        return "bias"
    norms = tuple(v for k, v in vars(nn).items() if "Norm" in k)
    return "norm" if isinstance(module, norms) else "weight"


def _layer(module_name: str) -> int:
    """The number of the layer that a module is in: `model.3.conv` is in layer 3."""
    return int(module_name.split(".")[1])


def _check_layers(ranges: tuple[LayerRange, ...], members: dict[Group, list], layers: int) -> None:
    for r in ranges:
        if not any(g.name.endswith(r.suffix) for g in members):
            raise UserError(
                f"lr_factors.layers {r.first}-{r.last}: holds nothing that is trained; the network has layers 0 to "
                f"{layers - 1}, less those that freeze names"
            )


def _place(group: Group, ranges: tuple[LayerRange, ...]) -> tuple[int, bool, int]:
    """Groups stand in this order: those of all layers before those of some, the head's last, weights first."""
    place = next((k for k, r in enumerate(ranges, 1) if group.name.endswith(r.suffix)), 0)
    return place, group.name.startswith("head_"), ("weight", "norm", "bias", "muon").index(group.kind)


def _class_branch(model: nn.Module) -> set[int]:
    head = model.model[-1]
    branches = (getattr(head, name, None) for name in ("cv3", "one2one_cv3"))
    return {id(p) for branch in branches if branch is not None for p in branch.parameters()}


@torch.no_grad()
def clip_gradients(parameters: list[nn.Parameter], max_norm: float) -> torch.Tensor:
    """Scale all gradients so that their joint norm is at most `max_norm` (0: leave them); returns the norm before."""
    if max_norm == 0:
        return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    return torch.nn.utils.clip_grad_norm_(parameters, max_norm)
