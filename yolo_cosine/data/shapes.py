"""The embedded data set: textured shapes in COCO's format, generated where it is needed, always the same.

`python -m yolo_cosine.data.shapes --out DIR` writes one; `ensure_shapes` keeps the standard one that `data: shapes`
trains on. An image is a function of (seed, split, index) and of the versions of NumPy and OpenCV, so a larger set
begins with the images of a smaller one.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_cosine.errors import UserError
from yolo_cosine.processor import available_cores

if TYPE_CHECKING:
    from yolo_cosine.data.shapes_render import Picture

CATEGORY_IDS = (1, 3, 4, 7, 9)  # with gaps, as COCO's have
SPLITS = ("train", "val")
_STAMP = ".generated.json"  # says what made the folder; written last
_YAML = """\
# The embedded data set, made by yolo_cosine/data/shapes.py. It is made anew when the generator changes.
path: .
train:
  images: images/train
  annotations: annotations/instances_train.json
val:
  images: images/val
  annotations: annotations/instances_val.json
"""


def generate(
    root: Path, *, seed: int = 0, train: int = 800, val: int = 200, size: tuple[int, int] = (160, 128)
) -> Path:
    """Write the data set into `root`, all or nothing, and return the path of its YAML.

    Args:
        root: a new or empty folder, or one that this function wrote; that one is replaced.
        size: largest width and height of an image, pixels; many are a little smaller, a third are portraits.

    Raises:
        UserError: if `root` holds something else or cannot be written.
    """
    root = Path(root).absolute()
    if min(train, val) < 1 or min(size) < 64 or seed < 0:
        raise UserError(
            f"shapes: train={train}, val={val}, size={size[0]}x{size[1]}, seed={seed}: each split needs an image, each "
            "side 64 pixels, and the seed must not be negative"
        )
    before = _read_stamp(root)
    if before is None and root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(f"{root}: is there already and is no generated data set; name a new or empty folder")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as scratch:
            fresh = Path(scratch) / "new"
            for split, count in zip(SPLITS, (train, val), strict=True):
                _write_split(fresh, split, count, seed, size)
            (fresh / "shapes.yaml").write_text(_YAML, encoding="utf-8")
            (fresh / _STAMP).write_text(json.dumps(_stamp(seed, train, val, size)), encoding="utf-8")
            if _read_stamp(root) != before:
                raise UserError(f"{root}: another process wrote it meanwhile; its files were left as they are")
            _swap(fresh, root, Path(scratch) / "old")
    except OSError as error:
        raise UserError(f"{root}: cannot write the data set: {error}; free the space or name another folder") from None
    return root / "shapes.yaml"


def ensure_shapes(root: Path | None = None) -> Path:
    """Path of the standard data set's YAML; the data set is generated if it is missing or of another version.

    Args:
        root: its folder. By default `shapes` in the folder that $YOLO_COSINE_CACHE names, else `data/shapes` where the
            current folder is a checkout of this project, else `~/.cache/yolo-cosine/shapes`.

    Raises:
        UserError: if the folder holds something else or cannot be written.
    """
    root = default_root() if root is None else Path(root).absolute()
    if not _is_current(root):
        try:
            generate(root)
        except UserError:
            if not _is_current(root):  # else another process was first
                raise
    return root / "shapes.yaml"


def default_root() -> Path:
    """The folder of the standard data set, absolute."""
    cache = os.environ.get("YOLO_COSINE_CACHE")
    if cache:
        return Path(cache).expanduser().absolute() / "shapes"
    if Path("data/coco.yaml").is_file() and Path("yolo_cosine").is_dir():
        return Path("data/shapes").absolute()
    return Path.home() / ".cache" / "yolo-cosine" / "shapes"


def _is_current(root: Path) -> bool:
    return _read_stamp(root) == _stamp(**generate.__kwdefaults__)


def _read_stamp(root: Path) -> dict[str, Any] | None:
    """What made the folder; None if that was not this module."""
    try:
        return json.loads((root / _STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _stamp(seed: int, train: int, val: int, size: tuple[int, int]) -> dict[str, Any]:
    """Everything that the content depends on: the arguments, this code and the libraries that draw."""
    import cv2
    import numpy as np

    code = [Path(__file__).with_name(name) for name in ("shapes.py", "shapes_render.py", "shapes_outlines.py")]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in code)).hexdigest()
    versions = {"code": digest[:16], "numpy": np.__version__, "opencv": cv2.__version__}
    return {"seed": seed, "train": train, "val": val, "size": list(size), **versions}


def _swap(fresh: Path, root: Path, old: Path) -> None:
    """Move `fresh` to `root`; what stands there moves to `old` first, and back if that fails."""
    replaced = root.exists()
    if replaced:
        root.rename(old)
    try:
        fresh.rename(root)
    except OSError:
        if replaced and not root.exists():
            old.rename(root)
        raise


def _write_split(root: Path, split: str, count: int, seed: int, size: tuple[int, int]) -> None:
    import cv2

    from yolo_cosine.data.shapes_render import render

    folder = root / "images" / split
    folder.mkdir(parents=True)
    (root / "annotations").mkdir(exist_ok=True)

    def draw(index: int) -> dict[str, Any]:
        picture = render(seed, SPLITS.index(split), index, size)
        # JPEG, as photographs come: a fifth of PNG's size with this noise, and quicker to decode
        encoded = cv2.imencode(".jpg", picture.image, (cv2.IMWRITE_JPEG_QUALITY, 90))[1]
        entry = _entry(index, picture)
        (folder / entry["image"]["file_name"]).write_bytes(encoded.tobytes())
        return entry

    with ThreadPoolExecutor(min(available_cores(), 8)) as pool:
        entries = list(pool.map(draw, range(count)))
    content = json.dumps(_coco(entries), separators=(",", ":"))
    (root / "annotations" / f"instances_{split}.json").write_text(content, encoding="utf-8")


def _entry(index: int, picture: Picture) -> dict[str, Any]:
    """COCO's rows for an image and its annotations. Image ids have gaps, as COCO's have."""
    height, width = picture.image.shape[:2]
    image = {"id": 3 * index + 1, "file_name": f"{index:06d}.jpg", "width": width, "height": height}
    annotations = [
        {
            "image_id": image["id"],
            "category_id": CATEGORY_IDS[kind],
            "bbox": box.tolist(),
            "area": float(area),
            "iscrowd": int(crowd),
        }
        for box, area, kind, crowd in zip(picture.boxes, picture.areas, picture.classes, picture.crowd, strict=True)
    ]
    return {"image": image, "annotations": annotations}


def _coco(entries: list[dict[str, Any]]) -> dict[str, Any]:
    from yolo_cosine.data.shapes_outlines import NAMES

    annotations = [row for entry in entries for row in entry["annotations"]]
    return {
        "images": [entry["image"] for entry in entries],
        "annotations": [{"id": number, **row} for number, row in enumerate(annotations, 1)],
        "categories": [{"id": id, "name": name} for id, name in zip(CATEGORY_IDS, NAMES, strict=True)],
    }
