"""Batches for training and evaluation, made ahead by threads."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from yolo_cosine.config.schema import AugmentConfig
from yolo_cosine.data.augment import GREY, Boxes, augment_image
from yolo_cosine.data.cache import ImageStore, fitted_size
from yolo_cosine.data.host_augment import augment_batch, can_augment
from yolo_cosine.data.index import Index, TrainableBoxes
from yolo_cosine.data.parcel import may_wait
from yolo_cosine.data.sampler import AugmentParams, augment_params, batch_sizes, epoch_draws, epoch_order
from yolo_cosine.data.shared_batches import Arrays, SharedBatches
from yolo_cosine.data.targets import Targets, pad_targets
from yolo_cosine.data.workers import TIMEOUT, ahead, say_nothing
from yolo_cosine.errors import some_of

if TYPE_CHECKING:
    from yolo_cosine.data.feeder import Feeder, Packed


@dataclass(frozen=True, eq=False)
class TrainBatch:
    """B augmented images with what is on them."""

    indices: np.ndarray  # (B,) int64, the images of the index whose turn it is (the first tile of each mosaic)
    images: torch.Tensor  # (B, 3, S, S) uint8 RGB, channels last in memory
    targets: Targets  # in pixels of what the network sees
    size: int  # side at which the network sees the images, pixels: S, unless `multi_scale` has it resized

    def to(self, device: torch.device) -> TrainBatch:
        """The same batch on a device; the copies do not wait for each other."""
        return replace(self, images=self.images.to(device, non_blocking=True), targets=self.targets.to(device))

    def inputs(self) -> torch.Tensor:
        """What the network sees: (B, 3, size, size) float32 in 0..1, channels last in memory."""
        images = network_inputs(self.images)
        if self.size == images.shape[-1]:
            return images
        return F.interpolate(images, size=(self.size, self.size), mode="bilinear", align_corners=False)

    def parts(self, count: int) -> list[TrainBatch]:
        """The batch in `count` parts of (nearly) the same number of images, fewer where it has fewer; 1: the batch itself."""
        if count == 1:
            return [self]
        size = -(-len(self.images) // count)
        some = (slice(start, start + size) for start in range(0, len(self.images), size))
        return [TrainBatch(self.indices[k], self.images[k], self.targets[k], self.size) for k in some]


@dataclass(frozen=True, eq=False)
class EvalBatch:
    """B letterboxed images of one shape."""

    indices: np.ndarray  # (B,) int64, the images of the index
    images: torch.Tensor  # (B, 3, H, W) uint8 RGB, channels last in memory
    gain: np.ndarray  # (B, 2) float64, network pixels in an image pixel, x and y
    pad: np.ndarray  # (B, 2) int64, left and top padding, pixels


def network_inputs(images: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) float32 in 0..1, channels last in memory, of uint8 images."""
    return images.float().div_(255).contiguous(memory_format=torch.channels_last)


