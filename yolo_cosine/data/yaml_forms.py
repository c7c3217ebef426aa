"""Data set YAMLs to a reader for each split that they declare.

They come in three forms, told apart by what they hold: `format: voc` is Pascal VOC; a split that is a mapping
(`train: {images: ..., annotations: ...}`) is COCO's JSON; a split that is a folder or a list of images is YOLO's text
labels, as in Ultralytics' YAMLs. `path` is where the data is; all other paths are below it.

The latter two may name, in `coco`, COCO JSON files for what their labels have no place for (see `exact.py`).
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from yolo_cosine.config.load import read_yaml, validate
from yolo_cosine.data.coco import read_coco
from yolo_cosine.data.exact import Held, held_by_voc, held_by_yolo, restore
from yolo_cosine.data.index import Category, Index
from yolo_cosine.data.kept import NOTHING_KEPT, Kept
from yolo_cosine.data.places import expand_home, expand_variables
from yolo_cosine.data.voc import VocPart, read_voc
from yolo_cosine.data.yolo import label_path, read_yolo
from yolo_cosine.errors import UserError

SPLITS = ("train", "val", "test")


class Reader(Protocol):
    """Reads a split; `kept` is what earlier readings of it have left."""

    def __call__(self, *, kept: Kept = NOTHING_KEPT) -> Index: ...


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _CocoYaml(_Strict):
    path: str | None = None
    fetch: Any = None  # where to download it: another program's business
    train: dict[str, Any] | None = None
    val: dict[str, Any] | None = None
    test: dict[str, Any] | None = None


class _CocoSplit(_Strict):
    images: str
    annotations: str


class _VocYaml(_Strict):
    format: Literal["voc"]
    path: str | None = None
    names: list[Any] | dict[Any, Any]
    one_based: bool = True
    coco: dict[str, Any] | None = None  # exact annotations beside the labels: a COCO split for each split
    fetch: Any = None
    train: dict[str, Any] | list[dict[str, Any]] | None = None
    val: dict[str, Any] | list[dict[str, Any]] | None = None
    test: dict[str, Any] | list[dict[str, Any]] | None = None


class _VocSplit(_Strict):
    images: str
    annotations: str
    list: str | None = None


class _YoloYaml(BaseModel):
    # Ultralytics' YAMLs carry keys for other tasks and tools (channels, flip_idx, download, ...)
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)
    path: str | None = None
    train: str | list[str] | None = None
    val: str | list[str] | None = None
    test: str | list[str] | None = None
    names: list[Any] | dict[Any, Any]
    nc: int | None = None
    kpt_shape: list[int] | None = None
    coco: dict[str, Any] | None = None


def yaml_splits(path: Path) -> dict[str, Reader]:
    """What reads each split of a data set YAML; nothing but the YAML is read before it is called.

    Raises:
        UserError: if the YAML is wrong, or its `path` is no folder.
    """
    content = read_yaml(path)
    if not any(content.get(split) for split in SPLITS):
        raise UserError(
            f"{path}: is no data set YAML: it has none of the keys train, val and test; write at least train"
        )
    if "format" in content:
        if content["format"] != "voc":
            raise UserError(
                f"{path}: format: {content['format']!r} should be 'voc'; for COCO and YOLO leave the key out"
            )
        return _voc_splits(content, path)
    if any(isinstance(content.get(split), dict) for split in SPLITS):
        return _coco_splits(content, path)
    return _yolo_splits(content, path)


def _coco_splits(content: dict[str, Any], path: Path) -> dict[str, Reader]:
    config = _checked(content, str(path), _CocoYaml)
    root = _root(content, path)
    readers: dict[str, Reader] = {}
    for split in SPLITS:
        if (value := getattr(config, split)) is not None:
            part = _checked(value, f"{path}: {split}", _CocoSplit)
            json, folders = root / part.annotations, (root / part.images,)
            readers[split] = partial(read_coco, json, folders, keep_missing=split != "train")
    return readers


def _voc_splits(content: dict[str, Any], path: Path) -> dict[str, Reader]:
    config = _checked(content, str(path), _VocYaml)
    root, categories = _root(content, path), _categories(config.names, str(path))
    readers: dict[str, Reader] = {}
    for split in SPLITS:
        if not (value := getattr(config, split)):
            continue
        source = f"{path}: {split}"
        checked = [_checked(part, source, _VocSplit) for part in ([value] if isinstance(value, dict) else value)]
        parts = [
            VocPart(root / part.images, root / part.annotations, root / part.list if part.list else None)
            for part in checked
        ]
        read = partial(
            read_voc, source, root, parts, categories, one_based=config.one_based, keep_missing=split != "train"
        )
        # an image that no XML speaks of is gone
        readers[split] = _restored(read, config.coco, path, root, split, held=held_by_voc, stays=lambda _: False)
    return readers


def _yolo_splits(content: dict[str, Any], path: Path) -> dict[str, Reader]:
    if "validation" in content and "val" not in content:  # the older spelling
        content = {**content, "val": content["validation"]}
    config = _complete(content, str(path), _YoloYaml)
    categories = _categories(config.names, str(path))
    if config.nc is not None and config.nc != len(categories):
        raise UserError(f"{path}: nc: {config.nc} is not the number of names, {len(categories)}; mend one or remove nc")
    root = _root(content, path).resolve()
    keypoints = config.kpt_shape[0] * config.kpt_shape[1] if config.kpt_shape and len(config.kpt_shape) == 2 else 0
    readers: dict[str, Reader] = {}
    for split in SPLITS:
        if value := getattr(config, split):
            source = f"{path}: {split}"
            values = [value] if isinstance(value, str) else value
            read = partial(_read_yolo_split, source, root, values, categories, keypoints)
            readers[split] = _restored(read, config.coco, path, root, split, held=held_by_yolo, stays=_has_labels)
    return readers


def _read_yolo_split(
    source: str, root: Path, values: Sequence[str], categories: tuple[Category, ...], keypoints: int,
    *, kept: Kept = NOTHING_KEPT,
) -> Index:  # fmt: skip
    entries = []
    for value in values:
        # exports of Roboflow write ../train/images for what is train/images
        tried = [(root / v).resolve() for v in dict.fromkeys((value, value.removeprefix("../")))]
        entry = next((path for path in tried if os.path.exists(path)), None)
        if entry is None:
            shown = " and ".join(map(str, tried))
            raise UserError(f"{source}: {value!r}: there is no such folder or list; looked for {shown}; mend the path")
        entries.append(entry)
    return read_yolo(source, root, entries, categories, keypoint_columns=keypoints, kept=kept)


def _has_labels(image: Path) -> bool:
    return os.path.exists(label_path(str(image)))


def _restored(
    read: Reader,
    coco: Mapping[str, Any] | None,
    yaml: Path,
    root: Path,
    split: str,
    *,
    held: Held,
    stays: Callable[[Path], bool],
) -> Reader:
    """A reader of label files that looks into the COCO JSON beside them, where the YAML names one for the split."""
    if not coco or split not in coco:
        return read
    source = f"{yaml}: coco: {split}"
    if not isinstance(coco[split], dict):
        raise UserError(f"{source}: {coco[split]!r} is no mapping; write {{images: FOLDER, annotations: FILE.json}}")
    part = _checked(coco[split], source, _CocoSplit)
    json, images = root / part.annotations, root / part.images

    def restored(*, kept: Kept = NOTHING_KEPT) -> Index:
        exact = partial(read_coco, json, (images,), keep_missing=split != "train", kept=kept)
        return restore(read(kept=kept), json, exact, held, stays=stays)

    return restored


# --- what the forms share ---------------------------------------------------------------------------------------------


def _checked(content: Mapping[str, Any], source: str, schema: type[BaseModel]) -> Any:
    for key in content:
        if key not in schema.model_fields:
            near = difflib.get_close_matches(str(key), schema.model_fields, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(schema.model_fields)}"
            raise UserError(f"{source}: {key}: there is no such key; {hint}")
    return _complete(content, source, schema)


def _complete(content: Mapping[str, Any], source: str, schema: type[BaseModel]) -> Any:
    missing = [key for key, field in schema.model_fields.items() if field.is_required() and key not in content]
    if missing:
        raise UserError(f"{source}: {missing[0]}: missing; write `{missing[0]}: ...`")
    return validate(content, source, schema)


def _root(content: Mapping[str, Any], yaml: Path) -> Path:
    """The folder that `path` means: relative to the YAML's folder, or else to the current one."""
    text = content.get("path")
    if text is None:
        return yaml.parent
    path = expand_home(expand_variables(text, f"{yaml}: path"), f"{yaml}: path")
    tried = list(dict.fromkeys((yaml.parent / path, Path.cwd() / path)))
    for root in tried:
        if os.path.isdir(root):  # also where the path is too long to be one
            return root
    remedy = "put the data there or mend the path"
    if content.get("fetch"):
        remedy = f"`python -m yolo_cosine.dataset fetch {yaml}` downloads it"
    elif content.get("download"):
        remedy = "get the data by hand: what `download:` says is never run"
    shown = " and ".join(str(root) for root in tried)
    raise UserError(f"{yaml}: path: {text!r}: there is no such folder; looked for {shown}; {remedy}")


def _categories(names: list[Any] | dict[Any, Any], source: str) -> tuple[Category, ...]:
    """Classes 0, 1, ... with their number as id."""
    if isinstance(names, dict):
        if sorted(map(str, names), key=lambda k: (len(k), k)) != [str(k) for k in range(len(names))]:
            raise UserError(
                f"{source}: names: its keys are not 0 to {len(names) - 1}, each once; number the classes from 0"
            )
        names = [name for _, name in sorted(names.items(), key=lambda item: int(item[0]))]
    for k, name in enumerate(names):
        if not isinstance(name, str | int | float) or isinstance(name, bool) or not str(name).strip():
            raise UserError(f"{source}: names: {k}: {name!r} is no name; write text, in quotes where YAML needs them")
    texts = [str(name) for name in names]
    if not texts:
        raise UserError(f"{source}: names: is empty; write the names of the classes, in the order of their numbers")
    twice = next((name for k, name in enumerate(texts) if name in texts[:k]), None)
    if twice is not None:
        raise UserError(f"{source}: names: {twice!r} stands twice; each class needs its own name")
    return tuple(Category(k, name) for k, name in enumerate(texts))
