"""The largest batch that a GPU has memory for."""

from __future__ import annotations

import gc
from collections.abc import Callable

import numpy as np
import torch

from yolo_cosine.config.load import check_together
from yolo_cosine.config.schema import AUTO_BATCH_SHARE, RunConfig
from yolo_cosine.data.cache import decoded_bytes
from yolo_cosine.data.dataset import open_dataset
from yolo_cosine.data.feeder import device_memory
from yolo_cosine.data.index import TrainableBoxes, trainable_boxes
from yolo_cosine.data.loader import TrainBatch
from yolo_cosine.data.places import images_folder
from yolo_cosine.data.resident import room_on
from yolo_cosine.data.targets import Targets
from yolo_cosine.engine.build import seed_everything
from yolo_cosine.engine.checks import check_boxes, check_network
from yolo_cosine.engine.distributed import World
from yolo_cosine.engine.learner import Learner
from yolo_cosine.engine.mishaps import is_out_of_memory
from yolo_cosine.engine.optim import build_optimizer
from yolo_cosine.engine.precision import Precision
from yolo_cosine.errors import UserError
from yolo_cosine.model import detector
from yolo_cosine.model.ema import Ema
from yolo_cosine.model.loss import DetectionLoss

_STEP = 8  # batches are multiples of it, where they are larger
_TRIES = 3  # steps of each batch


def with_known_batch(config: RunConfig, precision: Precision, processes: int) -> tuple[RunConfig, str | None]:
    """The configuration with a number for `batch`, and what was found, in words; as it is if it has one.

    Raises:
        UserError: if there is no GPU, or several processes would have to agree, or not one image fits; or if data and
            network cannot be trained together at all.
    """
    if isinstance(config.batch, int):
        return config, None
    if precision.device.type != "cuda":
        raise UserError(
            f"batch: {config.batch} asks how much memory a GPU has, and the device is {precision.device.type}; write a number"
        )
    if processes > 1:
        raise UserError(f"batch: {config.batch} is for one process; write the number of images over all {processes}")
    share = AUTO_BATCH_SHARE if config.batch == "auto" else float(config.batch.rstrip("%")) / 100
    data = open_dataset(config.data, folder=images_folder(config))
    train, device = data.splits["train"], precision.device
    labels = trainable_boxes(train)
    check_boxes(train, data.splits["val"], labels)
    check_network(config, detector.build_detector(config.model, data.names))
    boxes = most_boxes(labels, config)
    # before the trials: other kernels need another memory, and cuBLAS is to be told before it begins
    seed_everything(config.seed, config.deterministic)
    free, total = torch.cuda.mem_get_info(device)
    resident = decoded_bytes(train, config.imgsz)
    resident = resident if resident <= room_on(device) else 0  # they will live there, too
    room = int(share * total) - (total - free) - resident
    used: dict[int, int] = {}

    def fits(batch: int) -> bool:
        used[batch] = memory_of_steps(config.model_copy(update={"batch": batch}), data.names, boxes, precision)
        used[batch] += device_memory(batch * (2 if config.mixes else 1), config.imgsz, resident > 0, device)
        return used[batch] <= room

    batch = largest(fits, len(train))
    if batch == 0:
        raise UserError(
            f"batch: {config.batch}: one image of {config.imgsz} px needs more than {room / 1e9:.3g} GB of the GPU; write a "
            "smaller imgsz or a smaller model"
        )
    found = config.model_copy(update={"batch": batch})
    check_together(found)
    need = (used[batch] + resident) / 1e9
    return found, (
        f"batch: {config.batch} is {batch} images: a step with them needs {need:.3g} of the GPU's {total / 1e9:.3g} GB "
        f"(tried: {', '.join(map(str, sorted(used)))}); nominal_batch stays {config.nominal_batch}"
    )


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest batch up to `most` that fits: any up to 8, and multiples of 8 from there on; 0 if none does.

    Args:
        fits: asked few times, for it is slow; what fits, fits in smaller numbers, too.
    """
    low, high = 0, 1  # `low` fits, and `high` is the next to ask
    while high <= most and fits(high):
        low, high = high, 2 * high
    ceiling = min(high, most + 1)  # does not fit, or is not there
    while ceiling - low > 1:
        middle = (low + ceiling) // 2
        if low >= _STEP:
            middle = max(middle // _STEP * _STEP, low // _STEP * _STEP + _STEP)
            if middle >= ceiling:
                break
        if fits(middle):
            low = middle
        else:
            ceiling = middle
    return low


def most_boxes(labels: TrainableBoxes, config: RunConfig) -> int:
    """About as many boxes as an image of a batch may show: those of the fullest one and, where it is made of several, of others
    that are fuller than 99 in a hundred."""
    images = np.arange(len(labels.offsets) - 1)
    counts = np.bincount(images.repeat(np.diff(labels.offsets))[~labels.crowd], minlength=len(images))
    others = (4 if config.mosaic else 1) * (2 if config.mixes else 1) - 1
    return int(counts.max() + np.ceil(others * np.quantile(counts, 0.99)))


def memory_of_steps(config: RunConfig, names: tuple[str, ...], boxes: int, precision: Precision) -> int:
    """Bytes that a GPU's allocator holds at most in some updates with batches of `config.batch` made up images.

    More than there are if memory ran out.

    Args:
        boxes: of an image.
    """
    device = precision.device
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    try:
        _train(config, names, boxes, precision)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return 1 << 62
    finally:
        held = torch.cuda.max_memory_reserved(device)
        gc.collect()
        torch.cuda.empty_cache()
    return held


def _train(config: RunConfig, names: tuple[str, ...], boxes: int, precision: Precision) -> None:
    """Take some steps with a network of `config` and made up images."""
    device, batch, size = precision.device, config.batch, config.imgsz
    model = detector.build_detector(config.model, names)
    detector.freeze(model, config.freeze)
    model = model.to(device, memory_format=torch.channels_last)
    detector.train_mode(model, config.freeze)
    learner = Learner(
        model=model,
        rows=detector.Rows(model),
        loss=DetectionLoss(model, box=config.box, cls=config.cls, dfl=config.dfl, epochs=config.epochs),
        ema=Ema(model, config.ema_decay, config.ema_tau),
        optimizer=build_optimizer(model, config)[0],
        precision=precision,
        world=World(),
        clip_norm=config.clip_norm,
    )
    images = torch.zeros(batch, 3, size, size, dtype=torch.uint8, device=device)
    made_up = TrainBatch(np.arange(batch), images, _targets(batch, boxes, size, device), size)
    for step in range(_TRIES):
        learner.take(made_up, step, accumulate=1, parts=1, images=batch)


def _targets(batch: int, boxes: int, size: int, device: torch.device) -> Targets:
    corner = torch.rand(batch, boxes, 2, device=device) * size / 2
    return Targets(
        boxes=torch.cat((corner, corner + size / 8), 2),
        classes=torch.zeros(batch, boxes, dtype=torch.int64, device=device),
        valid=torch.ones(batch, boxes, dtype=torch.bool, device=device),
        crowds=torch.zeros(batch, 0, 4, device=device),
        crowd_valid=torch.zeros(batch, 0, dtype=torch.bool, device=device),
    )