class TrainLoader:
    """The training batches of every epoch. With several ranks each gets its share of every global batch.

    Each image of the index has its turn once an epoch. One that cannot be read hands it on to the next that can, so the
    number of steps, and what they are trained on, do not depend on when that is found out.

    `tell` is told of threads that hang and are replaced; whoever wants to know sets it.
    """

    def __init__(
        self, store: ImageStore, labels: TrainableBoxes, augment: AugmentConfig, *, batch: int, seed: int, workers: int,
        rank: int = 0, ranks: int = 1, timeout: float = TIMEOUT, stride: int = 32, feeder: Feeder | None = None,
        between: int = 0,
    ):  # fmt: skip
        """
        Args:
            between: threads that make each batch when it is asked for; 0 has `workers` threads make batches ahead. Where the
                network runs on the CPU there is no time beside it: its threads wait for the one whose core is taken.
            feeder: what augments the images on the device that trains; None for the CPU, by a kernel that is compiled here or,
                where that cannot be, by OpenCV.
            timeout: seconds that a thread may be at one batch.
            stride: of the sizes that `multi_scale` chooses, pixels.
        """
        self.store, self.labels, self.augment = store, labels, augment
        self.batch, self.seed, self.workers, self.rank, self.ranks = batch, seed, max(workers, 1), rank, ranks
        self.timeout, self.stride, self.feeder, self.between = timeout, stride, feeder, between
        self.tell: Callable[[str], None] = say_nothing
        self.shared: SharedBatches | None = None  # with other processes, whoever has some
        self.kernel = feeder is None and can_augment()  # whether the CPU makes the images by a kernel of our own

    def __len__(self) -> int:
        """Batches in an epoch; the last one may be smaller, but not so small that a rank would get nothing of it."""
        whole, rest = divmod(len(self.store.index), self.batch)
        return whole + (rest >= self.ranks)

    def left_out(self) -> str | None:
        """What every epoch goes without because it is less than an image for each rank, in words; None if nothing."""
        index, rest = self.store.index, len(self.store.index) - len(self) * self.batch
        if rest <= 0:
            return None
        return (
            f"{index.source}: {len(index)} images in batches of {self.batch} leave {rest} for the last one, fewer than the "
            f"{self.ranks} processes: each epoch goes without the last {rest} of its order; a batch of another size may fit"
        )

    def images_in(self, number: int) -> int:
        """Images in this batch of an epoch, over all ranks."""
        return min(self.batch, len(self.store.index) - number * self.batch)

    def epoch(self, epoch: int, mosaic: bool = True, first: int = 0) -> Iterator[TrainBatch]:
        """The batches of an epoch in order, from number `first` on.

        Raises:
            TrainingFailed: if a batch cannot be made.
            UserError: if not one image can be read.
        """
        order = epoch_order(self.seed, epoch, len(self.store.index))
        draws = epoch_draws(self.seed, epoch, len(self.store.index), mixing=self.augment.mixes and mosaic)
        sizes = batch_sizes(self.seed, epoch, len(self), self.store.size, self.augment.multi_scale, self.stride)

        def sample(start: int) -> tuple[np.ndarray, AugmentParams]:
            mine = order[start : start + self.batch][self.rank :: self.ranks]
            return mine, augment_params(mine, draws, self.store.size, self.augment, mosaic)

        def make(start: int) -> TrainBatch | Packed:
            (mine, params), size = sample(start), int(sizes[start // self.batch])
            if self.feeder is not None:
                return self.feeder.pack(mine, params, size)

            def augmented() -> Arrays:
                if self.kernel:
                    return augment_batch(self.store, self.labels, params, max(self.between, 1))

                def some(images: range) -> list[tuple[np.ndarray, Boxes]]:
                    return [augment_image(self.store, self.labels, params, k) for k in images]

                if not self.between:
                    return _collate(some(range(len(mine))))
                parts = [range(k, len(mine), self.between) for k in range(min(self.between, len(mine)))]
                named = {"describe": lambda part: describe(start), "timeout": self.timeout, "tell": self.tell}
                made = list(ahead(some, parts, self.between, **named))
                return _collate([made[k % len(parts)][k // len(parts)] for k in range(len(mine))])

            key = f"{epoch}-{start}-{mosaic:d}"
            arrays = augmented() if self.shared is None else self.shared.get(key, augmented)
            return _train_batch(mine, arrays, size)

        def describe(start: int) -> str:
            return _named(self.store.index, sample(start)[1].images())

        jobs = range(first * self.batch, len(self) * self.batch, self.batch)
        if self.between and self.feeder is None:
            for start in jobs:
                if self.kernel and self.store.mapped:
                    read = {"describe": describe, "timeout": self.timeout, "tell": self.tell}
                    list(ahead(lambda start: self._read(sample(start)[1]), [start], 1, **read))
                yield make(start)
            return
        workers, waiting = self.workers, None
        if self.feeder is not None:
            workers = self.feeder.threads(workers)
            rows = -(-self.batch // self.ranks) * (2 if self.augment.mixes and mosaic else 1)
            waiting = self.feeder.waiting(workers, rows)
        made = ahead(make, jobs, workers, describe=describe, timeout=self.timeout, tell=self.tell, waiting=waiting)
        yield from made if self.feeder is None else self.feeder.feed(made)

    def _read(self, params: AugmentParams) -> None:
        """Have the photographs of a batch in memory: a thread that waits for a disk can be given up, a kernel cannot."""
        for i in np.unique(params.images()).tolist():
            self.store.readable(i)[1].reshape(-1)[:: mmap.PAGESIZE].max(initial=0)


def _named(index: Index, images: Iterable[int]) -> str:
    """The images of a batch in words: each once, as any of them may be the one that matters."""
    return f"images {some_of(list(dict.fromkeys(index.files[i] for i in images)), most=64)} (folder {index.root})"


def _collate(pairs: list[tuple[np.ndarray, Boxes]]) -> Arrays:
    """What is in a batch: images (B, S, S, 3) uint8, and of all boxes image, corners, class and whether it is a crowd."""
    parts = {
        name: np.concatenate([getattr(boxes, name) for _, boxes in pairs])
        for name in ("image", "xyxy", "classes", "crowd")
    }
    return {"images": np.stack([image for image, _ in pairs]), **parts}


def _train_batch(indices: np.ndarray, arrays: Arrays, size: int) -> TrainBatch:
    boxes = Boxes(*(arrays[name] for name in ("image", "xyxy", "classes", "crowd")))
    images = torch.from_numpy(arrays["images"]).permute(0, 3, 1, 2)
    return TrainBatch(indices, images, padded(len(indices), boxes, size / images.shape[-1]), size)


def padded(images: int, boxes: Boxes, ratio: float) -> Targets:
    """The boxes of a batch of so many images, with the lengths multiplied by `ratio`."""
    crowd, xyxy = boxes.crowd, boxes.xyxy if ratio == 1 else boxes.xyxy * np.float32(ratio)
    owner = boxes.image
    return pad_targets(images, owner[~crowd], boxes.classes[~crowd], xyxy[~crowd], owner[crowd], xyxy[crowd])


def eval_batches(
    store: ImageStore, *, batch: int, stride: int, workers: int, images: np.ndarray | None = None,
    timeout: float = TIMEOUT, tell: Callable[[str], None] = say_nothing, pinned: bool = False,
) -> Iterator[EvalBatch]:  # fmt: skip
    """All images once, letterboxed and grouped by shape so that little padding is computed on.

    Args:
        batch: most images in a batch.
        stride: the network's largest stride; heights and widths are multiples of it.
        images: (K,) int64, only these images.
        timeout: seconds that a thread may be at one batch.
        tell: told of threads that were at one for longer and are replaced.
        pinned: as for `Parcel`.

    Raises:
        TrainingFailed: if a batch cannot be made.
    """
    images = np.arange(len(store.index)) if images is None else images
    shapes = {int(i): _padded_shape(store.index.sizes[i], store.size, stride) for i in images}
    ordered = sorted(shapes, key=lambda i: (shapes[i], i))
    chunks, start = [], 0
    for k in range(1, len(ordered) + 1):
        if k == len(ordered) or k - start == batch or shapes[ordered[k]] != shapes[ordered[start]]:
            chunks.append((ordered[start:k], shapes[ordered[start]]))
            start = k
    yield from ahead(
        lambda chunk: _letterbox(store, *chunk, pinned), chunks, workers,
        describe=lambda chunk: _named(store.index, chunk[0]), timeout=timeout, tell=tell,
        waiting=may_wait(workers, batch * 3 * store.size**2) if pinned else None,
    )  # fmt: skip


def _padded_shape(size: np.ndarray, side: int, stride: int) -> tuple[int, int]:
    width, height = fitted_size(*(int(v) for v in np.maximum(size, 1)), side)
    return -(-height // stride) * stride, -(-width // stride) * stride


def _letterbox(store: ImageStore, indices: list[int], shape: tuple[int, int], pinned: bool) -> EvalBatch:
    """Centre each image on grey. One whose size is not the annotated one is fitted into the same shape."""
    memory = torch.empty(len(indices), *shape, 3, dtype=torch.uint8, pin_memory=pinned)
    images = memory.numpy()
    images.fill(GREY)
    gain, pad = np.empty((len(indices), 2)), np.empty((len(indices), 2), dtype=np.int64)
    for k, i in enumerate(indices):
        image = store[i]
        if image.shape[0] > shape[0] or image.shape[1] > shape[1]:
            image = _shrink(image, shape)
        h, w = image.shape[:2]
        pad[k] = (shape[1] - w) // 2, (shape[0] - h) // 2
        gain[k] = (w, h) / np.maximum(store.index.sizes[i], 1)
        images[k, pad[k, 1] : pad[k, 1] + h, pad[k, 0] : pad[k, 0] + w] = image
    return EvalBatch(np.array(indices), memory.permute(0, 3, 1, 2), gain, pad)


def _shrink(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    ratio = min(shape[0] / image.shape[0], shape[1] / image.shape[1])
    return cv2.resize(image, (max(int(image.shape[1] * ratio), 1), max(int(image.shape[0] * ratio), 1)))
