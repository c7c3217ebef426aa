"""Write a split in each of the three forms: COCO's JSON, YOLO's labels, Pascal VOC's XML.

All numbers are written in full. Files are only ever created: one that is there already is an error of the system.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from yolo_cosine.data.disk import in_threads
from yolo_cosine.data.exact import held_by_voc, held_by_yolo
from yolo_cosine.data.index import Index
from yolo_cosine.data.yolo import label_path
from yolo_cosine.errors import UserError

# What XML 1.0 can hold and its readers give back: no blanks around, no control characters, no lone surrogates.
_XML_TEXT = re.compile(r"(?!\s)[\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+(?<!\s)")


def write_coco(file: Path, index: Index, names: Sequence[str]) -> None:
    """COCO's JSON: the index whole, with its ids. `names` are the images' files, N of them."""
    owners, classes = index.image_ids[index.image_of_box].tolist(), [c.id for c in index.categories]
    rows = zip(owners, index.classes.tolist(), index.boxes.tolist(), index.areas.tolist(), index.crowd, strict=True)
    images = zip(index.image_ids.tolist(), names, index.sizes.tolist(), strict=True)
    content: dict[str, Any] = {
        "info": {},  # some readers ask for these two
        "licenses": [],
        "images": [{"id": i, "file_name": name, "width": w, "height": h} for i, name, (w, h) in images],
        "annotations": [
            {"id": k, "image_id": i, "category_id": classes[c], "bbox": box, "area": area, "iscrowd": int(crowd)}
            for k, (i, c, box, area, crowd) in enumerate(rows, 1)
        ],
        "categories": [{"id": c.id, "name": c.name} for c in index.categories],
    }
    create(file, json.dumps(content, separators=(",", ":")))


def write_yolo(images: Path, index: Index, names: Sequence[str]) -> None:
    """YOLO's label files, one for each image below the folder `images`, where Ultralytics looks for them."""
    held, boxes = held_by_yolo(index)
    xywh = boxes / np.maximum(np.tile(index.sizes[index.image_of_box], 2), 1)
    xywh[:, :2] += xywh[:, 2:] / 2
    lines = [" ".join(map(repr, (c, *box))) for c, box in zip(index.classes.tolist(), xywh.tolist(), strict=True)]

    def write(i: int) -> None:
        text = "".join(f"{lines[k]}\n" for k in _boxes_of(index, i) if held[k])
        create(Path(label_path(str(images / names[i]))), text)

    in_threads(write, range(len(index)))


def write_voc(folder: Path, index: Index, names: Sequence[str]) -> None:
    """Pascal VOC's XML files, one for each image, below `folder`; pixels count from 1 and a box includes its last one.

    Raises:
        UserError: if XML cannot hold the name of a class.
    """
    for category in index.categories:
        if not _XML_TEXT.fullmatch(category.name):
            raise UserError(
                f"{index.source}: categories: XML cannot hold the name {category.name!r} (blanks around it, or control "
                "characters); rename the class, or convert to coco or yolo"
            )
    held, boxes = held_by_voc(index)
    corners = np.concatenate((boxes[:, :2] + 1, boxes[:, :2] + boxes[:, 2:]), 1).tolist()

    def write(i: int) -> None:
        root = ElementTree.Element("annotation")
        _add(root, "folder", folder.name)
        _add(root, "filename", names[i].rpartition("/")[2])
        size = _add(root, "size")
        for key, value in zip(("width", "height", "depth"), (*index.sizes[i], 3), strict=True):
            _add(size, key, str(value))
        _add(root, "segmented", "0")
        for k in _boxes_of(index, i):
            if held[k]:
                _add_object(root, index.names[index.classes[k]], bool(index.crowd[k]), corners[k])
        ElementTree.indent(root)
        create(folder / f"{os.path.splitext(names[i])[0]}.xml", ElementTree.tostring(root, encoding="unicode") + "\n")

    in_threads(write, range(len(index)))


def _boxes_of(index: Index, i: int) -> Iterator[int]:
    return iter(range(index.offsets[i], index.offsets[i + 1]))


def _add_object(root: ElementTree.Element, name: str, difficult: bool, corners: list[float]) -> None:
    thing = _add(root, "object")
    _add(thing, "name", name)
    for key, value in (("pose", "Unspecified"), ("truncated", "0"), ("difficult", str(int(difficult)))):
        _add(thing, key, value)
    box = _add(thing, "bndbox")
    for key, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
        _add(box, key, str(int(value)) if value.is_integer() else repr(value))  # many a reader knows whole numbers only


def _add(parent: ElementTree.Element, tag: str, text: str | None = None) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, tag)
    element.text = text
    return element


def create(file: Path, text: str) -> None:
    """Write a new text file, and the folders that it is in.

    Raises:
        OSError: if it is there already, or cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "x", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
