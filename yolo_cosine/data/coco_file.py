"""What stands in COCO's JSON (https://cocodataset.org/#format-data, object detection), column by column."""

from __future__ import annotations

import gc
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from yolo_cosine.data.index import Category
from yolo_cosine.data.kept import Columns, packed
from yolo_cosine.errors import UserError

# Absolute (also as Windows writes it), leading out of its folder, or no path at all.
_UNSAFE = re.compile(r"^([/\\]|[A-Za-z]:)|(^|[/\\])\.\.([/\\]|$)|\0|^$")
_LARGE = 1e15  # a number from here on is none that anybody meant


def coco_columns(annotations: Path) -> Columns:
    """What the file says: the columns of an index, and as JSON its categories and what is wrong with it.

    Raises:
        UserError: for whatever else is wrong with it.
    """
    source = str(annotations)
    content = _load(annotations)
    categories = _categories(content, source)
    images = _rows(content, "images", source)
    rows = _rows(content, "annotations", source)
    image_ids, files, sizes = _images(images, source)
    owner = _lookup(rows, "image_id", image_ids, "image", source)
    classes = _lookup(rows, "category_id", np.array([c.id for c in categories]), "category", source)
    boxes, areas, crowd = _boxes(rows, source), _areas(rows, source), _crowd(rows, source)
    order = np.argsort(owner, kind="stable")
    about = {"categories": [(c.id, c.name) for c in categories], "repeated": _repeated_annotations(rows, source)}
    return {
        "image_ids": image_ids,
        "files": packed(files),
        "sizes": sizes,
        "offsets": np.concatenate(([0], np.cumsum(np.bincount(owner, minlength=len(files))))).astype(np.int64),
        "boxes": boxes[order],
        "classes": classes[order],
        "crowd": crowd[order],
        "areas": np.where(np.isnan(areas), boxes[:, 2] * boxes[:, 3], areas)[order],
        "about": packed([json.dumps(about)]),
    }


# --- the file ---------------------------------------------------------------------------------------------------------


def _load(path: Path) -> dict[str, Any]:
    if os.path.isdir(path):
        raise UserError(
            f"{path}: is a folder; COCO's annotations are one JSON file (for Pascal VOC write `format: voc`)"
        )
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        others = ", ".join(sorted(p.name for p in path.parent.glob("*.json"))[:5]) if os.path.isdir(path.parent) else ""
        hint = f"; its folder has {others}" if others else ""
        raise UserError(f"{path}: there is no such annotation file{hint}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    try:
        text = data.decode(json.detect_encoding(data), "surrogatepass")  # as `json.loads` does, which would keep both
        del data
        with _without_garbage_collection():
            content = json.loads(text, object_hook=_drop_mask)
    except json.JSONDecodeError as error:
        place = f"{path}:{error.lineno}:{error.colno}"
        raise UserError(
            f"{place}: is no JSON: {error.msg}; the file may be cut short: write or download it again"
        ) from None
    except (ValueError, RecursionError) as error:  # no UTF-8, an integer of ten thousand digits, a thousand brackets
        raise UserError(f"{path}: is no JSON: {error}; write or download it again") from None
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: holds a {type(content).__name__} at the top, not COCO's object with `images`, `annotations` and "
            "`categories` (a list is the form of detection results); name the annotation file"
        )
    return content


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Millions of small containers that all stay make the cyclic collector go over them again and again, for nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _drop_mask(entry: dict[str, Any]) -> dict[str, Any]:
    """Let an object's mask go while the file is parsed (it is most of the file), after taking a missing box from it."""
    if "segmentation" in entry:
        mask = entry.pop("segmentation")
        if entry.get("bbox") is None and (box := _box_of_polygons(mask)) is not None:
            entry["bbox"] = box
    return entry


