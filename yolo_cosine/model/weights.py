"""Ultralytics' checkpoints: what a network starts from, and what a run leaves behind."""

from __future__ import annotations

import copy
import io
import os
import pickle
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
from ultralytics.utils import DEFAULT_CFG_DICT, SETTINGS
from ultralytics.utils.checks import check_yolov5u_filename
from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES

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

    @property
    def is_poor(self) -> bool:
        """Whether most starts anew, as where the checkpoint is of another architecture or scale."""
        return 2 * self.loaded < self.total

    def __str__(self) -> str:
        text = f"weights: {self.loaded} of {self.total} tensors taken over from {self.source}"
        if self.fresh:
            layers = list(dict.fromkeys(".".join(name.split(".")[:3]) for name in self.fresh))
            text += f"; {len(self.fresh)} start anew, in {some_of(layers, most=4)}"
        if self.is_poor:
            text += "; is the checkpoint of another architecture or scale than model?"
        return text


# What a file in the format before zip archives begins with: a pickle of PyTorch's magic number.
_LEGACY = pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol=2)
_DANGER = "loading it could run any code"


def read_checkpoint(path: str, trust: bool = False) -> tuple[nn.Module, int | None]:
    """The network of an Ultralytics checkpoint, float32, its EMA where it has one; and the image size of its training.

    Its `names` are a dictionary, of class numbers and names.

    Args:
        path: a local .pt file, or the name of an official checkpoint, which Ultralytics downloads.
        trust: unpickle without restrictions where the safe loader refuses.

    Raises:
        UserError: if there is no such file, or it is no checkpoint, or not one that is safe to load.
    """
    if not path.endswith(".pt"):
        raise UserError(f"weights: {path!r} is no .pt file; name an Ultralytics checkpoint such as yolo11n.pt")
    if os.path.exists(path):
        _check_file(Path(path))
        path = os.path.abspath(path)  # the loader deletes a bare name that it cannot read, to download it anew
    elif not _is_official(path):
        raise UserError(
            f"weights: {path}: there is no such file, and no checkpoint of Ultralytics' of this name; mend it"
        )
    checkpoint = _load(path, trust)
    model = (checkpoint.get("ema") or checkpoint.get("model")) if isinstance(checkpoint, dict) else None
    if not isinstance(model, nn.Module):
        raise UserError(f"weights: {path} holds no network; name an Ultralytics checkpoint such as yolo11n.pt")
    wrong = next((name for name, value in model.state_dict().items() if not torch.isfinite(value).all()), None)
    if wrong is not None:
        raise UserError(f"weights: {path} holds values that are no numbers, the first in {wrong}; take an earlier one")
    names = getattr(model, "names", None)
    if not isinstance(names, Mapping):
        model.names = dict(enumerate(names if isinstance(names, list | tuple) else ()))
    arguments = checkpoint.get("train_args")
    size = arguments.get("imgsz") if isinstance(arguments, Mapping) else None
    return model.float(), size if isinstance(size, int) else None


def _is_official(path: str) -> bool:
    """Whether Ultralytics has a checkpoint of this name, in its folder or to download."""
    name = check_yolov5u_filename(path, verbose=False)
    return name in GITHUB_ASSETS_NAMES or (
        Path(name).name == name and os.path.exists(Path(SETTINGS["weights_dir"], name))
    )


def _check_file(path: Path) -> None:
    """Refuse what PyTorch did not write, before anything of it is unpickled."""
    try:
        with open(path, "rb") as file:
            start = file.read(len(_LEGACY))
            parts = {name.rpartition("/")[2] for name in zipfile.ZipFile(file).namelist()}
    except zipfile.BadZipFile:
        parts = set()
    except OSError as error:
        raise UserError(f"weights: {path} cannot be read: {error.strerror}; name a .pt file") from None
    if "constants.pkl" in parts:
        reason = "it is a TorchScript archive, which cannot be trained; name the checkpoint that it was made from"
    elif "data.pkl" in parts or start == _LEGACY:
        return
    elif parts:
        reason = "it is a zip archive without PyTorch's data.pkl; get it again"
    elif start.startswith(b"\x80"):
        reason = (
            f"it is a pickle of something else, and {_DANGER}, with trust_weights: true too; get a PyTorch checkpoint"
        )
    else:
        reason = "it is no PyTorch file, or cut short; get it again"
    raise UserError(f"weights: {path} cannot be loaded: {reason}")


def _load(path: str, trust: bool) -> Any:
    try:
        with quiet():
            return tasks.torch_safe_load(path, safe_only=not trust)[0]
    except Exception as error:  # whatever unpickling what a stranger wrote comes to
        if _is_damaged(path):
            raise UserError(f"weights: {path} is damaged, its checksums do not hold; get it again") from None
        if isinstance(error, TypeError) and "references types outside" in str(error):
            raise UserError(
                f"weights: {path} holds objects that Ultralytics' safe loader does not know, and {_DANGER}; if you trust "
                "where it comes from, write trust_weights: true"
            ) from None
        if isinstance(error, AttributeError) and "'model'" in str(error):  # neither a dictionary nor a YOLO object
            raise UserError(
                f"weights: {path} holds no network; name an Ultralytics checkpoint such as yolo11n.pt"
            ) from None
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"weights: {path} cannot be loaded: {reason}; get it again, or name another") from None


def _is_damaged(path: str) -> bool:
    """Whether a part of a zip archive is not what was written; the older format has no checksums that would tell."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        return zipfile.ZipFile(path).testzip() is not None
    except zipfile.BadZipFile:
        return True


def load_weights(model: nn.Module, config: ModelConfig) -> Transfer | None:
    """Start `model` from `config.weights`, if any; classes of the same name keep their outputs.

    Raises:
        UserError: if the weights cannot be read or nothing of them fits.
    """
    if config.weights is None:
        return None
    source, _ = read_checkpoint(config.weights, config.trust_weights)
    given = {name: value.clone() for name, value in source.state_dict().items()}
    known = {str(name).strip().lower() for name in source.names.values()}
    some_classes_known = any(name.strip().lower() in known for name in model.names.values())
    rows = (len(source.names), len(model.names)) if some_classes_known else None
    with quiet():
        model.load(source, verbose=False)
    after = model.state_dict()
    fresh = tuple(name for name, value in after.items() if not _taken_over(given.get(name), value, rows))
    transfer = Transfer(config.weights, len(after) - len(fresh), len(after), fresh)
    if transfer.loaded == 0:
        raise UserError(f"weights: nothing of {config.weights} fits model {config.model}; choose the same architecture")
    return transfer


def _taken_over(given: Tensor | None, value: Tensor, rows: tuple[int, int] | None) -> bool:
    """Whether a tensor is the checkpoint's, or holds those of its rows that belong to classes of the same name.

    Args:
        rows: the numbers of classes, the checkpoint's and ours, where they share a name.
    """
    if given is None:
        return False
    if given.shape == value.shape and torch.equal(given, value):
        return True
    of_classes = value.ndim > 0 and given.ndim > 0 and (given.shape[0], value.shape[0]) == rows
    return of_classes and given.shape[1:] == value.shape[1:]


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
