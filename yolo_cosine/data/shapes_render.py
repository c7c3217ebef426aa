"""Draws the images of the embedded data set: textured shapes with exact boxes, one image at a time.

Every layer (an object or a distractor) owns pixels of one map that is `OVERSAMPLE` times finer than the image. What
is drawn, how soft its edges are and where its box lies are all read from that map, so boxes are those of the pixels
that can be seen, to a quarter of a pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from yolo_cosine.data.shapes_outlines import NAMES, Outline, distractor, shape

# How hard the set is. Lengths are pixels of an image whose shorter side is REFERENCE; larger images scale them.
REFERENCE = 160
OBJECTS = (1, 6)  # in an image that is not empty
SIDE = (32, 105)  # of an object, drawn log-uniformly
EMPTY = 0.04  # share of images without objects
CROWDED = 0.03  # share of images with a group of tiny touching objects, annotated as one crowd region
CROWD_COUNT, CROWD_SIDE = (8, 14), (7, 10)
CLUSTERED = 0.2  # probability that an object starts close to another, so that one hides part of the other
MIN_VISIBLE = 0.6  # least share of an object that can be seen; what would hide more of it is not drawn
MIN_SIDE = 8  # pixels of the image, least side of what can be seen of an object
HOLLOW = 0.1  # share of squares, triangles and stars without a filling
DISTRACTORS, DISTRACTOR_SIDE = (1, 3), (12, 70)
CONTRAST = 60  # least distance of an object's colour from that of the ground, in levels of the farthest channel
TEXTURE = 26  # standard deviation between the two colours of a texture, levels
SATURATION = 28  # standard deviation between the channels of a colour, levels
EXPOSURE = (0.75, 1.2)  # contrast
BRIGHTNESS = 28  # +/- levels
BLUR, BLUR_SIGMA = 0.25, (0.5, 1.4)  # share of blurred images, pixels
NOISE_SIGMA = (1, 8)  # of the sensor, levels
TALLER, SMALLER = 0.35, 0.8  # share of images turned to portrait; least share of either side that is kept

OVERSAMPLE = 4  # per side; also the precision of the boxes
_DISTRACTOR = -1


@dataclass(frozen=True, eq=False)
class Layer:
    """One thing in a scene. `area` is what it covers where nothing hides it, in pixels of the fine map."""

    kind: int  # position in NAMES, or -1 for a distractor
    crowd: bool
    area: int
    window: tuple[slice, slice]  # rows and columns of the image that it may cover
    texture: np.ndarray  # (h, w, 3) float32 BGR, of the window


@dataclass(frozen=True, eq=False)
class Scene:
    """Layers over a ground. `owner` is (4H, 4W) uint8: 0 for the ground, k + 1 for layer k."""

    ground: np.ndarray  # (H, W, 3) float32 BGR
    layers: list[Layer]
    owner: np.ndarray


@dataclass(frozen=True, eq=False)
class Picture:
    """An image with its annotations, M of them."""

    image: np.ndarray  # (H, W, 3) uint8 BGR
    boxes: np.ndarray  # (M, 4) float64, x, y, width, height in pixels
    areas: np.ndarray  # (M,) float64, square pixels that can be seen
    classes: np.ndarray  # (M,) int64, positions in NAMES
    crowd: np.ndarray  # (M,) bool


def render(seed: int, split: int, index: int, size: tuple[int, int]) -> Picture:
    """Draw image `index` of a split; a pure function of its arguments. `size` is the largest width and height."""
    rng = np.random.default_rng((seed, split, index))
    scene = compose(rng, _image_size(rng, size))
    boxes, areas, classes, crowd = annotate(scene)
    return Picture(expose(rng, paint(scene)), boxes, areas, classes, crowd)


def compose(rng: np.random.Generator, size: tuple[int, int]) -> Scene:
    """Arrange a scene of `size` (width, height): distractors below and above the objects."""
    width, height = size
    unit = min(size) / REFERENCE
    ground = _texture(rng, height, width, _colour(rng), layers=3)
    scene = Scene(ground, [], np.zeros((height * OVERSAMPLE, width * OVERSAMPLE), np.uint8))
    distractors = int(rng.integers(DISTRACTORS[0], DISTRACTORS[1] + 1))
    above = int(rng.integers(0, distractors // 2 + 1))
    for _ in range(distractors - above):
        _place_distractor(rng, scene, unit)
    if rng.random() >= EMPTY:
        if rng.random() < CROWDED:
            _place_crowd(rng, scene, unit)
        _place_objects(rng, scene, unit)
    for _ in range(above):
        _place_distractor(rng, scene, unit)
    return scene


def paint(scene: Scene) -> np.ndarray:
    """The scene as (H, W, 3) float32 BGR; a pixel at an edge mixes its layers by the area that each covers."""
    image = scene.ground.copy()
    for k, layer in enumerate(scene.layers):
        owned = (scene.owner[_fine(layer.window)] == k + 1).astype(np.float32)
        cover = cv2.resize(owned, layer.texture.shape[1::-1], interpolation=cv2.INTER_AREA)[..., None]
        image[layer.window] += cover * (layer.texture - scene.ground[layer.window])
    return image


def annotate(scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Boxes, areas, classes and crowd flags as in `Picture`; the members of a crowd become one region."""
    groups: dict[object, list[int]] = {}
    for k, layer in enumerate(scene.layers):
        if layer.kind != _DISTRACTOR:
            groups.setdefault("crowd" if layer.crowd else k, []).append(k)
    rows = []
    for members in groups.values():
        windows = np.array([_extent(scene, k) for k in members])
        x0, y0 = windows[:, :2].min(0) / OVERSAMPLE
        x1, y1 = windows[:, 2:4].max(0) / OVERSAMPLE
        area = windows[:, 4].sum() / OVERSAMPLE**2
        first = scene.layers[members[0]]
        rows.append((x0, y0, x1 - x0, y1 - y0, area, first.kind, first.crowd))
    table = np.array(rows, dtype=np.float64).reshape(-1, 7)
    return table[:, :4], table[:, 4], table[:, 5].astype(np.int64), table[:, 6].astype(bool)


