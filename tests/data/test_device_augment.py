"""Tensors on a device, and a kernel on the CPU, come to the images and boxes that OpenCV and numpy come to, one image after another, on the CPU."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from yolo_cosine.config.schema import AugmentConfig
from yolo_cosine.data import device_augment
from yolo_cosine.data.augment import augment_image, warp_matrix
from yolo_cosine.data.device_augment import render
from yolo_cosine.data.feeder import Feeder
from yolo_cosine.data.host_augment import augment_batch, can_augment
from yolo_cosine.data.index import TrainableBoxes
from yolo_cosine.data.resident import make_resident
from yolo_cosine.data.sampler import augment_params, epoch_draws

SIZE, N = 64, 12
CPU = torch.device("cpu")
PLAIN = {"hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0}
MIXED = {"mixup": 0.6, "cutmix": 0.9}
needs_kernel = pytest.mark.skipif(not can_augment(), reason="no C compiler, or PyTorch has other threads")
WILD = {"degrees": 180.0, "shear": 20.0, "scale": 0.9, "translate": 0.5, "flipud": 0.5}


class Store(list):
    """Photographs of all shapes, some sharp and some soft; some stand in for others."""

    size, cached, bytes = SIZE, True, 0

    def __init__(self):
        self.stand_ins = {3: 4, 11: 0}
        rng = np.random.default_rng(0)
        for i in range(N):
            w, h = [(SIZE, 48), (SIZE, SIZE), (27, SIZE), (SIZE, 5)][i % 4]
            image = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
            self.append(cv2.GaussianBlur(image, (0, 0), 0.8 + i / 4))

    @property
    def index(self):
        return self

    def readable(self, i):
        k = self.stand_ins.get(i, i)
        return k, self[k]


def some_boxes():
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 9, N)
    first = rng.uniform(0, 0.8, (counts.sum(), 2))
    xyxy = np.concatenate((first, np.minimum(first + rng.uniform(0.01, 0.6, first.shape), 1)), 1)
    classes, crowd = rng.integers(0, 5, len(xyxy)), rng.random(len(xyxy)) < 0.2
    return TrainableBoxes(np.concatenate(([0], counts.cumsum())), xyxy.astype(np.float32), classes, crowd, ())


any_augmentation = given(
    epoch=st.integers(0, 10**6), perspective=st.sampled_from([0.0, 0.001]), mosaic=st.sampled_from([0.0, 0.5, 1.0]),
    more=st.sampled_from([{}, WILD, MIXED, {**WILD, **MIXED}]),
)  # fmt: skip

STORE, LABELS = Store(), some_boxes()
SENDING = Feeder(STORE, LABELS, CPU)
RESIDENT = Feeder(STORE, LABELS, CPU, make_resident(STORE, CPU, 10**9))


def sampled(config, epoch):
    return augment_params(np.arange(N), epoch_draws(3, epoch, N, config.mixes), SIZE, config)


def fed(feeder, params):
    (batch,) = feeder.feed(packed for packed in [feeder.pack(np.arange(N), params, SIZE)])
    return batch


def of_kernel(params, threads=2):
    return augment_batch(STORE, LABELS, params, threads)


KINDS = {
    "default": {},
    "alone": {"mosaic": 0.0},
    "plain": PLAIN,
    "wild": {"mosaic": 0.5, "perspective": 0.001, **WILD},
    "colourful": {"hsv_h": 1.0, "hsv_s": 1.0, "hsv_v": 1.0},
    "mixed": {**MIXED, "flipud": 0.5},
}


def differences(config, make):
    """From OpenCV's images, over some epochs: (epochs, N, SIZE, SIZE, 3)."""
    found = []
    for epoch in range(3):
        params = sampled(config, epoch)
        theirs = np.stack([augment_image(STORE, LABELS, params, k)[0] for k in range(N)])
        found.append(abs(make(params).astype(int) - theirs))
    found = np.stack(found)
    print(f"mean {found.mean():.4f}, most {found.max()}, equal {(found == 0).mean():.4f}")
    return found


@pytest.mark.parametrize("keys", KINDS.values(), ids=KINDS)
def test_the_images_are_those_of_opencv(keys):
    """By rounding alone they differ: OpenCV 4 looks between pixels in steps of 1/32, OpenCV 5 does not."""

    def make(params):
        images = fed(SENDING, params).images
        assert images.shape == (N, 3, SIZE, SIZE) and images.dtype == torch.uint8
        assert images.is_contiguous(memory_format=torch.channels_last)
        return images.permute(0, 2, 3, 1).numpy()

    found = differences(AugmentConfig(**keys), make)
    assert found.mean() < 0.6 and (found <= 4).mean() > 0.999


