"""From what a user names (a YAML file, a folder, `coco`) to one index for each split."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np

from yolo_cosine.data.coco import read_coco
from yolo_cosine.data.index import Category, Index
from yolo_cosine.data.kept import Kept
from yolo_cosine.data.notes import Note
from yolo_cosine.data.places import expand_home, named_yaml, suggest_name
from yolo_cosine.data.yaml_forms import SPLITS, Reader, yaml_splits
from yolo_cosine.errors import UserError, some_of


@dataclass(frozen=True, eq=False)
class Dataset:
    """Some splits of a data set. They share the categories, which are in the order of the network's outputs."""

    name: str
    categories: tuple[Category, ...]
    splits: Mapping[str, Index]
    notes: tuple[Note, ...]  # what was found wrong or decided, those of all splits

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(category.name for category in self.categories)


def open_dataset(
    spec: str, splits: tuple[str, ...] | None = ("train", "val"), folder: Path | None = None
) -> Dataset:  # fmt: skip
    """Read splits of a data set.

    The categories are those of `train`, or of the first split where `train` is not asked for; another split may list a
    part of them. In every split but `train` an image whose file is missing stays, so that metrics are those of the
    whole annotation file (except with YOLO's labels, which mean nothing without the size of their image).

    Args:
        spec: the path of a data set YAML; a folder in COCO's layout; or a name: `shapes`, or that of a YAML in `data/`.
        splits: of `train`, `val` and `test`; None for all that there are.
        folder: for what takes long to read, which is there at once the next time as long as its files are the same (see
            `Kept`); None to read everything.

    Raises:
        UserError: for whatever is wrong, naming file, value, rule and remedy.
    """
    path = _locate(spec)
    readers = _folder_splits(path) if os.path.isdir(path) else yaml_splits(path)
    splits = tuple(readers) if splits is None else splits
    for split in splits:
        if split not in readers:
            there = f"it has {', '.join(readers)}" if readers else "it has none"
            raise UserError(f"{path}: has no split {split!r}; {there}; add `{split}:` to it")
    kept = Kept(folder)
    indexes = {split: readers[split](kept=kept) for split in splits}
    first = "train" if "train" in splits else splits[0]
    categories = indexes[first].categories
    for split, index in indexes.items():
        if index.categories != categories:
            indexes[split] = _with_categories(index, split, categories, first)
    notes = [note for index in indexes.values() for note in index.notes]
    name = path.resolve().name if os.path.isdir(path) else path.stem
    return Dataset(name, categories, MappingProxyType(indexes), tuple(notes))


def _locate(spec: str) -> Path:
    if spec == "shapes":
        from yolo_cosine.data.shapes import ensure_shapes

        return ensure_shapes()
    if len(spec) > 4000 or "\0" in spec:
        raise UserError(f"data: {spec[:40]!r}... is no file name; name a data set YAML or a folder in COCO's layout")
    path = expand_home(spec, "data")
    if re.fullmatch(r"[\w-][\w.-]*", spec) and path.suffix.lower() not in (".yaml", ".yml"):
        named = named_yaml(spec)
        if named is not None:
            return named
        if not os.path.exists(path):
            raise UserError(f"data: {spec!r} is no file, no folder and no data set of this name; {suggest_name(spec)}")
    if not os.path.isdir(path) and path.suffix.lower() not in (".yaml", ".yml"):
        what = "is no YAML file" if os.path.exists(path) else "there is no such file or folder"
        raise UserError(f"{path}: {what}; name a data set YAML or a folder in COCO's layout")
    return path  # a YAML that is not there is read_yaml's to explain


def _with_categories(index: Index, split: str, wanted: tuple[Category, ...], first: str) -> Index:
    """The same boxes with the classes of the first split, and a note of those that it does not list."""
    by_id, position = ({c.id: c.name for c in wanted}, {c: k for k, c in enumerate(wanted)})
    wrong = [c for c in index.categories if c not in position]
    if wrong:

        def words(c: Category) -> str:
            if c.id in by_id:
                return f"id {c.id} is {c.name!r} in {split} and {by_id[c.id]!r} in {first}"
            return f"{c.name!r} (id {c.id}) is only in {split}"

        raise UserError(
            f"{index.source}: its categories are not those of {first}: {some_of(wrong, words, separator='; ')}; "
            "give both files the same ids and names"
        )
    to = np.array([position[c] for c in index.categories], dtype=np.int64)
    absent = [c.name for c in wanted if c not in index.categories]
    text = (
        f"{index.source}: lists {len(index.categories)} of the {len(wanted)} categories of {first}, "
        f"not {some_of(absent, repr)}"
    )
    note = Note(text, "unlisted-category", absent)
    return replace(index, categories=wanted, classes=to[index.classes], notes=(note, *index.notes))


# --- a folder in COCO's layout ----------------------------------------------------------------------------------------


def _folder_splits(folder: Path) -> dict[str, Reader]:
    readers: dict[str, Reader] = {}
    for split in SPLITS:
        files = sorted((folder / "annotations").glob(f"instances_{split}*.json"))
        if len(files) > 1:
            names = ", ".join(path.name for path in files)
            raise UserError(
                f"{folder}: annotations/ has more than one file for {split}: {names}; "
                "choose one in a data set YAML: `train: {images: FOLDER, annotations: FILE.json}`"
            )
        for path in files:
            year = path.stem.removeprefix("instances_")
            folders = [folder / name for name in (year, split, f"images/{year}", f"images/{split}", "images", ".")]
            readers[split] = partial(read_coco, path, list(dict.fromkeys(folders)), keep_missing=split != "train")
    if not readers:
        yamls = sorted(path.name for path in folder.glob("*.y*ml"))
        remedy = f"name {folder / yamls[0]} instead" if yamls else "for another layout write a data set YAML"
        raise UserError(
            f"{folder}: is no folder in COCO's layout: there is no {folder / 'annotations'}/instances_train*.json; {remedy}"
        )
    return readers
