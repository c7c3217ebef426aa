"""The distributions of augmented images and boxes are Ultralytics', on BCCD: two-sample Kolmogorov-Smirnov tests.

Each image is one draw of every statistic, and where there are several boxes one of them stands for the image, so that the
draws are independent. All seeds are fixed. That the tests can fail is tested too: a strength that differs a little is seen.
"""

from __future__ import annotations

import random
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from scipy import stats
from ultralytics.data.augment import Albumentations, CutMix, Mosaic, RandomFlip, RandomPerspective, v8_transforms
from ultralytics.utils.instance import Instances

from yolo_cosine.config.schema import AugmentConfig
from yolo_cosine.data.augment import augment_image
from yolo_cosine.data.cache import ImageStore
from yolo_cosine.data.dataset import open_dataset
from yolo_cosine.data.index import TrainableBoxes, trainable_boxes
from yolo_cosine.data.mixing import cut_mix
from yolo_cosine.data.sampler import augment_params, epoch_draws, epoch_order

SIZE, DRAWS = 96, 1200
SAME, OTHER = 1e-3, 1e-4  # p above which a statistic passes, and below which a difference counts as seen
EVERYTHING = {
    "mosaic": 0.3, "mixup": 0.3, "cutmix": 0.9, "degrees": 30.0, "shear": 10.0, "perspective": 0.001, "flipud": 0.3,
}  # fmt: skip


@pytest.fixture(scope="module")
def bccd(real_data):
    index = open_dataset(str(real_data / "bccd")).splits["train"]
    return ImageStore(index, SIZE, "ram", 1), trainable_boxes(index)


@pytest.fixture(scope="module")
def rare(bccd):
    """The same without the red cells, which leave CutMix next to no room."""
    store, labels = bccd
    kept = labels.classes != store.index.names.index("RBC")
    offsets = np.concatenate(([0], np.cumsum(kept)))[labels.offsets]
    return store, TrainableBoxes(offsets, labels.xyxy[kept], labels.classes[kept], labels.crowd[kept], ())


def statistics(image, xyxy, row):
    """What can be seen of an augmented image. Where there are boxes, one of them in turn stands for them."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    colourless, coloured = (hsv[..., 1] == 0).astype(np.uint8), (hsv[..., 1] > 20).astype(np.uint8)
    hues = cv2.calcHist([hsv], [0], coloured, [180], [0, 180]).ravel() @ np.exp(np.pi / 90 * 1j * np.arange(180))
    mean, spread = cv2.meanStdDev(image)
    found = {
        "boxes": len(xyxy),
        # padding, as the colour shifts leave it: one level without colour
        "grey": cv2.calcHist([hsv], [2], colourless, [256], [0, 256]).max() / SIZE**2,
        "hue": np.angle(hues),
        **dict(zip(("saturation", "value"), cv2.mean(hsv)[1:], strict=False)),
        **{f"mean {c}": v for c, v in zip("RGB", mean.flat, strict=True)},
        **{f"spread {c}": v for c, v in zip("RGB", spread.flat, strict=True)},
    }
    if len(xyxy):
        sides = xyxy[:, 2:] - xyxy[:, :2]
        x1, y1, x2, y2 = xyxy[row % len(xyxy)]
        found |= {
            "width": x2 - x1,
            "height": y2 - y1,
            "area": (x2 - x1) * (y2 - y1),
            "x": (x1 + x2) / 2,
            "y": (y1 + y2) / 2,
        }
        found |= {"largest": sides.prod(1).max(), "typical": np.median(sides)}
    return found


def ours(bccd, monkeypatch, **keys):
    """The statistics of our augmentation: for each of `DRAWS` images a row."""
    store, labels = bccd
    config, n, rows, pasted = AugmentConfig(**keys), len(store.index), [], []

    def noting(one, *rest):
        mixed = cut_mix(one, *rest)
        pasted.append(len(mixed[1].classes) > len(one[1].classes))
        return mixed

    monkeypatch.setattr("yolo_cosine.data.augment.cut_mix", noting)
    for epoch in range(-(-DRAWS // n)):
        order = epoch_order(0, epoch, n)
        p = augment_params(order, epoch_draws(0, epoch, n, config.mixes), SIZE, config)
        for k in range(min(n, DRAWS - len(rows))):
            pasted.clear()
            image, boxes = augment_image(store, labels, p, k)
            drawn = {
                "scale": p.scale[k], "shift": p.shift[k, 0], "upside down": p.flipud[k], "mirrored": p.fliplr[k],
                "pasted": any(pasted),
            }  # fmt: skip
            if p.mosaic[k]:
                drawn["centre"] = p.center[k, 0]
            rows.append(statistics(image, boxes.xyxy, len(rows)) | drawn)
    return rows


class Peer:
    """The same photographs and boxes as a data set of Ultralytics'."""

    cache = "ram"

    def __init__(self, bccd):
        self.store, self.boxes = bccd
        self.data = {}

    def __len__(self):
        return len(self.store.index)

    def get_image_and_label(self, i):
        image, rows = self.store[i][..., ::-1].copy(), slice(*self.boxes.offsets[i : i + 2])
        boxes, none = self.boxes.xyxy[rows].copy(), np.zeros((0, 1000, 2), np.float32)
        return {
            "im_file": "", "ori_shape": image.shape[:2], "resized_shape": image.shape[:2], "img": image,
            "instances": Instances(boxes, none, bbox_format="xyxy", normalized=True),
            "cls": self.boxes.classes[rows, None].astype(np.float32),
        }  # fmt: skip


