"""Names for the image files of a converted data set: the old ones wherever they can be.

What a data set calls its files is not to be trusted: a name may be absolute, lead out of its folder, differ from another
one by case only, or be one that the new form cannot write down. No name that leaves here does any of this.
"""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections.abc import Sequence

from yolo_cosine.data.image_files import SUFFIXES

_IMAGE_FOLDERS = ("images", "JPEGImages")
_LONGEST = 255  # bytes of one part of a path, on the file systems in use


def new_names(files: Sequence[str], split: str, *, labelled: bool) -> list[str]:
    """A name for each image of a split: relative, with `/`, below the folder of the split's images.

    No two are equal, nor by case only (the same file of COCO's form twice keeps one name).

    Args:
        files: paths as an index has them, N of them.
        labelled: each image has a label file of its name with another suffix, so names must differ without suffixes,
            end in one of images, and be readable in a list: one in a line, printable, no blanks around, not hidden.
    """
    cut = len(_image_folder(files, split))
    names: dict[str, str] = {}
    numbers: dict[str, int] = {}  # of the names in use, the last number that was put behind one
    result = []
    for file in files:
        if labelled or file not in names:
            names[file] = _free(*_plain(file[cut:], labelled), numbers, labelled)
        result.append(names[file])
    return result


def _plain(file: str, labelled: bool) -> tuple[str, str, str]:
    """Folder, stem and suffix of a name that harms nobody."""
    *folders, last = [_part(part, labelled) for part in file.split("/") if part not in ("", ".", "..")] or ["_"]
    stem, suffix = os.path.splitext(last)
    if labelled and suffix.lower() not in SUFFIXES:
        stem, suffix = last, ".jpg"  # decoders look at what is in the file
    elif len(suffix) > 20:
        stem, suffix = last, ""
    return "".join(f"{folder}/" for folder in folders), (stem.strip(" ") or "_") if labelled else stem, suffix


def _free(folder: str, stem: str, suffix: str, numbers: dict[str, int], labelled: bool) -> str:
    """The name, or the first one with a number behind it that is not in use yet."""

    def key(ending: str) -> str:
        path = folder + _short(stem, ending + suffix) + ending + ("" if labelled else suffix)
        return _key(path)

    ending, first = "", key("")
    while key(ending) in numbers:
        numbers[first] += 1
        ending = f"-{numbers[first]}"
    numbers[key(ending)] = 1
    return folder + _short(stem, ending + suffix) + ending + suffix


def _image_folder(files: Sequence[str], split: str) -> str:
    """What all files begin with up to the last folder called `images`, and the one for the split in it."""
    folders = [file.split("/")[:-1] for file in files]
    pairs = zip(min(folders), max(folders), strict=False)
    common = [part for part, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)]
    last = max((k for k, part in enumerate(common) if part in _IMAGE_FOLDERS), default=-1)
    if last < 0:
        return ""
    if len(common) > last + 1 and re.fullmatch(rf"{split}\d*", common[last + 1]):
        last += 1
    return "".join(f"{part}/" for part in common[: last + 1])


def _part(part: str, labelled: bool) -> str:
    """A folder or file name without what is a separator or a drive elsewhere."""
    part = re.sub(r"[\\\0]", "_", part)
    part = re.sub(r"^([A-Za-z]):", r"\1_", part)
    if labelled:
        part = "".join(c if c.isprintable() else "_" for c in part).strip(" ")
        part = re.sub(r"^\.", "_", part) or "_"
    return _short(part, "")


def _short(stem: str, ending: str) -> str:
    """The stem, cut where with its ending it were too long for a file system."""
    stem = stem[:_LONGEST]
    while stem and len((stem + ending).encode("utf-8", "surrogatepass")) > _LONGEST:
        stem = stem[:-1]
    return stem


def _key(name: str) -> str:
    """Equal for names that are one file on some file system."""
    return unicodedata.normalize("NFC", name.casefold())
