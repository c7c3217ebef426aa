"""The network: built, and run. With its neighbours `loss` and `weights` the one room that knows Ultralytics' modules.

Nothing here may import torchvision: Ultralytics' validator and predictor do, its models, losses and loaders do not.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import ultralytics
from torch import Tensor, nn
from ultralytics.nn import tasks
from ultralytics.nn.modules import Conv, Detect
from ultralytics.utils import LOGGER

from yolo_cosine.errors import UserError

# Heads that are subclasses of Detect but predict something else as well.
_BOX_HEADS = {"Detect", "v10Detect"}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Ultralytics' own log lines out of ours."""
    level = LOGGER.level
    LOGGER.setLevel(logging.ERROR)
    try:
        yield
    finally:
        LOGGER.setLevel(level)


def build_detector(architecture: str, names: tuple[str, ...]) -> nn.Module:
    """Build an Ultralytics detection network with fresh weights from torch's global generator.

    Args:
        architecture: a name (`yolo11n.yaml`) or the path of a model YAML.
        names: class names, in the order of the outputs.

    Raises:
        UserError: if there is no such architecture, or it is not one that detects boxes.
    """
    # the v5 networks of Ultralytics have their newer ("u") head always; the u is in the names of the checkpoints only
    name = re.sub(r"^(yolov5[nsmlx]6?)u(\.yaml)?$", r"\1\2", architecture)
    if not name.endswith((".yaml", ".yml")):
        name += ".yaml"
    try:
        with quiet():
            model = tasks.DetectionModel(name, ch=3, nc=len(names), verbose=False)
    except FileNotFoundError:
        raise UserError(
            f"model: {architecture!r} is neither an architecture of Ultralytics {ultralytics.__version__} nor a file; "
            "write for example yolov8n.yaml, yolo11s.yaml, yolo26n.yaml, or the path of a model YAML"
        ) from None
    except Exception as error:  # whatever a hand-written YAML makes the parser stumble over
        raise UserError(f"model: {architecture!r} cannot be built: {type(error).__name__}: {error}") from None
    check_head(model, f"model: {architecture!r}")
    model.names = dict(enumerate(names))
    model.nc = len(names)
    model.task = "detect"
    return model


def check_head(model: nn.Module, source: str) -> None:
    """Refuse a network that does not detect boxes.

    Raises:
        UserError: naming `source` and the head that it has.
    """
    head = type(model.model[-1]).__name__ if hasattr(model, "model") else type(model).__name__
    if head not in _BOX_HEADS:
        raise UserError(
            f"{source} ends in {head}, which is no box-detection head of the YOLO family; use a detection network such "
            "as yolo11n"
        )


def stride(model: nn.Module) -> int:
    """The network's largest stride, pixels."""
    return int(model.stride.max())


def freeze(model: nn.Module, layers: int | list[int] | None) -> int:
    """Stop training of the given layers (the first N, or a list) and of the fixed DFL weights.

    Returns:
        How many parameter tensors are frozen by `layers`.

    Raises:
        UserError: if there are no such layers, or nothing is left to train.
    """
    last = len(model.model) - 1
    wanted = list(range(layers)) if isinstance(layers, int) else list(layers or [])
    if any(not 0 <= layer <= last for layer in wanted):
        raise UserError(f"freeze: {layers}: this model has the layers 0 to {last}")
    prefixes = tuple(f"model.{layer}." for layer in wanted)
    frozen = 0
    for name, parameter in model.named_parameters():
        chosen = name.startswith(prefixes) if prefixes else False
        parameter.requires_grad = not chosen and ".dfl" not in name
        frozen += chosen
    if not any(p.requires_grad for p in model.parameters()):
        raise UserError(f"freeze: {layers} leaves nothing to train; freeze fewer layers")
    return frozen


def train_mode(model: nn.Module, frozen_layers: int | list[int] | None) -> None:
    """Training mode, but for the norms of frozen layers, whose statistics stay."""
    model.train()
    layers = range(frozen_layers) if isinstance(frozen_layers, int) else frozen_layers or []
    for layer in layers:
        for module in model.model[layer].modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


def convolutions(model: nn.Module) -> Iterator[Conv]:
    """Ultralytics' blocks that compute `act(bn(conv(x)))`, and nothing else."""
    return (m for m in model.modules() if isinstance(m, Conv) and type(m).forward is Conv.forward)


def float32_outputs(outputs: Any) -> Any:
    """What the network returned, in float32, with stand-ins for its features."""
    # in bf16 a coordinate of 300 px is off by up to a pixel
    if isinstance(outputs, Tensor):
        return outputs.float()
    if isinstance(outputs, Mapping):
        return {k: _shapes(v) if k == "feats" else float32_outputs(v) for k, v in outputs.items()}
    return outputs