def _box_of_polygons(polygons: Any) -> list[float] | None:
    if not isinstance(polygons, list) or not all(isinstance(polygon, list) for polygon in polygons):
        return None
    values = [value for polygon in polygons for value in polygon]
    if not values or any(len(polygon) % 2 for polygon in polygons) or not all(map(_is_number, values)):
        return None
    x, y = values[::2], values[1::2]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def _rows(content: dict[str, Any], key: str, source: str) -> list[dict[str, Any]]:
    rows = content.get(key)
    if not isinstance(rows, list):
        found = f"is a {type(rows).__name__}" if key in content else "missing"
        raise UserError(f"{source}: {key}: {found}; COCO's format wants a list of objects here")
    k = next((k for k, row in enumerate(rows) if type(row) is not dict), None)
    if k is not None:
        raise UserError(f"{source}: {key}[{k}]: {rows[k]!r} is no object; write {{...}} with its keys")
    if not rows and key != "annotations":
        raise UserError(f"{source}: {key}: is empty; a split needs at least one entry")
    return rows


# --- columns ----------------------------------------------------------------------------------------------------------


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -_LARGE < value < _LARGE  # not NaN, not infinite


def _is_whole(value: Any) -> bool:
    if type(value) is int:
        return -(2**63) <= value < 2**63
    return type(value) is float and value.is_integer() and abs(value) < 2**53


def _is_name(value: Any) -> bool:
    # half a character (\ud800), which JSON can say, would end every file that the name is written to
    return isinstance(value, str) and value.strip() != "" and not re.search("[\ud800-\udfff]", value)


def _is_box(value: Any) -> bool:
    return type(value) is list and len(value) == 4 and all(map(_is_number, value))


def _column(
    rows: list[dict[str, Any]], kind: str, key: str, test: Callable[[Any], bool], rule: str, source: str
) -> list[Any]:
    """The values of a key, all of which pass the test; a missing one is tested as None."""
    values = [row.get(key) for row in rows]
    k = next((k for k, value in enumerate(values) if not test(value)), None)
    if k is not None:
        shown = f"{json.dumps(values[k], default=str)[:80]} {rule}" if key in rows[k] else f"missing; {rule}"
        raise UserError(f"{source}: {_place(kind, k, rows[k])}: {key}: {shown}; mend or remove the entry")
    return values


def _place(kind: str, k: int, row: dict[str, Any]) -> str:
    return f"{kind}[{k}] (id {row['id']})" if "id" in row else f"{kind}[{k}]"


def _numbers(values: list[Any]) -> np.ndarray | None:
    """(N,) float64, if all of them are numbers (see `_is_number`), in a fraction of the time that it takes to ask of each."""
    if set(map(type, values)) <= {int, float}:
        with suppress(OverflowError):  # an integer of 400 digits
            numbers = np.array(values, dtype=np.float64)
            if (np.abs(numbers) < _LARGE).all():
                return numbers
    return None


def _whole(rows: list[dict[str, Any]], kind: str, key: str, source: str) -> np.ndarray:
    values = [row.get(key) for row in rows]
    if set(map(type, values)) == {int}:
        with suppress(OverflowError):
            return np.array(values, dtype=np.int64)
    values = _column(rows, kind, key, _is_whole, "must be a whole number", source)
    return np.array([int(value) for value in values], dtype=np.int64)


def _categories(content: dict[str, Any], source: str) -> tuple[Category, ...]:
    rows = _rows(content, "categories", source)
    ids = _whole(rows, "categories", "id", source)
    rule = "must be a name, of at least one letter and of whole characters"
    names = _column(rows, "categories", "name", _is_name, rule, source)
    for values, what in ((ids.tolist(), "id"), (names, "name")):
        if (pair := first_repeated(values)) is not None:
            one, two = (_place("categories", k, rows[k]) for k in pair)
            raise UserError(
                f"{source}: the category {what} {values[pair[0]]!r} stands twice, at {one} and {two}; "
                "each category needs its own id and name"
            )
    return tuple(sorted((Category(int(i), name) for i, name in zip(ids, names, strict=True)), key=lambda c: c.id))


