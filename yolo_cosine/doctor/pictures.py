"""Images of the data set as small inline SVGs, with the boxes that a finding is about."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import cv2
import numpy as np

from yolo_cosine.data.cache import read_image
from yolo_cosine.doctor.finding import Image
from yolo_cosine.doctor.snapshot import Snapshot

_SIDE, _QUALITY = 288, 70  # pixels of the longer side, and JPEG quality


def picture(snapshot: Snapshot, image: Image, boxes: Sequence[tuple[float, float, float, float]]) -> str:
    """An `<svg>` with the image as training reads it, and boxes (x, y, w, h in the annotations' pixels); '' if unreadable.

    Boxes are placed where training places them: by the size that the annotations give. The view is larger than the image
    where boxes lie outside, up to half the image on each side; a box without area is shown as a circle.
    """
    index = snapshot.splits[image.split].index
    pixels = read_image(index, image.position, _SIDE)
    if pixels is None:
        return ""
    width, height = (float(v) for v in index.sizes[image.position])
    stretch = pixels.shape[1] / pixels.shape[0] * height / width  # not 1 where the annotations have another shape
    stretch = 1.0 if abs(stretch - 1) < 0.02 else stretch  # but for the rounding of a small picture
    width *= stretch
    known = [(x * stretch, y, w * stretch, h) for x, y, w, h in boxes if np.isfinite((x, y, w, h)).all()]
    left, right = _view([(x, x + w) for x, _, w, _ in known], width)
    top, bottom = _view([(y, y + h) for _, y, _, h in known], height)
    marks = "".join(_mark(box, 0.03 * max(width, height)) for box in known)
    return (
        f'<svg viewBox="{left:g} {top:g} {right - left:g} {bottom - top:g}" role="img">'
        f'<image href="{_data_uri(pixels)}" width="{width:g}" height="{height:g}" preserveAspectRatio="none"/>{marks}</svg>'
    )


def _view(spans: Sequence[tuple[float, float]], length: float) -> tuple[float, float]:
    ends = [0.0, length, *(end for span in spans for end in span)]
    return max(min(ends), -length / 2), min(max(ends), 1.5 * length)


def _mark(box: tuple[float, float, float, float], radius: float) -> str:
    x, y, w, h = box
    if w <= 0 or h <= 0:
        return f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" vector-effect="non-scaling-stroke"/>'
    return f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" vector-effect="non-scaling-stroke"/>'


def _data_uri(pixels: np.ndarray) -> str:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
