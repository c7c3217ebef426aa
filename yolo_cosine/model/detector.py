"""The network: built, loaded, run and exported. The one file that knows Ultralytics' modules.

Nothing here may import torchvision: Ultralytics' validator and predictor do, its models, losses and loaders do not.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import ultralytics
from torch import Tensor, nn
from ultralytics.nn import tasks
from ultralytics.nn.modules import Detect
from ultralytics.utils import DEFAULT_CFG_DICT, LOGGER
from ultralytics.utils.loss import E2ELoss

from yolo_cosine.config.schema import ModelConfig
from yolo_cosine.errors import UserError

# Heads that are subclasses of Detect but predict something else as well.
_BOX_HEADS = {"Detect", "v10Detect"}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
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
        with _quiet():
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


def stride(model: nn.Module) -> int:
    """The network's largest stride, pixels."""
    return int(model.stride.max())


@dataclass(frozen=True)
class Transfer:
    """What came of loading weights into a network."""

    source: str
    loaded: int  # tensors taken over
    total: int
    fresh: tuple[str, ...]  # tensors that start anew

    def __str__(self) -> str:
        text = f"weights: {self.loaded} of {self.total} tensors taken over from {self.source}"
        if self.fresh:
            layers = list(dict.fromkeys(".".join(name.split(".")[:3]) for name in self.fresh))
            more = f" and {len(layers) - 4} more" if len(layers) > 4 else ""
            text += f"; {len(self.fresh)} start anew, in {', '.join(layers[:4])}{more}"
        return text


def read_checkpoint(path: str, trust: bool = False) -> tuple[nn.Module, int | None]:
    """The network of an Ultralytics checkpoint, float32, its EMA where it has one; and the image size of its training.

    Args:
        path: a local .pt file, or the name of an official checkpoint, which Ultralytics downloads.
        trust: unpickle without restrictions where the safe loader refuses.

    Raises:
        UserError: if there is no such file, or it is no checkpoint, or not one that is safe to load.
    """
    if not path.endswith(".pt"):
        raise UserError(f"weights: {path!r} is no .pt file; name an Ultralytics checkpoint such as yolo11n.pt")
    if not Path(path).exists() and Path(path).name != path:
        raise UserError(f"weights: {path}: there is no such file")
    if Path(path).exists():
        _check_file(Path(path))
    try:
        with _quiet():
            checkpoint, _ = tasks.torch_safe_load(path, safe_only=not trust)
    except Exception as error:
        if isinstance(error, TypeError) and "references types outside" in str(error):
            raise UserError(
                f"weights: {path} holds objects that Ultralytics' safe loader does not know, and loading it could run "
                "any code; if you trust where it comes from, write trust_weights: true"
            ) from None
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"weights: {path} cannot be loaded: {reason}") from None
    model = (checkpoint.get("ema") or checkpoint.get("model")) if isinstance(checkpoint, dict) else None
    if not isinstance(model, nn.Module):
        raise UserError(f"weights: {path} holds no network; name an Ultralytics checkpoint such as yolo11n.pt")
    size = (checkpoint.get("train_args") or {}).get("imgsz")
    return model.float(), size if isinstance(size, int) else None


def _check_file(path: Path) -> None:
    """Refuse what is neither a zip archive, as PyTorch writes it, nor a bare pickle, as it once did."""
    try:
        with open(path, "rb") as file:
            if zipfile.is_zipfile(file) or (file.seek(0) == 0 and file.read(1) == b"\x80"):
                return
    except OSError as error:
        raise UserError(f"weights: {path} cannot be read: {error.strerror}; name a .pt file") from None
    raise UserError(f"weights: {path} cannot be loaded: it is no PyTorch file, or cut short; get it again")


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