@needs_kernel
@pytest.mark.parametrize("keys", KINDS.values(), ids=KINDS)
def test_so_are_those_of_the_kernel(keys):
    found = differences(AugmentConfig(**keys), lambda params: of_kernel(params)["images"])
    assert found.mean() < 0.6 and (found <= 4).mean() > 0.999
    if cv2.__version__.startswith("5"):
        assert (found == 0).mean() > 0.998


@needs_kernel
@pytest.mark.parametrize("keys", [v for k, v in KINDS.items() if k != "mixed"], ids=[k for k in KINDS if k != "mixed"])
def test_the_kernel_and_a_device_compute_alike(keys):
    """So no pixel may be another one, not even where photographs meet: OpenCV's rounding would hide that."""
    for epoch in range(6):
        params = sampled(AugmentConfig(**keys), epoch)
        theirs = fed(RESIDENT, params).images.permute(0, 2, 3, 1).numpy()
        found = abs(of_kernel(params)["images"].astype(int) - theirs)
        assert found.max() <= 1 and (found == 0).mean() > 0.998


@needs_kernel
@settings(max_examples=25, deadline=None)
@any_augmentation
def test_a_batch_of_the_kernel_is_one_image_after_another(epoch, perspective, mosaic, more):
    """The boxes are the same, and so is what is on an image whatever it is made with."""
    params = sampled(AugmentConfig(mosaic=mosaic, perspective=perspective, **more), epoch)
    made = of_kernel(params)
    for k in range(N):
        boxes, mine = augment_image(STORE, LABELS, params, k)[1], made["image"] == k
        np.testing.assert_allclose(made["xyxy"][mine], boxes.xyxy, atol=1e-4)
        np.testing.assert_array_equal(made["classes"][mine], boxes.classes)
        np.testing.assert_array_equal(made["crowd"][mine], boxes.crowd)
    assert made["xyxy"].dtype == np.float32 and made["image"].dtype == made["classes"].dtype == np.int64
    for threads in (1, 3):
        assert np.array_equal(of_kernel(params, threads)["images"], made["images"])