def expose(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """The camera: contrast, brightness, blur and sensor noise. (H, W, 3) float32 to uint8."""
    image = (image - 128) * np.float32(rng.uniform(*EXPOSURE)) + np.float32(128 + rng.uniform(-BRIGHTNESS, BRIGHTNESS))
    if rng.random() < BLUR:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(*BLUR_SIGMA))
    image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(*NOISE_SIGMA))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _image_size(rng: np.random.Generator, size: tuple[int, int]) -> tuple[int, int]:
    width, height = (round(side * rng.uniform(SMALLER, 1)) for side in size)
    return (height, width) if rng.random() < TALLER else (width, height)


def _place_distractor(rng: np.random.Generator, scene: Scene, unit: float) -> None:
    height, width = scene.ground.shape[:2]
    side, thickness = unit * _log_uniform(rng, DISTRACTOR_SIDE), unit * rng.uniform(1, 3.5)
    _place(rng, scene, distractor(rng, rng.uniform(0, 1, 2) * (width, height), side, thickness), _DISTRACTOR)


def _log_uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    return math.exp(rng.uniform(math.log(bounds[0]), math.log(bounds[1])))


def _place_objects(rng: np.random.Generator, scene: Scene, unit: float) -> None:
    height, width = scene.ground.shape[:2]
    taken: list[tuple[np.ndarray, float]] = []
    for _ in range(int(rng.integers(OBJECTS[0], OBJECTS[1] + 1))):
        kind = int(rng.integers(len(NAMES)))
        for _ in range(4):  # elsewhere, where it would hide another
            side = unit * _log_uniform(rng, SIDE)
            centre = rng.uniform(0, 1, 2) * (width, height)
            if taken and rng.random() < CLUSTERED:
                near, other = taken[rng.integers(len(taken))]
                centre = near + rng.uniform(-0.55, 0.55, 2) * (side + other)
            if _place(rng, scene, shape(rng, kind, centre, side, rng.random() < HOLLOW), kind):
                taken.append((centre, side))
                break


def _place_crowd(rng: np.random.Generator, scene: Scene, unit: float) -> None:
    height, width = scene.ground.shape[:2]
    kind = int(rng.integers(len(NAMES)))
    step = unit * rng.uniform(*CROWD_SIDE)
    count = int(rng.integers(CROWD_COUNT[0], CROWD_COUNT[1] + 1))
    columns = math.ceil(math.sqrt(count))
    corner = rng.uniform(0, 1, 2) * np.maximum((width, height) - np.full(2, step * (columns + 1)), 1)
    for member in range(count):
        row, column = divmod(member, columns)
        centre = corner + step * (np.array([column + 0.5 * (row % 2), row]) + 0.5 + rng.uniform(-0.15, 0.15, 2))
        outline = shape(rng, kind, centre, step * rng.uniform(0.95, 1.25), hollow=False)
        _place(rng, scene, outline, kind, crowd=True)