def load_weights(model: nn.Module, config: ModelConfig) -> Transfer | None:
    """Start `model` from `config.weights`, if any; classes of the same name keep their outputs.

    Raises:
        UserError: if the weights cannot be read or nothing of them fits.
    """
    if config.weights is None:
        return None
    source, _ = read_checkpoint(config.weights, config.trust_weights)
    given = {name: value.clone() for name, value in source.state_dict().items()}
    known = {str(name).strip().lower() for name in getattr(source, "names", {}).values()}
    some_classes_known = any(name.strip().lower() in known for name in model.names.values())
    with _quiet():
        model.load(source, verbose=False)
    after = model.state_dict()
    fresh = tuple(name for name, value in after.items() if not _taken_over(given.get(name), value, some_classes_known))
    transfer = Transfer(config.weights, len(after) - len(fresh), len(after), fresh)
    if transfer.loaded == 0:
        raise UserError(f"weights: nothing of {config.weights} fits model {config.model}; choose the same architecture")
    return transfer


def _taken_over(given: Tensor | None, value: Tensor, some_classes_known: bool) -> bool:
    """Whether a tensor is the checkpoint's, or holds those of its rows that belong to classes of the same name."""
    if given is None or given.shape[1:] != value.shape[1:]:
        return False
    return bool(given.shape == value.shape and torch.equal(given, value)) or (some_classes_known and value.ndim > 0)


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


