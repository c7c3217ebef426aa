"""Ultralytics' checkpoints: what a network starts from, and what a run leaves behind."""

from __future__ import annotations

import copy
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
import ultralytics
from torch import Tensor, nn
from ultralytics.nn import tasks
from ultralytics.utils import DEFAULT_CFG_DICT

from yolo_cosine.config.schema import ModelConfig
from yolo_cosine.errors import UserError, some_of
from yolo_cosine.model.detector import quiet


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
            text += f"; {len(self.fresh)} start anew, in {some_of(layers, most=4)}"
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
        with quiet():
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
    with quiet():
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


def export_ultralytics(
    model: nn.Module, train_args: Mapping[str, Any], results: Mapping[str, float], epoch: int,
    weights: Mapping[str, Tensor] | None = None,
) -> bytes:  # fmt: skip
    """An Ultralytics checkpoint of `model`, float32, that opens in `ultralytics.YOLO(...)`.

    Args:
        model: the averaged weights.
        train_args: what Ultralytics calls train_args; keys that it does not know are left out.
        results: metrics of these weights.
        epoch: 0-based.
        weights: a state dict to take in place of the model's own.
    """
    network = copy.deepcopy(model)
    if weights is not None:
        network.load_state_dict(weights)
    network = network.cpu().float().eval().to(memory_format=torch.contiguous_format)
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
