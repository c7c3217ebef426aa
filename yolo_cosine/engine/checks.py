"""What a configuration, its data and its network must be like together: told before anything that takes long."""

from __future__ import annotations

from torch import nn

from yolo_cosine.config.schema import RunConfig
from yolo_cosine.data.index import Index, TrainableBoxes, trainable_boxes
from yolo_cosine.errors import UserError
from yolo_cosine.model import detector


def check_boxes(train: Index, val: Index, labels: TrainableBoxes) -> None:
    """Refuse data with nothing to learn or to evaluate by.

    Args:
        labels: of `train`.

    Raises:
        UserError: with the remedy, as everything here.
    """
    if not len(labels.classes) or labels.crowd.all():
        raise UserError(f"{train.source}: has no box to train on; annotate some images, or name another split")
    if trainable_boxes(val).crowd.all():  # also where there is none
        raise UserError(f"{val.source}: has no box to evaluate by, so no mAP; name a split with objects as val")


def check_network(config: RunConfig, model: nn.Module) -> None:
    """Refuse a size of images that the network cannot take, and an NMS that it cannot do without."""
    stride = detector.stride(model)
    if config.imgsz % stride:
        near = max(round(config.imgsz / stride), 1) * stride
        raise UserError(f"imgsz: {config.imgsz} is no multiple of the stride {stride} of {config.model}; write {near}")
    detector.check_nms(model, config.nms)


def check_smallest(config: RunConfig, stride: int, images: int) -> None:
    """Refuse a last batch of one image whose features may come down to one pixel: the norms could not train on it."""
    smallest = int(config.imgsz * (1 - config.multi_scale))
    if smallest >= 2 * stride or 1 not in (config.batch, images % config.batch):
        return
    at, remedy = f"{config.imgsz}", f"write imgsz: {2 * stride}"
    if config.multi_scale:
        at += f" with multi_scale: {config.multi_scale}"
        remedy = f"choose them so that no size is below {2 * stride}"
    raise UserError(
        f"imgsz: at {at} the coarsest features are one pixel, and a batch of one image leaves the norms nothing to "
        f"normalise over; {remedy}, or a batch that {images} images fill"
    )