def _shapes(features: list[Tensor]) -> list[Tensor]:
    """Stand-ins of the same shapes, in float32 and without memory of their own.

    Anchors are made from the features' shapes, but in their dtype, and in bf16 the centre of cell 128 is off by half a
    cell.
    """
    return [f.new_empty(1, dtype=torch.float32).expand(f.shape) for f in features]


def _uses_nms_free_head(head: Detect, nms: bool | str) -> bool:
    return getattr(head, "one2one_cv2", None) is not None and nms is not True


def check_nms(model: nn.Module, nms: bool | str) -> None:
    """Refuse `nms: false` for a network whose head needs NMS.

    Raises:
        UserError: with the remedy.
    """
    if nms is False and not _uses_nms_free_head(model.model[-1], nms):
        raise UserError("nms: false: this model has no NMS-free head; write nms: auto")


def inference_copy(model: nn.Module, max_det: int, nms: bool | str = "auto") -> nn.Module:
    """A copy for evaluation: norms folded into convolutions, branches that are not asked removed.

    Args:
        nms: True or False for the branch that needs NMS or the one that does not; "auto" for the one without it where
            the head has one (YOLOv10, YOLO26). Ultralytics itself asks the one with NMS unless it is told otherwise.
    """
    with quiet():
        copied = copy.deepcopy(model).eval()
        head = copied.model[-1]
        head.end2end = _uses_nms_free_head(head, nms)
        head.max_det = max_det
        return copied.fuse(verbose=False)


def is_end_to_end(model: nn.Module) -> bool:
    """Whether the head needs no NMS."""
    return bool(model.model[-1].end2end)


def _features(model: nn.Module, images: Tensor) -> list[Tensor]:
    """What the head is given: (B, C, h, w) of each level, the finest first."""
    *layers, head = model.model
    kept: list[Tensor | None] = []
    x = images
    for layer in layers:
        if layer.f != -1:
            x = kept[layer.f] if isinstance(layer.f, int) else [x if j == -1 else kept[j] for j in layer.f]
        x = layer(x)
        kept.append(x if layer.i in model.save else None)
    return [x if j == -1 else kept[j] for j in head.f]


class Rows(nn.Module):
    """A network in training mode, whose outputs come in rows: what it says of an anchor lies together in memory.

    The network's own forward pass gives the same values as (B, channels, A). In a channels-last network it transposes
    each level for that, the loss transposes them back, and the gradients go the same ways.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Run the network.

        Args:
            images: (B, 3, H, W) float, RGB, 0..1.

        Returns:
            `boxes` (B, A, 4 * bins) and `scores` (B, A, classes), logits; of an end-to-end head a dict of them for each
            branch, `one2many` and `one2one`. Anchors go level by level, the finest first, each row by row.
        """
        head: Detect = self.model.model[-1]
        features = _features(self.model, images)
        many = _rows(features, **head.one2many)
        if getattr(head, "one2one_cv2", None) is None:
            return many
        # the branch without NMS learns from what the other one makes of the backbone
        return {"one2many": many, "one2one": _rows([f.detach() for f in features], **head.one2one)}


def _rows(features: list[Tensor], box_head: nn.ModuleList, cls_head: nn.ModuleList) -> dict[str, Tensor]:
    def joined(head: nn.ModuleList) -> Tensor:
        return torch.cat([m(f).permute(0, 2, 3, 1).flatten(1, 2) for m, f in zip(head, features, strict=True)], 1)

    return {"boxes": joined(box_head), "scores": joined(cls_head)}


def predict(model: nn.Module, images: Tensor, autocast: contextlib.AbstractContextManager) -> Tensor:
    """Run a network from `inference_copy`. The boxes are decoded in float32, whatever the network ran in.

    Args:
        images: (B, 3, H, W) float, RGB, 0..1.

    Returns:
        End to end: (B, D, 6) float32 with xyxy in pixels, score, class; otherwise (B, A, 4 + classes) float32 with
        xyxy in pixels and a score for each class, before NMS.
    """
    head: Detect = model.model[-1]
    with autocast:
        branch = head.one2one if head.end2end else head.one2many
        raw = head.forward_head(_features(model, images), **branch)
    decoded = head._inference(float32_outputs(raw)).permute(0, 2, 1)
    if head.end2end:
        return head.postprocess(decoded)
    center, half = decoded[..., :2], decoded[..., 2:4] / 2
    return torch.cat((center - half, center + half, decoded[..., 4:]), -1)


def parameter_count(model: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in model.parameters())
