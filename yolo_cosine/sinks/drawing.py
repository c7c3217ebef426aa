"""Pictures of an evaluation: validation images with their boxes, and precision over recall."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from yolo_cosine.events import Sample

LEAST_SCORE = 0.25  # detections below it are not drawn
_SIDES = 480, 1280  # an image is scaled so that its longer side lies between them, pixels

# Okabe and Ito's colours that people with any colour vision can tell apart (Color Universal Design, 2008), without
# the yellow, which cannot be seen on white
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
# For boxes on photographs: brighter, and none is white, which is the colour of the ground truth
_BOX_COLOURS = (
    (86, 180, 233), (230, 159, 0), (0, 200, 140), (240, 228, 66), (213, 94, 0), (204, 121, 167),
    (120, 140, 255), (160, 220, 60), (255, 120, 120), (0, 210, 220),
)  # fmt: skip
_WHITE, _DARK = (255, 255, 255), (24, 24, 24)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_sample(sample: Sample, names: Sequence[str]) -> np.ndarray:
    """Draw what is on an image and what was found, with a caption that says which is which.

    The ground truth is white: solid, dashed for crowds. Detections with a score of at least 0.25 have the colour of
    their class and carry its name and their score. A right detection shows as a coloured line inside a white one, and
    a ground truth that was missed (no detection of its class with an IoU of 0.5 or more) carries its name.

    Returns:
        (H, W, 3) uint8 RGB, larger than the image where that is small.
    """
    height, width = sample.image.shape[:2]
    scale = np.clip(1.0, _SIDES[0] / max(height, width), _SIDES[1] / max(height, width))
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    canvas = np.ascontiguousarray(sample.image if scale == 1 else cv2.resize(sample.image, size, interpolation=way))
    unit = max(1, round(max(size) / 640))  # scale of lines and letters
    truth, found = (_corners(boxes, scale) for boxes in (sample.truth, sample.found))
    shown = [k for k in np.argsort(sample.scores) if sample.scores[k] >= LEAST_SCORE]  # the surest on top
    for box, crowd in zip(truth, sample.truth_crowd, strict=True):
        _outline(canvas, box, _DARK, 4 * unit + 2, crowd)
        _outline(canvas, box, _WHITE, 4 * unit, crowd)
    for k in shown:
        _outline(canvas, found[k], _colour(sample.found_classes[k]), 2 * unit, False)
    for k in np.flatnonzero(_missed(sample, shown)):
        _truth_name(canvas, truth[k], names[sample.truth_classes[k]], unit)
    for k in shown:
        label = f"{names[sample.found_classes[k]]} {sample.scores[k]:.2f}"
        _label(canvas, label, (found[k][0], found[k][1]), _colour(sample.found_classes[k]), unit)
    return np.concatenate((canvas, _caption(canvas.shape[1], len(truth), len(shown), bool(sample.truth_crowd.any()))))


def _missed(sample: Sample, shown: Sequence[int]) -> np.ndarray:
    """(K,) bool, for each ground truth whether none of the detections `shown` has its class and an IoU of 0.5."""
    truth, found = sample.truth[:, None], sample.found[list(shown)][None]
    sides = np.minimum(truth[..., 2:], found[..., 2:]) - np.maximum(truth[..., :2], found[..., :2])
    overlap = sides.clip(0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (truth, found)]
    same = sample.truth_classes[:, None] == sample.found_classes[list(shown)][None]
    return ~(same & (overlap >= 0.5 * (areas[0] + areas[1] - overlap))).any(1)


def _corners(boxes: np.ndarray, scale: float) -> list[tuple[int, int, int, int]]:
    # far outside the picture is as good as just outside, and OpenCV wants small integers
    return [tuple(int(v) for v in box) for box in np.nan_to_num(boxes * scale).clip(-32, 4096).round()]


def _colour(label: int) -> tuple[int, int, int]:
    return _BOX_COLOURS[int(label) % len(_BOX_COLOURS)]


def _outline(canvas: np.ndarray, box: tuple[int, ...], colour: tuple[int, ...], width: int, dashed: bool) -> None:
    x1, y1, x2, y2 = box
    if not dashed:
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, width)
        return
    for start, end in (((x1, y1), (x2, y1)), ((x2, y1), (x2, y2)), ((x2, y2), (x1, y2)), ((x1, y2), (x1, y1))):
        _dashes(canvas, start, end, colour, width)


def _dashes(canvas: np.ndarray, start: tuple, end: tuple, colour: tuple[int, ...], width: int, dash: int = 12) -> None:
    first, last = np.array(start, float), np.array(end, float)
    count = max(int(np.hypot(*(last - first)) / dash), 1)
    for k in range(0, count, 2):
        a, b = (first + (last - first) * min(part / count, 1) for part in (k, k + 1))
        cv2.line(canvas, tuple(int(v) for v in a), tuple(int(v) for v in b), colour, width)


def _text_size(text: str, unit: int) -> tuple[int, int]:
    (width, height), below = cv2.getTextSize(text, _FONT, 0.42 * unit, unit)
    return width + 4 * unit, height + below + 2 * unit


def _label(
    canvas: np.ndarray, text: str, corner: tuple[int, int], colour: tuple[int, int, int], unit: int, above: bool = True
) -> None:
    """Text on a field of `colour`, at `corner` and never outside the picture."""
    width, height = _text_size(text, unit)
    x = max(min(corner[0], canvas.shape[1] - width), 0)
    top = corner[1] - height if above else corner[1]
    y = max(min(top, canvas.shape[0] - height), 0)
    cv2.rectangle(canvas, (x, y), (x + width, y + height), colour, cv2.FILLED)
    ink = _DARK if np.dot(colour, (0.299, 0.587, 0.114)) > 110 else _WHITE  # luma of ITU-R BT.601
    _write(canvas, text, (x + 2 * unit, y + height - 5 * unit), ink, unit)


def _write(canvas: np.ndarray, text: str, where: tuple[int, int], ink: tuple[int, int, int], unit: int) -> None:
    cv2.putText(canvas, text, where, _FONT, 0.42 * unit, ink, unit, cv2.LINE_AA)


def _truth_name(canvas: np.ndarray, box: tuple[int, int, int, int], name: str, unit: int) -> None:
    """The class of a ground truth in the lower left corner of its box, if it fits in."""
    width, height = _text_size(name, unit)
    if width <= box[2] - box[0] and 2 * height <= box[3] - box[1]:
        _label(canvas, name, (box[0], box[3]), _WHITE, unit)


def _caption(width: int, truth: int, found: int, crowds: bool) -> np.ndarray:
    """A strip that explains the lines."""
    strip = np.full((26, width, 3), 24, np.uint8)
    x = 8
    entries = [(f"ground truth: {truth}", _WHITE, 4, False)]
    if crowds:
        entries.append(("crowd", _WHITE, 4, True))
    entries.append((f"found, score >= {LEAST_SCORE}: {found}", _BOX_COLOURS[0], 2, False))
    for text, colour, thickness, dashed in entries:
        if dashed:
            _dashes(strip, (x, 13), (x + 24, 13), colour, thickness, dash=8)
        else:
            cv2.line(strip, (x, 13), (x + 24, 13), colour, thickness)
        _write(strip, text, (x + 32, 17), _WHITE, 1)
        x += 32 + _text_size(text, 1)[0] + 16
    return strip


def chart_text(name: str, longest: int = 24) -> str:
    """A name for a chart: not too long, and with `$` as itself, where matplotlib would begin a formula."""
    return (name if len(name) <= longest else name[: longest - 1] + "…").replace("$", r"\$")


def draw_pr_curves(recall: np.ndarray, precision: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Precision over recall at IoU 0.5: a line for each class, and their mean.

    Args:
        recall: (R,) float64.
        precision: (R, classes) float64; a class that has -1 has no boxes and is left out.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    # only now: no run has a curve to draw before its first evaluation, and every run would wait for the import
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    present = [k for k in range(precision.shape[1]) if (precision[:, k] > -1).all()]
    figure = Figure(figsize=(8, 5.5), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    few = len(present) <= 10
    for rank, k in enumerate(present):
        styles = {"color": PALETTE[rank % 7], "linestyle": ("-", "--")[rank // 7]} if few else {"color": "#BBBBBB"}
        label = f"{precision[:, k].mean():.3f}  {chart_text(names[k])}" if few else None
        axes.plot(recall, precision[:, k], linewidth=1.6 if few else 0.7, label=label, **styles)
    if len(present) > 1:
        mean = precision[:, present].mean(1)
        label = f"{mean.mean():.3f}  mean of {len(present)} classes"
        axes.plot(recall, mean, color="#333333", linewidth=3, label=label)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision", title="Precision over recall, IoU 0.5")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if present:
        place = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)} if few else {"loc": "upper right"}
        axes.legend(title="AP50", frameon=not few, **place)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
