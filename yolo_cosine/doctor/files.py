"""Checks of the image files, and of what the readers of the annotations have to say."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from yolo_cosine.data.cache import UNREADABLE_IN_EVALUATION, UNREADABLE_IN_TRAINING
from yolo_cosine.data.notes import IGNORED
from yolo_cosine.doctor.finding import Example, Finding, Image, Severity
from yolo_cosine.doctor.snapshot import Snapshot, Split

# What readers note, by its kind: severity, what it is (after the count), and the remedy.
_NOTED: dict[str, tuple[Severity, str, str]] = {
    "missing-file": (
        "error",
        "image(s) of the annotations have no file",
        "restore the files, or remove the images from the annotations",
    ),
    "unreadable-header": (
        "error",
        "image(s) have a header that cannot be read",
        "restore the files from their source, or remove them",
    ),
    "repeated-annotation-id": (
        "note",
        "annotation(s) have an id that another has too",
        "number them anew if other programs are to read the file",
    ),
    "repeated-file": (
        "warning",
        "image(s) name a file that another image of the split names too",
        "merge the two entries: each is trained on without the boxes of the other",
    ),
    "repeated-listing": ("note", "image(s) are listed more than once", "none is needed"),
    "unread-format": ("warning", "picture(s) are of a kind that is not read", "convert them to JPEG or PNG"),
    "label-over-edge": (
        "warning",
        "line(s) of label files reach over the image's edge",
        "check the tool that wrote them: corners taken for centres look like this",
    ),
    "difficult": ("note", "object(s) are marked difficult", "none is needed; remove the mark to train on them"),
    "labels-changed": (
        "note",
        "image(s) have other labels than the exact annotations beside them",
        "none is needed; convert the data set anew to have ids and areas for them too",
    ),
    "exact-unused": (
        "warning",
        "file(s) of exact annotations (`coco:` in the YAML) are not used",
        "restore them, or take `coco` out of the YAML",
    ),
    "unlisted-category": (
        "warning",
        "class(es) of the first split are not listed in this one",
        "give both files the same categories",
    ),
}


_FILE_IS_BAD = ("missing-file", "unreadable-header")


def check_notes(snapshot: Snapshot) -> Iterator[Finding]:
    """What was noted while the annotations were read; training shows the same sentences."""
    for split in snapshot.splits.values():
        position = {file: i for i, file in enumerate(split.index.files)}
        for note in split.index.notes:
            severity, what, remedy = _NOTED.get(note.kind, ("warning", "oddity(ies) of the files", "see the note"))
            looked_at = note.kind not in _FILE_IS_BAD
            examples = tuple(
                Example(place, image=Image(split.name, position[place]) if looked_at and place in position else None)
                for place in note.places or (split.index.source,)
            )
            yield Finding(note.kind, severity, split.name, what, examples, str(note), remedy)


def check_decoding(snapshot: Snapshot) -> Iterator[Finding]:
    """Files that do not decode, or not to their end."""
    for split in snapshot.splits.values():
        noted = {place for note in split.index.notes if note.kind in _FILE_IS_BAD for place in note.places}
        unreadable, truncated = [], []
        for i, (file, picture) in enumerate(zip(split.index.files, split.pictures, strict=True)):
            if not picture.readable and file not in noted:
                unreadable.append(Example(file, picture.damage))
            elif picture.readable and picture.damage:
                truncated.append(Example(file, picture.damage, Image(split.name, i)))
        if unreadable:
            training = (
                f"in training {UNREADABLE_IN_TRAINING}" if split.trains else f"in evaluation {UNREADABLE_IN_EVALUATION}"
            )
            what = "image(s) cannot be read"
            remedy = "restore the files from their source, or remove the images from the annotations"
            yield Finding("unreadable-image", "error", split.name, what, tuple(unreadable), training, remedy)
        if truncated:
            training = "the part that is there is used, with all boxes; where data is missing the picture is grey"
            what, remedy = "image(s) do not decode to their end", "restore the files from their source"
            yield Finding("truncated-image", "error", split.name, what, tuple(truncated), training, remedy)


def check_sizes(snapshot: Snapshot) -> Iterator[Finding]:
    """Width and height of the annotations against the picture, and what EXIF orientation has to do with it."""
    for split in snapshot.splits.values():
        wrong, turned, kept, unclear = [], [], [], []
        for i, picture in enumerate(split.pictures):
            if not picture.readable:
                continue
            annotated = tuple(int(v) for v in split.index.sizes[i])
            text = (
                f"{annotated[0]}x{annotated[1]} in the annotations, {picture.size[0]}x{picture.size[1]} in the picture"
            )
            exif, swaps = f"EXIF orientation {picture.orientation}", picture.orientation > 4
            case: list[Example] | None = None
            if annotated == picture.size:
                if picture.orientation > 1:
                    tells = swaps and annotated[0] != annotated[1]
                    case, text = (turned if tells else unclear), exif
            elif swaps and annotated == picture.size[::-1]:
                case, text = kept, exif
            else:
                case = wrong
            if case is not None:
                case.append(Example(split.index.files[i], text, Image(split.name, i), _boxes(split, i)))
        for kind, severity, what, examples, training, remedy in (
            (
                "wrong-size", "error", "image(s) have another size than the annotations say", wrong,
                "boxes are taken as fractions of the size in the annotations: right if the picture was resized as a "
                "whole, wrong if it was cropped, turned or exchanged",
                "write the picture's own width and height, and scale its boxes if it was resized",
            ),
            (
                "exif-turned", "note", "image(s) are turned by EXIF, and annotated as shown", turned,
                "EXIF orientation is applied", "none is needed",
            ),
            (
                "exif-ignored", "note", "image(s) are turned by EXIF, and annotated as stored", kept,
                "EXIF orientation is not applied: width and height of the annotations are those of the stored picture",
                "none is needed here; other programs turn the picture away from its boxes, so save it without EXIF",
            ),
            (
                "exif-unclear", "warning", "image(s) are turned by EXIF, and sizes do not tell how they were annotated",
                unclear, "EXIF orientation is applied",
                "see whether the boxes lie on their objects; if not, save the picture without EXIF",
            ),
        ):  # fmt: skip
            if examples:
                yield Finding(kind, severity, split.name, what, tuple(examples), training, remedy)


def check_empty(snapshot: Snapshot) -> Iterator[Finding]:
    """Images without objects, and splits without any."""
    for split in snapshot.splits.values():
        empty = np.flatnonzero(np.diff(split.index.offsets) == 0)
        if len(empty):
            examples = tuple(Example(split.index.files[i], image=Image(split.name, int(i))) for i in empty)
            training = (
                "they are used as background" if split.trains else "every detection on them counts as a false one"
            )
            what, remedy = "image(s) have no objects", "none is needed if nothing is on them; else annotate them"
            yield Finding("empty-image", "note", split.name, what, examples, training, remedy)
        if split.labels.crowd.all() if split.trains else split.index.crowd.all():
            what = f"split has no box to {'train on' if split.trains else 'evaluate by'}"
            training = "there are no metrics on it" if split.name == "test" else "a run does not start"
            training += f" (crowds are {IGNORED}, boxes without area left out)" if len(split.index.boxes) else ""
            remedy = "annotate some images, or name another split"
            yield Finding("no-boxes", "error", split.name, what, (Example(split.index.source),), training, remedy)


def _boxes(split: Split, i: int) -> tuple[tuple[float, float, float, float], ...]:
    return tuple(map(tuple, split.index.boxes[split.index.offsets[i] : split.index.offsets[i + 1]].tolist()))
