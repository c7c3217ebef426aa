"""What is found wrong with a data set while it is read, as a sentence that also knows its facts."""

from __future__ import annotations

from collections.abc import Iterable

IGNORED = "taken as regions to ignore"  # what becomes of crowds, for all who speak of them


class Note(str):
    """What was found wrong with a split, and what becomes of it.

    It is text wherever text is wanted, and names a few places; the attributes hold all of them.

    Attributes:
        kind: a slug that stays, such as `missing-file`.
        places: whatever is concerned: image files below the index's root, lines of label files, ids, categories.
        boxes: where boxes are concerned, the position of each in the index, in the order of `places`.
    """

    __slots__ = ("boxes", "kind", "places")

    kind: str
    places: tuple[str, ...]
    boxes: tuple[int, ...]

    def __new__(cls, text: str, kind: str = "other", places: Iterable[str] = (), boxes: Iterable[int] = ()) -> Note:
        note = super().__new__(cls, text)
        note.kind, note.places, note.boxes = kind, tuple(places), tuple(int(k) for k in boxes)
        return note