class _IgnoringBCE(nn.Module):
    """Binary cross entropy without the terms of the anchors in `ignore`, unless an anchor has a target of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.ignore: Tensor | None = None  # (B, A) bool

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        loss = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        if self.ignore is None:
            return loss
        dropped = self.ignore & (target.sum(-1) == 0)
        return loss.masked_fill(dropped.unsqueeze(-1), 0.0)


class DetectionLoss:
    """Ultralytics' own loss for a network (the end-to-end one too), with ignore regions, in float32.

    An anchor whose centre lies in a crowd region and that has no object of its own adds nothing to the class loss: what
    the network says there can be neither right nor wrong. (Ultralytics, YOLOv5 and YOLOX train it as background.)
    """

    def __init__(self, model: nn.Module, *, box: float, cls: float, dfl: float, epochs: int):
        model.args = SimpleNamespace(box=box, cls=cls, dfl=dfl, epochs=epochs)
        self._criterion = model.init_criterion()
        self._parts = (
            [self._criterion.one2many, self._criterion.one2one]
            if isinstance(self._criterion, E2ELoss)
            else [self._criterion]
        )
        for part in self._parts:
            part.bce = _IgnoringBCE()
        self._strides = [float(s) for s in model.stride]
        self.names = tuple(self._parts[0].loss_names)

    def start_epoch(self, epoch: int) -> None:
        """Set the balance of an end-to-end head's two branches, which is a function of the epoch."""
        if isinstance(self._criterion, E2ELoss):
            self._criterion.updates = epoch - 1
            self._criterion.update()

    def __call__(
        self, outputs: Mapping[str, Any], size: tuple[int, int], image_of_box: Tensor, classes: Tensor, boxes: Tensor,
        image_of_crowd: Tensor, crowds: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Loss of a batch.

        Args:
            outputs: what the network returned in training mode.
            size: height and width of the images, pixels.
            image_of_box: (K,) int64, ascending. classes: (K,) int64. boxes: (K, 4) float32 xyxy, pixels.
            image_of_crowd: (C,) int64. crowds: (C, 4) float32 xyxy, pixels.

        Returns:
            The sum to differentiate (a scalar, proportional to the batch size), and (3,) float32 items per image,
            detached, named by `names`.
        """
        height, width = size
        scale = boxes.new_tensor([width, height, width, height])
        xywh = torch.cat(((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]), 1) / scale
        target = {"batch_idx": image_of_box.float(), "cls": classes.float(), "bboxes": xywh}
        outputs = _float32(outputs)
        ignore = self._ignored(size, _batch_size(outputs), image_of_crowd, crowds) if len(crowds) else None
        for part in self._parts:
            part.bce.ignore = ignore
        loss, items = self._criterion(outputs, target)
        return loss.sum(), torch.stack([items[name] for name in self.names])

    def _ignored(self, size: tuple[int, int], batch: int, image_of_crowd: Tensor, crowds: Tensor) -> Tensor:
        """(B, A) bool: anchors whose centre is in a crowd region of their image."""
        centers = torch.cat([_anchor_centers(size, s, crowds.device) for s in self._strides])  # (A, 2)
        inside = (centers[None] >= crowds[:, None, :2]).all(-1) & (centers[None] <= crowds[:, None, 2:]).all(-1)
        ignore = torch.zeros(batch, len(centers), dtype=torch.uint8, device=crowds.device)
        return ignore.index_add_(0, image_of_crowd, inside.to(torch.uint8)).bool()


def _anchor_centers(size: tuple[int, int], stride: float, device: torch.device) -> Tensor:
    """(A, 2) float32: x and y of the cell centres of one level, pixels, row by row."""
    rows, columns = round(size[0] / stride), round(size[1] / stride)
    y = (torch.arange(rows, device=device) + 0.5) * stride
    x = (torch.arange(columns, device=device) + 0.5) * stride
    return torch.stack((x.repeat(rows), y.repeat_interleave(columns)), 1)


def _float32(outputs: Any) -> Any:
    # The loss assigns boxes to anchors by overlaps; in bf16 a coordinate of 300 px is off by up to a pixel.
    if isinstance(outputs, Tensor):
        return outputs.float()
    if isinstance(outputs, Mapping):
        return {k: _shapes(v) if k == "feats" else _float32(v) for k, v in outputs.items()}
    return outputs


def _shapes(features: list[Tensor]) -> list[Tensor]:
    """Stand-ins of the same shapes, in float32 and without memory of their own.

    Anchors are made from the features' shapes, but in their dtype, and in bf16 the centre of cell 128 is off by half a
    cell.
    """
    return [f.new_empty(1, dtype=torch.float32).expand(f.shape) for f in features]


def _batch_size(outputs: Mapping[str, Any]) -> int:
    return len(outputs["one2many"]["boxes"] if "one2many" in outputs else outputs["boxes"])


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
    with _quiet():
        copied = copy.deepcopy(model).eval()
        head = copied.model[-1]
        head.end2end = _uses_nms_free_head(head, nms)
        head.max_det = max_det
        return copied.fuse(verbose=False)


def is_end_to_end(model: nn.Module) -> bool:
    """Whether the head needs no NMS."""
    return bool(model.model[-1].end2end)


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
        kept: list[Tensor | None] = []
        x = images
        for layer in model.model[:-1]:
            if layer.f != -1:
                x = kept[layer.f] if isinstance(layer.f, int) else [x if j == -1 else kept[j] for j in layer.f]
            x = layer(x)
            kept.append(x if layer.i in model.save else None)
        features = [x if j == -1 else kept[j] for j in head.f]
        branch = head.one2one if head.end2end else head.one2many
        raw = head.forward_head(features, **branch)
    decoded = head._inference(_float32(raw)).permute(0, 2, 1)
    if head.end2end:
        return head.postprocess(decoded)
    center, half = decoded[..., :2], decoded[..., 2:4] / 2
    return torch.cat((center - half, center + half, decoded[..., 4:]), -1)


def parameter_count(model: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in model.parameters())


def export_ultralytics(
    model: nn.Module, train_args: Mapping[str, Any], results: Mapping[str, float], epoch: int
) -> bytes:
    """An Ultralytics checkpoint of `model`, float32, that opens in `ultralytics.YOLO(...)`.

    Args:
        model: the averaged weights.
        train_args: what Ultralytics calls train_args; keys that it does not know are left out.
        results: metrics of these weights.
        epoch: 0-based.
    """
    network = copy.deepcopy(model).cpu().float().eval().to(memory_format=torch.contiguous_format)
    network.criterion = None
    network.args = {**DEFAULT_CFG_DICT, **{k: v for k, v in train_args.items() if k in DEFAULT_CFG_DICT}}
    for parameter in network.parameters():
        parameter.requires_grad = False
    buffer = io.BytesIO()
    torch.save(
        {
            "epoch": epoch,
            "best_fitness": None,
            "model": network,
            "ema": None,
            "updates": None,
            "optimizer": None,
            "train_args": network.args,
            "train_metrics": dict(results),
            "train_results": {},
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "version": ultralytics.__version__,
            "license": "AGPL-3.0 (https://ultralytics.com/license)",
        },
        buffer,
    )
    return buffer.getvalue()