@needs_kernel
def test_the_kernel_reads_nothing_beside_a_photograph():
    """Where the page after a photograph cannot be read, and where before it: the process would not survive it."""
    code = """
import ctypes, mmap
import numpy as np
from tests.data.test_device_augment import N, STORE, AugmentConfig, of_kernel, sampled
libc, keep = ctypes.CDLL(None), []
for i, image in enumerate(STORE):
    size = -(-image.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    pages = mmap.mmap(-1, size + 2 * mmap.PAGESIZE)
    whole = np.frombuffer(pages, dtype=np.uint8)
    for at in (0, size + mmap.PAGESIZE):
        assert libc.mprotect(ctypes.c_void_p(whole.ctypes.data + at), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    start = mmap.PAGESIZE + (size - image.nbytes if i % 2 else 0)
    fenced = whole[start : start + image.nbytes].reshape(image.shape)
    fenced[:] = image
    STORE[i] = fenced
    keep.append(pages)
for epoch in range(30):
    for keys in ({}, {"mosaic": 0.0}, {"mosaic": 0.5, "degrees": 180.0, "flipud": 0.5, "scale": 0.9, "perspective": 0.001}):
        of_kernel(sampled(AugmentConfig(**keys), epoch))
print("well")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "well\n", done.stderr


@settings(max_examples=15, deadline=None)
@any_augmentation
def test_parts_of_photographs_are_as_good_as_all_of_them(epoch, perspective, mosaic, more):
    """What is sent shows the same as what is on the device as a whole, to the last bit."""
    config = AugmentConfig(mosaic=mosaic, perspective=perspective, **more)
    params = sampled(config, epoch)
    sent, resident = (fed(feeder, params) for feeder in (SENDING, RESIDENT))
    assert torch.equal(sent.images, resident.images)
    assert all(
        torch.equal(*pair) for pair in zip(vars(sent.targets).values(), vars(resident.targets).values(), strict=True)
    )


@settings(max_examples=25, deadline=None)
@any_augmentation
def test_the_boxes_are_those_of_one_image_after_another(epoch, perspective, mosaic, more):
    config = AugmentConfig(mosaic=mosaic, perspective=perspective, **more)
    params = sampled(config, epoch)
    targets = SimpleNamespace(**RESIDENT.pack(np.arange(N), params, SIZE).parcel.arrays)
    for k in range(N):
        boxes = augment_image(STORE, LABELS, params, k)[1]
        for found, valid, wanted in (
            (targets.boxes[k], targets.valid[k], boxes.xyxy[~boxes.crowd]),
            (targets.crowds[k], targets.crowd_valid[k], boxes.xyxy[boxes.crowd]),
        ):
            assert valid.sum() == len(wanted)
            np.testing.assert_allclose(found[valid], wanted, atol=1e-4)
        np.testing.assert_array_equal(targets.classes[k][targets.valid[k]], boxes.classes[~boxes.crowd])


def test_how_many_images_are_worked_on_at_a_time_changes_nothing(monkeypatch):
    params = sampled(AugmentConfig(perspective=0.001), 5)
    expected = fed(SENDING, params).images
    monkeypatch.setattr(device_augment, "_AT_ONCE", 5 * SIZE**2)
    assert torch.equal(fed(SENDING, params).images, expected)


def test_a_gpu_is_given_a_batch_in_few_parts():
    gpu = torch.device("cuda")
    assert (
        len(list(device_augment._in_turn(128, 640, gpu))) == 4
        and len(list(device_augment._in_turn(128, 640, CPU))) == 13
    )
    assert device_augment.memory_meanwhile(10**6, 640, gpu) < 2 * 10**9
    assert device_augment.memory_meanwhile(1, 640, gpu) == device_augment.memory_meanwhile(1, 640, CPU) == 110 * 640**2
    assert len(list(device_augment._in_turn(3, 9000, gpu))) == 3  # one at a time at the least


def test_a_compiler_sees_one_graph():
    """So nothing hangs on what is in a tensor: asking for a value, or for a shape that does, would part the graph."""
    params = sampled(AugmentConfig(perspective=0.001), 7)
    expected = fed(SENDING, params).images
    feeder = Feeder(STORE, LABELS, CPU)
    feeder.draw = torch.compile(render, backend="eager", fullgraph=True)
    assert torch.equal(fed(feeder, params).images, expected)


class Unread(TorchDispatchMode):
    """Refuses what waits for a device, or makes a shape of values."""

    REFUSED = ("nonzero", "_local_scalar_dense", "masked_select", "equal", "lift_fresh")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        places = args[1] if function is torch.ops.aten.index.Tensor else ()
        assert not any(place is not None and place.dtype == torch.bool for place in places), function
        assert not any(name in str(function) for name in self.REFUSED), function
        return function(*args, **(kwargs or {}))


def test_no_value_is_read_back():
    feeder, params = Feeder(STORE, LABELS, CPU), sampled(AugmentConfig(perspective=0.001, **MIXED), 7)
    packed = feeder.pack(np.arange(N), params, SIZE)
    assert len(packed.parcel.arrays["blended"]) and packed.parcel.arrays["areas"].any()
    with Unread():
        (batch,) = feeder.feed(packed for packed in [packed])
    assert torch.equal(batch.images, fed(RESIDENT, params).images)


@pytest.mark.parametrize("perspective", [0.0, 0.001])
def test_the_matrices_are_the_product_of_their_steps(perspective):
    config = AugmentConfig(degrees=40.0, shear=20.0, perspective=perspective)
    params = sampled(config, 0)
    canvas = np.tile([130, 70], (N, 1))
    matrices = warp_matrix(params, slice(None), canvas, SIZE)
    for k in range(N):
        to_center, shift, warp, shear, rotation = (np.eye(3) for _ in range(5))
        to_center[:2, 2], shift[:2, 2], warp[2, :2] = (-65, -35), params.shift[k], params.perspective[k]
        shear[0, 1], shear[1, 0] = np.tan(np.deg2rad(params.shear[k]))
        rotation[:2] = cv2.getRotationMatrix2D((0, 0), params.angle[k], params.scale[k])
        product = shift @ shear @ rotation @ warp @ to_center
        np.testing.assert_allclose(matrices[k], product, atol=1e-9)
        np.testing.assert_array_equal(matrices[k], warp_matrix(params, k, (130, 70), SIZE))
