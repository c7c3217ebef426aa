"""Unpack an archive from the network: nothing leaves the folder, nothing appears before everything is there."""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from yolo_cosine.errors import UserError
from yolo_cosine.fetch.download import require_space
from yolo_cosine.fetch.progress import Reporter

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
# RuntimeError: an encrypted zip, or one of an unknown method; ValueError: names that are no names
_DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, struct.error,
    EOFError, RuntimeError, ValueError,
)  # fmt: skip
_BLOCK = 2**20


@dataclass(frozen=True)
class _Member:
    """A regular file of an archive."""

    name: str
    size: int  # bytes, as the archive declares
    open: Callable[[], IO[bytes]]


def is_archive(name: str) -> bool:
    """Whether a file of this name is one to unpack."""
    return name.lower().endswith(SUFFIXES)


def unpack(archive: Path, folder: Path, strip: int, scratch: Path, report: Reporter) -> dict[str, int]:
    """Unpack `archive` into `folder`, over what is there, and return path below `folder`: size in bytes.

    Args:
        strip: leading parts of each path to drop; what has no more parts than that is left out.
        scratch: folder on the same disk, where the files lie until all of them are there.

    Raises:
        UserError: if the archive is damaged, holds a path or a link that leads out, or does not fit on the disk.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="unpack-", dir=scratch) as temporary:
            fresh = Path(temporary) / "files"
            fresh.mkdir()
            if archive.name.lower().endswith(".zip"):
                with zipfile.ZipFile(archive) as opened:
                    files = _extract(archive, _zip_members(archive, opened), fresh, strip, report)
            else:
                with tarfile.open(archive) as opened:
                    files = _extract(archive, _tar_members(archive, opened), fresh, strip, report)
            folder.mkdir(parents=True, exist_ok=True)
            _merge(fresh, folder)
            return files
    except _DAMAGED as error:
        reason = " ".join(str(error).split())  # tarfile's has a line for every format that it tried
        raise UserError(f"{archive}: cannot be unpacked: {reason}; delete it and fetch it again") from None
    except OSError as error:
        raise UserError(f"{archive}: cannot be unpacked into {folder}: {error}") from None


def _extract(archive: Path, members: list[_Member], fresh: Path, strip: int, report: Reporter) -> dict[str, int]:
    targets = [(PurePosixPath(*_safe_parts(archive, member.name)[strip:]), member) for member in members]
    targets = [(path, member) for path, member in targets if path.parts]
    if not targets:
        below = f" below {strip} leading folder(s); lower strip" if strip else ""
        raise UserError(f"{archive}: holds no files{below}")
    total = sum(member.size for _, member in targets)
    require_space(total, fresh, archive.name)
    done, files = 0, {}
    for path, member in targets:
        target = fresh / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with member.open() as source, open(target, "wb") as file:
            shutil.copyfileobj(source, file, _BLOCK)
        size = target.stat().st_size
        if size != member.size:
            raise UserError(f"{archive}: {member.name} has {size} bytes, and the archive declares {member.size}")
        files[str(path)] = size
        done += size
        report.bytes(f"{archive.name}: unpack", done, total)
    return files


def _zip_members(archive: Path, opened: zipfile.ZipFile) -> list[_Member]:
    members = []
    for info in opened.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _refused(archive, info.filename)
        if info.is_dir():
            _safe_parts(archive, info.filename)
        else:
            members.append(_Member(info.filename, info.file_size, lambda info=info: opened.open(info)))
    return members


def _tar_members(archive: Path, opened: tarfile.TarFile) -> list[_Member]:
    members = []
    for info in opened:
        if info.isdir():
            _safe_parts(archive, info.name)
        elif info.isreg():
            members.append(_Member(info.name, info.size, lambda info=info: opened.extractfile(info)))
        else:
            raise _refused(archive, info.name)
    return members


def _refused(archive: Path, name: str) -> UserError:
    return UserError(
        f"{archive}: {name!r} is a link or a device, and those are not unpacked: they can lead out of the folder; "
        "if you trust the archive, unpack it yourself"
    )


def _safe_parts(archive: Path, name: str) -> tuple[str, ...]:
    """The parts of a member's path, none of which leads out of the folder."""
    text = name.replace("\\", "/")
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or "\0" in text or re.match("[A-Za-z]:", text):
        raise UserError(f"{archive}: {name!r} leads out of the folder; the archive is not to be trusted")
    return path.parts


def _merge(source: Path, target: Path) -> None:
    """Move everything in `source` into `target`; whole folders at once where they are new."""
    for entry in source.iterdir():
        there = target / entry.name
        if entry.is_dir() and there.is_dir():
            _merge(entry, there)
        elif entry.is_dir() != there.is_dir() and there.exists():
            raise UserError(
                f"{there}: is in the way: the archive has a file where a folder is, or the reverse; move it"
            )
        else:
            entry.replace(there)
