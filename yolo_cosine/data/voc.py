"""Pascal VOC's XML annotations to an index (http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/)."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from yolo_cosine.data.image_files import SUFFIXES, check_images, in_threads
from yolo_cosine.data.index import Category, Index, build_index
from yolo_cosine.data.notes import IGNORED, Note
from yolo_cosine.errors import UserError


@dataclass(frozen=True)
class VocPart:
    """One year or set of VOC: its folders, and the list of its images (None: all that have an XML file).

    A list may name images in sub-folders, as `sub/name`, which both folders then have.
    """

    images: Path
    annotations: Path
    list: Path | None = None


@dataclass(frozen=True)
class VocObject:
    """One object of an XML file."""

    name: str
    xywh: tuple[float, float, float, float]  # pixels, from 0
    difficult: bool


@dataclass(frozen=True)
class VocFile:
    """One XML file."""

    path: Path
    filename: str  # what it calls its image; empty where it says nothing
    size: tuple[int, int]  # width and height, pixels; 0 where it says nothing
    objects: tuple[VocObject, ...]


def read_voc(
    source: str,
    root: Path,
    parts: Sequence[VocPart],
    categories: tuple[Category, ...],
    *,
    one_based: bool = True,
    keep_missing: bool = False,
) -> Index:
    """Read XML files and find the image of each.

    Objects that are marked difficult become regions to ignore (crowds), and a note counts them. Images have the ids
    1, 2, ... in the order of the parts, and in a part that of its list, or of the files' names without one.

    Args:
        source: what to call the split in messages.
        root: folder that the images' paths are relative to.
        categories: in the order of the network's outputs.
        one_based: boxes count pixels from 1 and include the last one, as VOC has them; False for tools that write the
            edges of the box, counted from 0.
        keep_missing: keep an image whose file is missing (see `check_images`).

    Raises:
        UserError: for whatever is wrong with a file, naming file, value, rule and remedy.
    """
    read = partial(read_xml, names=[category.name for category in categories], one_based=one_based)
    xmls: list[VocFile] = []
    files: list[str] = []
    for part in parts:
        find = _picture_finder(part)
        of_part = in_threads(read, _xml_paths(source, part))
        folder = Path(os.path.relpath(part.images, root)).as_posix()
        xmls += of_part
        files += [f"{folder}/{find(xml)}" for xml in of_part]
    sizes = np.array([xml.size for xml in xmls], dtype=np.int64)
    images = check_images(source, root, files, sizes, keep_missing=keep_missing)
    position = {category.name: k for k, category in enumerate(categories)}
    rows, annotations = [], []
    for image_id, i in enumerate(images.used, start=1):
        rows.append((image_id, files[i], *(int(v) for v in images.sizes[i])))
        for thing in xmls[i].objects:
            area = thing.xywh[2] * thing.xywh[3]
            annotations.append((image_id, position[thing.name], thing.xywh, area, thing.difficult))
    notes = images.notes
    if difficult := [files[images.used[image_id - 1]] for image_id, *_, crowd in annotations if crowd]:
        text = f"{source}: {len(difficult)} object(s) are marked difficult: {IGNORED}"
        notes += (Note(text, "difficult", difficult),)
    return build_index(source, root, rows, annotations, categories, notes)


# --- which files ------------------------------------------------------------------------------------------------------


def _xml_paths(source: str, part: VocPart) -> list[Path]:
    if not os.path.isdir(part.annotations):
        raise UserError(
            f"{source}: annotations: {part.annotations}: there is no such folder; name that of the XML files"
        )
    found = sorted(part.annotations.glob("*.xml") if part.list is None else part.annotations.rglob("*.xml"))
    there = {path.relative_to(part.annotations).as_posix().removesuffix(".xml"): path for path in found}
    if not there:
        raise UserError(f"{source}: annotations: {part.annotations}: holds no XML file; name the folder that does")
    if part.list is None:
        return list(there.values())
    try:
        lines = [line.strip() for line in part.list.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{source}: list: {part.list}: cannot be read: {error}; name a text file of names") from None
    # the lists of one class have a second column, 1, 0 or -1
    stems = dict.fromkeys(line if line in there else line.split()[0] for line in lines if line)
    missing = [stem for stem in stems if stem not in there]
    if missing:
        raise UserError(
            f"{part.list}: names {missing[0]!r}, and there is no {part.annotations / missing[0]}.xml "
            f"({len(missing)} of {len(stems)} names are like it); add the file or remove the line"
        )
    if not stems:
        raise UserError(f"{part.list}: names no image; write one name without suffix in each line")
    return [there[stem] for stem in stems]


def _picture_finder(part: VocPart) -> Callable[[VocFile], str]:
    """What finds the image of an XML file, below the part's images: the one that has its name, in the same sub-folder;
    failing that the one that the XML names, which is often out of date."""
    found = sorted(
        os.path.relpath(os.path.join(folder, name), part.images).replace(os.sep, "/")
        for folder, _, names in os.walk(part.images)
        for name in names
        if os.path.splitext(name)[1].lower() in SUFFIXES
    )
    by_stem, by_name = {os.path.splitext(file)[0]: file for file in found}, {file: file for file in found}

    def find(xml: VocFile) -> str:
        own = xml.path.relative_to(part.annotations).as_posix().removesuffix(".xml")
        said = f"{own.rpartition('/')[0]}/{xml.filename}".lstrip("/")
        return by_stem.get(own) or by_name.get(said) or by_stem.get(said) or f"{own}.jpg"

    return find


# --- one file ---------------------------------------------------------------------------------------------------------


class _WithoutDoctype(ElementTree.TreeBuilder):
    """A document type can define entities that expand without bound; an annotation has no use for one."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise UserError("has a DOCTYPE, which an annotation does not need and is not read; remove the line")


