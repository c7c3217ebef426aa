"""Pascal VOC's XML annotations to an index (http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/)."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from yolo_cosine.data.disk import in_threads
from yolo_cosine.data.image_files import SUFFIXES, check_images
from yolo_cosine.data.index import Category, Index
from yolo_cosine.data.kept import NOTHING_KEPT, Columns, Kept, packed, unpacked
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
    kept: Kept = NOTHING_KEPT,
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
        kept: what the files held when they were read before.

    Raises:
        UserError: for whatever is wrong with a file, naming file, value, rule and remedy.
    """
    stems = [_stems(source, part) for part in parts]
    xmls = [_xml_path(part, stem) for part, own in zip(parts, stems, strict=True) for stem in own]
    names = [category.name for category in categories]
    facts = [str(one_based), *names]
    found = kept.columns(
        "xml", f"{source}\0{os.path.abspath(root)}", xmls, facts, lambda: _columns(xmls, names, one_based)
    )
    named, files = iter(unpacked(found["filenames"])), []
    for part, own in zip(parts, stems, strict=True):
        find, folder = _picture_finder(part), Path(os.path.relpath(part.images, root)).as_posix()
        files += [f"{folder}/{find(stem, next(named))}" for stem in own]
    images = check_images(source, root, files, found["sizes"], keep_missing=keep_missing, kept=kept)
    boxes = found["xywh"]
    index = Index(
        source=source,
        root=root,
        files=tuple(files),
        image_ids=np.arange(1, len(files) + 1),
        sizes=images.sizes,
        offsets=np.concatenate(([0], np.cumsum(found["counts"]))),
        boxes=boxes,
        classes=found["class"],
        crowd=found["difficult"],
        areas=boxes[:, 2] * boxes[:, 3],
        categories=categories,
        notes=images.notes,
    )
    if len(images.used) < len(index):
        index = replace(index.subset(images.used), image_ids=np.arange(1, len(images.used) + 1))
    if index.crowd.any():
        difficult = [index.files[i] for i in index.image_of_box[index.crowd]]
        note = Note(f"{source}: {len(difficult)} object(s) are marked difficult: {IGNORED}", "difficult", difficult)
        index = replace(index, notes=(*index.notes, note))
    return index


def _columns(paths: Sequence[str], names: Sequence[str], one_based: bool) -> Columns:
    """What N XML files hold, M objects: `filenames`, (N, 2) `sizes` and (N,) `counts`, and for each object `class`, `xywh`
    and `difficult`, as in `VocFile` and `VocObject`."""
    xmls = in_threads(partial(read_xml, names=names, one_based=one_based), paths)
    objects = [thing for xml in xmls for thing in xml.objects]
    position = {name: k for k, name in enumerate(names)}
    return {
        "filenames": packed([xml.filename for xml in xmls]),
        "sizes": np.array([xml.size for xml in xmls], dtype=np.int64).reshape(-1, 2),
        "counts": np.array([len(xml.objects) for xml in xmls], dtype=np.int64),
        "class": np.array([position[thing.name] for thing in objects], dtype=np.int64),
        "xywh": np.array([thing.xywh for thing in objects], dtype=np.float64).reshape(-1, 4),
        "difficult": np.array([thing.difficult for thing in objects], dtype=bool),
    }


# --- which files ------------------------------------------------------------------------------------------------------


def _xml_path(part: VocPart, stem: str) -> str:
    return os.path.join(part.annotations, f"{stem}.xml")


def _stems(source: str, part: VocPart) -> list[str]:
    """The names of a part's XML files without the suffix, below its folder, in the order of its images."""
    if not os.path.isdir(part.annotations):
        raise UserError(
            f"{source}: annotations: {part.annotations}: there is no such folder; name that of the XML files"
        )
    found = sorted(os.listdir(part.annotations)) if part.list is None else _below(part.annotations, {".xml"})
    there = dict.fromkeys(name.removesuffix(".xml") for name in found if name.endswith(".xml"))
    if not there:
        raise UserError(f"{source}: annotations: {part.annotations}: holds no XML file; name the folder that does")
    if part.list is None:
        return list(there)
    try:
        lines = [line.strip() for line in part.list.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{source}: list: {part.list}: cannot be read: {error}; name a text file of names") from None
    # the lists of one class have a second column, 1, 0 or -1
    stems = dict.fromkeys(line if line in there else line.split()[0] for line in lines if line)
    missing = [stem for stem in stems if stem not in there]
    if missing:
        raise UserError(
            f"{part.list}: names {missing[0]!r}, and there is no {_xml_path(part, missing[0])} "
            f"({len(missing)} of {len(stems)} names are like it); add the file or remove the line"
        )
    if not stems:
        raise UserError(f"{part.list}: names no image; write one name without suffix in each line")
    return list(stems)


def _below(folder: Path, suffixes: Collection[str]) -> list[str]:
    """The files below a folder whose suffix is one of these, as `sub/name`."""
    found = []
    for place, _, names in os.walk(folder):
        sub = Path(os.path.relpath(place, folder)).as_posix()
        chosen = [name for name in names if os.path.splitext(name)[1].lower() in suffixes]
        found += chosen if sub == "." else [f"{sub}/{name}" for name in chosen]
    return found


def _picture_finder(part: VocPart) -> Callable[[str, str], str]:
    """What finds the image of an XML file, below the part's images, by the file's stem and the name that stands in it: the
    one that has its stem, in the same sub-folder; failing that the one that it names, which is often out of date."""
    found = sorted(_below(part.images, SUFFIXES))
    by_stem, by_name = {os.path.splitext(file)[0]: file for file in found}, {file: file for file in found}

    def find(own: str, filename: str) -> str:
        said = f"{own.rpartition('/')[0]}/{filename}".lstrip("/")
        return by_stem.get(own) or by_name.get(said) or by_stem.get(said) or f"{own}.jpg"

    return find


# --- one file ---------------------------------------------------------------------------------------------------------


class _WithoutDoctype(ElementTree.TreeBuilder):
    """A document type can define entities that expand without bound; an annotation has no use for one."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise UserError("has a DOCTYPE, which an annotation does not need and is not read; remove the line")


def read_xml(path: str | Path, names: Sequence[str], one_based: bool = True) -> VocFile:
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
    return VocFile(filename.rpartition("/")[2], size, objects)


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
