"""What was read from long files or from thousands, kept as columns, so that it is read again only where a file has changed.

A reader gives away the slow part of its work, that which depends on the content of some files and on nothing else, and
does all the rest each time. So what it notes is never remembered, but found again.

A file of columns begins with a line of JSON, name, dtype and shape of each. The columns follow, each from a multiple of
eight bytes on, and last comes a digest of all of it and of what it was made from: what was read, by which version of the
readers, from which files, with their lengths and the times of their last changes. A file that is cut short, damaged, or
made from anything else is taken for none. It is read, not mapped, so that nobody who writes into it later matters.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from yolo_cosine.data.disk import file_stamps
from yolo_cosine.files import FileLock, sync_folder, write_flushed

Columns = Mapping[str, np.ndarray]

_READING = 1  # to be raised when the same files come to be read into other columns
# bytes of a file, and files, from which on reading takes a second: keeping less is no use
_LONG, _MANY = 16 * 2**20, 2000
_SETTLED = 2_000_000_000  # nanoseconds: the coarsest clock of a file system, by which a change could go unseen
_ALIGNED, _FOOT = 8, hashlib.sha256().digest_size


class Kept:
    """Columns in the files of a folder.

    Args:
        folder: made when there is something to keep; None to keep nothing.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def columns(
        self, kind: str, source: str, files: Sequence[str], facts: Sequence[str], read: Callable[[], Columns]
    ) -> Columns:
        """What `read` returns, or what it returned when it was called for the same files before.

        What cannot be kept, as on a full disk or in a folder of somebody else's, is read each time.

        Args:
            kind: what is read, in a word that can stand in a file's name.
            source: what it is read for. New columns of a kind and source take the place of the old ones.
            files: the paths of all files that are read; one may be missing.
            facts: all else that the columns depend on.
            read: raises what it likes, and then nothing is kept.
        """
        if self._folder is None or (len(files) < _MANY and not any(_is_long(file) for file in files)):
            return read()
        began, stamps = time.time_ns(), file_stamps(files)
        of = _digest([str(_READING), kind, source, *facts], files, stamps)
        path = self._folder / f"{kind}-{hashlib.sha256(source.encode(errors='surrogatepass')).hexdigest()[:16]}.columns"
        if (found := read_columns(path, of)) is not None:
            return found
        columns = read()
        # the times are those of before, so whatever changes meanwhile or later will not be taken for this; where clocks are
        # coarse that needs a last change that is a while ago
        if stamps[:, 1:].max() + _SETTLED < began:
            with suppress(OSError):
                _write(path, of, columns)
        return columns


NOTHING_KEPT = Kept()


def _is_long(file: str) -> bool:
    with suppress(OSError):
        return os.stat(file).st_size >= _LONG
    return False


def _digest(facts: Sequence[str], files: Sequence[str], stamps: np.ndarray) -> bytes:
    digest = hashlib.sha256()
    base = "" if all(map(os.path.isabs, files)) else os.getcwd()
    for part in (json.dumps([*facts, base]).encode(), _joined(files), stamps.tobytes()):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


def _write(path: Path, of: bytes, columns: Columns) -> None:
    """Write a file of columns, unless another process is at it.

    Raises:
        OSError: if that cannot be done; what was there stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_suffix(".lock"))
    if not lock.take():
        return
    try:
        if lock.held:
            for left in path.parent.glob(f"{path.stem}.*.unfinished"):  # by a process that was killed
                left.unlink()
        # a name of its own: where there are no locks, another process may write the same
        beside = path.with_suffix(f".{uuid.uuid4().hex[:12]}.unfinished")
        write_flushed(beside, file_of_columns(of, columns))
        os.replace(beside, path)
        sync_folder(path.parent)
    finally:
        lock.release()


# --- a file of columns ------------------------------------------------------------------------------------------------


def file_of_columns(of: bytes, columns: Columns) -> Iterator[bytes | memoryview]:
    """The parts of a file of columns of numbers or booleans; `of` is a digest of what they were made from."""
    arrays = {name: np.ascontiguousarray(array) for name, array in columns.items()}
    head = json.dumps([[name, array.dtype.str, array.shape] for name, array in arrays.items()]).encode()
    digest = hashlib.sha256(of)
    for part in (head + b"\n", *(array.reshape(-1).view(np.uint8).data for array in arrays.values())):
        for piece in (part, bytes(-len(part) % _ALIGNED)):
            digest.update(piece)
            yield piece
    yield digest.digest()


def read_columns(path: Path, of: bytes) -> Columns | None:
    """The read-only columns of a file; None where there is none, or it is not whole or was not made from `of`."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, end = hashlib.sha256(of), len(content) - _FOOT
    digest.update(memoryview(content)[: max(end, 0)])
    if content[max(end, 0) :] != digest.digest():
        return None
    place, columns = content.index(b"\n") + 1, {}
    for name, dtype, shape in json.loads(content[:place]):
        place += -place % _ALIGNED
        columns[name] = np.frombuffer(content, dtype, math.prod(shape), place).reshape(shape)
        place += columns[name].nbytes
    return columns


def packed(texts: Sequence[str]) -> np.ndarray:
    """(bytes,) uint8: texts without NUL, as a column."""
    return np.frombuffer(_joined(texts), dtype=np.uint8)


def unpacked(column: np.ndarray) -> list[str]:
    """The texts of a column."""
    return column.tobytes().decode("utf-8", "surrogatepass").split("\0")[:-1]


def _joined(texts: Sequence[str]) -> bytes:
    """Texts one after another, each ended by a NUL; those too that are half a character."""
    return "".join(f"{text}\0" for text in texts).encode("utf-8", "surrogatepass")