def theirs(bccd, **keys):
    """The same of Ultralytics' own transforms."""
    data, rows, drawn = Peer(bccd), [], {}
    hyp = SimpleNamespace(**AugmentConfig(**keys).model_dump(), copy_paste=0.0, copy_paste_mode="flip")
    # what it blurs where albumentations is installed is no option of ours
    pipeline = [t for t in v8_transforms(data, SIZE, hyp).transforms if not isinstance(t, Albumentations)]
    for transform in (*pipeline[0].transforms, *pipeline[1:]):
        _note(transform, drawn)
    random.seed(0)
    np.random.seed(0)
    for _ in range(-(-DRAWS // len(data))):
        for i in np.random.permutation(len(data))[: DRAWS - len(rows)]:
            drawn.clear()
            labels = data.get_image_and_label(i)
            for transform in pipeline:
                labels = transform(labels)
            labels["instances"].convert_bbox("xyxy")
            image = np.ascontiguousarray(labels["img"][..., ::-1])
            rows.append(statistics(image, labels["instances"].bboxes, len(rows)) | {"pasted": False} | drawn)
    return rows


def _note(transform, drawn):
    """Let a transform note what it has drawn for an image; what it draws for those that are mixed in comes later."""
    get_params = transform.get_params

    def noting(labels):
        height, width = labels["img"].shape[:2]
        params = get_params(labels)
        if isinstance(transform, Mosaic):
            drawn.setdefault("centre", params["layout"][0]["x2a"])
        elif isinstance(transform, RandomPerspective):
            drawn.setdefault("scale", params["scale"])
            drawn.setdefault("shift", params["M"][0] @ (width / 2, height / 2, 1))
        elif isinstance(transform, CutMix):
            drawn["pasted"] = not params.get("skip")
        elif isinstance(transform, RandomFlip):
            drawn["upside down" if transform.direction == "vertical" else "mirrored"] = params["flip"]
        return params

    transform.get_params = noting


def p_values(one, other):
    """Of each statistic: how likely a difference as large as the one between the samples is, if there is none."""
    names = dict.fromkeys(name for row in one + other for name in row)
    return {
        name: stats.ks_2samp(
            *([row[name] for row in rows if name in row] for rows in (one, other)), method="asymp"
        ).pvalue
        for name in names
    }


@pytest.fixture(scope="module")
def samples(bccd, rare):
    """Each sample of the peer is taken once."""
    return {"defaults": (bccd, {}, theirs(bccd)), "everything": (rare, EVERYTHING, theirs(rare, **EVERYTHING))}


@pytest.mark.parametrize("which", ["defaults", "everything"])
def test_the_distributions_are_those_of_ultralytics(samples, which, monkeypatch):
    data, keys, peer = samples[which]
    found = p_values(ours(data, monkeypatch, **keys), peer)
    assert len(found) == 24 and min(found.values()) > SAME, found


@pytest.mark.parametrize(
    ("which", "keys", "seen"),
    [
        ("defaults", {"scale": 0.4, "hsv_v": 0.3}, ["scale", "typical", "value", "mean R"]),
        ("defaults", {"hsv_s": 0.5, "translate": 0.05, "fliplr": 0.35, "mosaic": 0.85}, ["saturation", "shift", "mirrored", "boxes"]),
        ("everything", {"mixup": 0.15, "cutmix": 0.2, "flipud": 0.15}, ["boxes", "pasted", "upside down"]),
    ],
    ids=str,
)  # fmt: skip
def test_a_small_difference_is_seen(samples, which, keys, seen, monkeypatch):
    data, base, peer = samples[which]
    found = p_values(ours(data, monkeypatch, **base | keys), peer)
    assert all(found[name] < OTHER for name in seen), {name: found[name] for name in seen}