def _images(rows: list[dict[str, Any]], source: str) -> tuple[np.ndarray, list[str], np.ndarray]:
    ids = _whole(rows, "images", "id", source)
    rule = "must be the name of a file"
    files = _column(rows, "images", "file_name", lambda v: isinstance(v, str), rule, source)
    rule = "must lie below the folder of the images: relative, and without `..`"
    _column(rows, "images", "file_name", lambda v: _UNSAFE.search(v) is None, rule, source)
    if (pair := first_repeated(ids.tolist())) is not None:
        one, two = (files[k] for k in pair)
        raise UserError(
            f"{source}: the image id {ids[pair[0]]} stands twice, at {one} and {two}; each image needs its own"
        )
    rule = "must be a whole number of pixels (without it the header of the file tells)"
    sizes = [
        _column(rows, "images", key, lambda v: v is None or (_is_whole(v) and 0 <= v < 2**31), rule, source)
        for key in ("width", "height")
    ]
    return (
        ids,
        [file.replace("\\", "/") for file in files],
        np.array([[value or 0 for value in column] for column in sizes], dtype=np.int64).T,
    )


def _lookup(rows: list[dict[str, Any]], key: str, ids: np.ndarray, what: str, source: str) -> np.ndarray:
    """(M,) int64, the position among `ids` of the id that each annotation names."""
    wanted = _whole(rows, "annotations", key, source)
    order = np.argsort(ids)
    position = order[np.searchsorted(ids, wanted, sorter=order).clip(max=len(ids) - 1)]
    wrong = np.flatnonzero(ids[position] != wanted)
    if len(wrong):
        k = int(wrong[0])
        raise UserError(
            f"{source}: {_place('annotations', k, rows[k])}: {key}: {wanted[k]}: there is no such {what}; "
            f"add it or remove the {len(wrong)} annotation(s) of this kind"
        )
    return position


def _boxes(rows: list[dict[str, Any]], source: str) -> np.ndarray:
    values = [row.get("bbox") for row in rows]
    if set(map(type, values)) <= {list} and set(map(len, values)) <= {4}:
        numbers = _numbers(list(chain.from_iterable(values)))
        if numbers is not None:
            return numbers.reshape(-1, 4)
    rule = "must be four finite numbers, [x, y, width, height] in pixels (or the object needs polygons)"
    values = _column(rows, "annotations", "bbox", _is_box, rule, source)
    return np.array(values, dtype=np.float64).reshape(-1, 4)


def _areas(rows: list[dict[str, Any]], source: str) -> np.ndarray:
    """(M,) float64; NaN where an object has none."""
    numbers = _numbers([row.get("area") for row in rows])
    if numbers is not None:
        return numbers
    rule = "must be a number"
    values = _column(rows, "annotations", "area", lambda v: v is None or _is_number(v), rule, source)
    return np.array(values, dtype=np.float64)


def _crowd(rows: list[dict[str, Any]], source: str) -> np.ndarray:
    rule = "must be 0, or 1 for a region to ignore"
    values = _column(rows, "annotations", "iscrowd", lambda v: v is None or v in (0, 1), rule, source)
    return np.array([bool(value) for value in values], dtype=bool)


# --- what is odd but does no harm ------------------------------------------------------------------------------------


def first_repeated(values: list[Any]) -> tuple[int, int] | None:
    """Where the first value that stands twice is, both times."""
    if len(set(values)) == len(values):
        return None
    first: dict[Any, int] = {}
    return next((first[value], k) for k, value in enumerate(values) if first.setdefault(value, k) != k)


def _repeated_annotations(rows: list[dict[str, Any]], source: str) -> list[tuple[str, list[str]]]:
    """Text and places of a note, if there is something to note."""
    ids = [row["id"] for row in rows if type(row.get("id")) in (int, float, str)]
    if (pair := first_repeated(ids)) is None:
        return []
    text = f"{source}: {len(ids) - len(set(ids))} annotation id(s) stand twice, such as {ids[pair[0]]}: all are used"
    return [(text, [f"annotation id {value}" for value in again(ids)])]


def again(values: list[Any]) -> list[Any]:
    """Every value that stood before, each time that it comes again."""
    seen: set[Any] = set()
    return [value for value in values if value in seen or seen.add(value)]