def _place(rng: np.random.Generator, scene: Scene, outline: Outline, kind: int, crowd: bool = False) -> bool:
    """Put a layer on top; False, and nothing changed, where too little of an object would be left to see."""
    mask, x, y = _mask(outline)
    area = int(np.count_nonzero(mask))
    height, width = scene.owner.shape
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + mask.shape[1], width), min(y + mask.shape[0], height)
    if right <= left or bottom <= top:
        return False
    inside = mask[top - y : bottom - y, left - x : right - x]
    region = scene.owner[top:bottom, left:right]
    before = region.copy()
    np.copyto(region, len(scene.layers) + 1, where=inside != 0)
    window = (slice(top // OVERSAMPLE, bottom // OVERSAMPLE), slice(left // OVERSAMPLE, right // OVERSAMPLE))
    ground = scene.ground[window]
    colour = _contrasting(rng, ground.mean((0, 1)))
    scene.layers.append(Layer(kind, crowd, area, window, _texture(rng, *ground.shape[:2], colour, layers=1)))
    for k in (*np.flatnonzero(np.bincount(before.ravel()))[1:] - 1, len(scene.layers) - 1):
        if scene.layers[k].kind != _DISTRACTOR and not _visible(scene, int(k)):
            region[:] = before
            scene.layers.pop()
            return False
    return True


def _visible(scene: Scene, k: int) -> bool:
    x0, y0, x1, y1, area = _extent(scene, k)
    least = 0 if scene.layers[k].crowd else OVERSAMPLE * MIN_SIDE  # a crowd's members are tiny by intent
    return area >= MIN_VISIBLE * scene.layers[k].area and x1 - x0 >= least and y1 - y0 >= least


def _extent(scene: Scene, k: int) -> tuple[int, int, int, int, int]:
    """Left, top, right, bottom and count of the pixels that layer `k` owns in the fine map."""
    rows, columns = _fine(scene.layers[k].window)
    owned = cv2.compare(scene.owner[rows, columns], k + 1, cv2.CMP_EQ)
    x, y, width, height = cv2.boundingRect(owned)
    x, y = x + columns.start, y + rows.start
    return x, y, x + width, y + height, cv2.countNonZero(owned)


def _fine(window: tuple[slice, slice]) -> tuple[slice, slice]:
    rows, columns = (slice(part.start * OVERSAMPLE, part.stop * OVERSAMPLE) for part in window)
    return rows, columns


def _mask(outline: Outline) -> tuple[np.ndarray, int, int]:
    """The outline in the fine map: (h, w) uint8, with the left and top of its window; whole pixels of the image."""
    points = np.concatenate(outline.contours) * OVERSAMPLE
    margin = OVERSAMPLE + outline.thickness * OVERSAMPLE
    start = (np.floor((points.min(0) - margin) / OVERSAMPLE) * OVERSAMPLE).astype(int)
    stop = (np.ceil((points.max(0) + margin) / OVERSAMPLE) * OVERSAMPLE).astype(int)
    mask = np.zeros((stop - start)[::-1], np.uint8)
    contours = [np.rint(contour * OVERSAMPLE - start).astype(np.int32) for contour in outline.contours]
    if outline.thickness:
        cv2.polylines(mask, contours, False, 255, max(round(outline.thickness * OVERSAMPLE), 1))
    else:
        cv2.fillPoly(mask, contours, 255)
    return mask, int(start[0]), int(start[1])


def _contrasting(rng: np.random.Generator, ground: np.ndarray) -> np.ndarray:
    """A colour (3,) at least CONTRAST levels from the ground in one channel."""
    colour = _colour(rng)
    while np.abs(colour - ground).max() < CONTRAST:
        colour = _colour(rng)
    return colour


def _colour(rng: np.random.Generator) -> np.ndarray:
    """A muted colour (3,), levels."""
    return np.clip(rng.uniform(40, 215) + rng.normal(0, SATURATION, 3), 5, 250)


def _texture(rng: np.random.Generator, height: int, width: int, colour: np.ndarray, layers: int) -> np.ndarray:
    """Patterns between two colours each, added up: (height, width, 3) float32."""
    total = np.full((height, width, 3), colour, np.float32)
    for _ in range(layers):
        swing = (rng.normal(0, TEXTURE) + rng.normal(0, TEXTURE / 2, 3)) / math.sqrt(layers)
        total += (_pattern(rng, height, width)[..., None] - np.float32(0.5)) * swing.astype(np.float32)
    return total


def _pattern(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Plain, gradient, stripes, checker or smoothed noise: (height, width) float32 within about 0..1."""
    style = int(rng.integers(6))
    if style == 0:
        return np.full((height, width), 0.5, np.float32)
    if style >= 4:
        cell = rng.uniform(3, 24)
        coarse = rng.random((math.ceil(height / cell) + 1, math.ceil(width / cell) + 1), dtype=np.float32)
        return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    angle, phase = rng.uniform(0, 2 * math.pi, 2)
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    u = np.float32(math.cos(angle)) * x + np.float32(math.sin(angle)) * y
    if style == 1:
        return (u - u.min()) / max(np.ptp(u), np.float32(1))
    wave = np.float32(2 * math.pi / rng.uniform(4, 24))
    if style == 2:
        return np.float32(0.5) + np.float32(0.5) * np.sin(wave * u + np.float32(phase))
    v = np.float32(math.cos(angle)) * y - np.float32(math.sin(angle)) * x
    return ((np.sin(wave * u + np.float32(phase)) > 0) ^ (np.sin(wave * v) > 0)).astype(np.float32)