def read_xml(path: Path, names: Sequence[str], one_based: bool = True) -> VocFile:
    """Parse one annotation file.

    Raises:
        UserError: if it is no XML, has a DOCTYPE, or an object has no box or an unknown name.
    """
    parser = ElementTree.XMLParser(target=_WithoutDoctype())
    try:
        document = ElementTree.parse(path, parser).getroot()
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the latter two: encodings
        raise UserError(f"{path}: is no XML: {error}; write or download it again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error}; mend or remove it") from None
    if document.tag != "annotation":
        raise UserError(
            f"{path}: is no annotation of VOC: its root is <{document.tag}>, not <annotation>; get the right file"
        )
    size = tuple(_pixels(document.findtext(f"size/{side}")) for side in ("width", "height"))
    objects = tuple(
        _object(element, f"{path}: object {k}", names, one_based)
        for k, element in enumerate(document.findall("object"), 1)
    )
    filename = (document.findtext("filename") or "").strip().replace("\\", "/")
    return VocFile(path, filename.rpartition("/")[2], size, objects)


def _pixels(text: str | None) -> int:
    """0 for what says nothing: the header of the image does."""
    try:
        value = float(text or 0)
    except ValueError:
        return 0
    return int(value) if 0 < value < 2**31 else 0


def _object(element: ElementTree.Element, place: str, names: Sequence[str], one_based: bool) -> VocObject:
    name = (element.findtext("name") or "").strip()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the classes are {', '.join(names[:20])}"
        raise UserError(f"{place}: name: {name!r} is not in `names`; {hint}")
    corners = []
    for key in ("xmin", "ymin", "xmax", "ymax"):
        text = element.findtext(f"bndbox/{key}")
        try:
            corners.append(float(text or ""))
            if not math.isfinite(corners[-1]):
                raise ValueError
        except ValueError:
            found = "missing" if text is None else repr(text)
            raise UserError(
                f"{place}: bndbox.{key}: {found}; must be a finite number of pixels; mend or remove it"
            ) from None
    xmin, ymin, xmax, ymax = corners
    if one_based:
        xmin, ymin = xmin - 1, ymin - 1
    difficult = (element.findtext("difficult") or "0").strip().lower() in ("1", "true")
    return VocObject(name, (xmin, ymin, xmax - xmin, ymax - ymin), difficult)
