"""Decoded images that all runs share: which file they are in, and who builds it.

The first process that wants the images of a split at some size builds their file, and the others wait for it. Whatever
becomes of the one that builds, no part of a file is ever taken for the whole: it is written beside and renamed at the end.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

import cv2
import numpy as np

from yolo_cosine.data.disk import file_stamps, in_threads
from yolo_cosine.data.index import Index
from yolo_cosine.data.mapped import MappedImages, open_mapped, write_mapped
from yolo_cosine.errors import UserError, some_of
from yolo_cosine.files import FileLock, sync_folder

_DECODING = 1  # to be raised when the same files come to be decoded into other pixels, or laid out in another way
_SHARE = 0.9  # of the free disk may be filled: runs save themselves there, too
_READ = 16  # files whose content is part of a print
_LOOK = 0.2  # seconds between two looks at whether the process that builds has ended

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}

Images = Generator[np.ndarray | None, None, None]


def decoding_print(index: Index, size: int) -> str:
    """A digest of what the decoded images depend on, 64 letters; the folder that they lie in is not part of it.

    The files count by their names, order, lengths in bytes and times of their last change, and some by their content:
    pictures that are not compressed are of one length, and an archive may have set all times to one. The annotated sizes
    are part of it, for they decide whether a picture is turned, and so is the decoder, down to the instructions that it
    can use here: a cluster may have several kinds of machines.
    """
    paths = index.paths()
    some = np.unique(np.linspace(0, len(paths) - 1, _READ).round().astype(int)) if paths else ()
    digest = hashlib.sha256()
    for part in (
        f"{_DECODING} {size} {cv2.getBuildInformation()} {cv2.getCPUFeaturesLine()}".encode(),
        "\0".join(index.files).encode(errors="surrogatepass"),
        file_stamps(paths)[:, :2].tobytes(),  # length and last change
        b"".join(in_threads(_content, [paths[i] for i in some])),
        np.ascontiguousarray(index.sizes).tobytes(),
    ):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def _content(path: str) -> bytes:
    """A digest of a file, 32 bytes; that of nothing where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).digest()
    except (OSError, ValueError):
        return hashlib.sha256().digest()


def is_kept(index: Index, size: int, folder: Path) -> bool:
    """Whether the file with the images of a split is there, or somebody is at building it."""
    path = _file_of(decoding_print(index, size), size, folder)
    return os.path.exists(path) or bool(_unfinished(path))


def _file_of(of: str, size: int, folder: Path) -> Path:
    return folder / f"{size}px-{of[:40]}.images"


def shared_images(
    index: Index, size: int, folder: Path, decode: Callable[[Sequence[int]], Images], *, room: int,
    may_keep: Callable[[], bool], progress: Callable[[int, int], None], say: Callable[[str], None],
) -> MappedImages:  # fmt: skip
    """The images of a split, from a file in `folder`, which is built where there is none.

    Args:
        decode: makes the images of these numbers, in order; None for one that cannot be read.
        room: bytes that all images need, about.
        may_keep: asked when all are decoded, whether another run would come to the same; else the file is this run's alone.
        progress: called with (images done, images in all) while they are decoded, by this process or another.
        say: told that another process is waited for, and that the file is not kept.

    Raises:
        UserError: if the folder cannot be made.
        OSError: if the file cannot be written, as where the disk has no room for it.
        TrainingFailed: as `decode` raises it.
    """
    of = decoding_print(index, size)
    path = _file_of(of, size, folder)

    def there() -> MappedImages | None:
        images = open_mapped(path, of, len(index))
        if images is None:
            return None
        # a picture that nobody could read may have become one with no change to the file, as by a change of its permissions
        with closing(decode(images.unreadable)) as again:
            return None if any(image is not None for image in again) else images

    if (images := there()) is not None:
        return images
    _make(folder)
    lock = FileLock(path.with_suffix(".lock"))
    try:
        if not lock.take():
            say(f"{index.source}: another process is decoding its images into {path}; waiting for it")
            while not lock.take():
                time.sleep(_LOOK)
                if written := _written(path):
                    progress(int(len(index) * min(written / room, 1)), len(index))
        if (images := there()) is not None:
            return images
        if lock.held:
            _remove_left(path)
        _check_room(folder, room)
        return _build(index, path, of, decode, may_keep, progress, say)
    finally:
        lock.release()


def _build(
    index: Index, path: Path, of: str, decode: Callable[[Sequence[int]], Images], may_keep: Callable[[], bool],
    progress: Callable[[int, int], None], say: Callable[[str], None],
) -> MappedImages:  # fmt: skip
    # a name of its own: where there are no locks, another process may build the same
    beside = path.with_suffix(f".{uuid.uuid4().hex[:12]}.unfinished")
    with closing(decode(range(len(index)))) as images:
        write_mapped(beside, of, _counted(images, len(index), progress))
    try:
        mapped = open_mapped(beside, of, len(index))
        if mapped is None:
            raise OSError(errno.EIO, f"{beside} cannot be mapped, or is not what was written")
        if may_keep():
            os.replace(beside, path)
            sync_folder(path.parent)
        else:
            say(
                f"{index.source}: its decoded images are not kept for other runs, as some could not be read for the moment"
            )
        return mapped
    finally:
        with suppress(OSError):  # it has another name now, or only this process, which has it open, will use it
            beside.unlink()


def _counted(images: Images, total: int, progress: Callable[[int, int], None]) -> Iterator[np.ndarray | None]:
    for done, image in enumerate(images, 1):
        yield image
        progress(done, total)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise
        raise UserError(
            f"cache_dir: {folder} cannot be made: {error.strerror or error}; name a folder that can be written, or write "
            "cache: auto"
        ) from None


def _check_room(folder: Path, room: int) -> None:
    free = shutil.disk_usage(folder).free
    if room <= _SHARE * free:
        return
    text = f"they need {room / 1e9:.3g} GB, and {free / 1e9:.3g} GB are free"
    others = {path.name: path.stat().st_size for path in sorted(folder.glob("*.images"))}
    if others:  # of images as they once were, perhaps; or not, if another folder has them
        named = some_of(list(others), lambda name: f"{name} ({others[name] / 1e9:.3g} GB)")
        text += f"; what other decoded images hold there may be deleted: {named}"
    raise OSError(errno.ENOSPC, text)


def _unfinished(path: Path) -> list[Path]:
    return list(path.parent.glob(f"{path.stem}.*.unfinished"))


def _written(path: Path) -> int:
    """Bytes that a process which builds the file has written."""
    with suppress(OSError):
        return max((part.stat().st_size for part in _unfinished(path)), default=0)
    return 0


def _remove_left(path: Path) -> None:
    """Remove what was left, in the file's folder, by processes that were killed while they built: their locks can be had."""
    for left in path.parent.glob("*.unfinished"):
        name = left.name.partition(".")[0]
        lock = FileLock(path.with_name(f"{name}.lock"))
        if name == path.stem or (lock.take() and lock.held):
            with suppress(OSError):
                left.unlink()
        lock.release()
