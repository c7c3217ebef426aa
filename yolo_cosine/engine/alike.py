"""Whether the processes of a run are alike: with other code, settings or data they would come to no one's result."""

from __future__ import annotations

import functools
import hashlib
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

import yolo_cosine
from yolo_cosine.config.schema import RunConfig
from yolo_cosine.data.prints import Print
from yolo_cosine.engine.distributed import World
from yolo_cosine.engine.launch import Launch
from yolo_cosine.errors import UserError, some_of

# Keys that may be others on other machines: where things lie, and what is done there alone.
_OWN = {"data", "weights", "trust_weights", "runs", "cache", "cache_dir", "workers", "worker_timeout"}
# What else may: the numbers come out a little different, as on another machine. What is not here decides what is computed.
_MAY_DIFFER = {"opencv", "numpy", "hotcoco", "python", "device", "cuda", "threads", "augmentation"}
_MOST = 4  # differences that are named


def check_alike(launch: Launch, config: RunConfig, environment: Mapping[str, str], device: str) -> list[str]:
    """Compare what all processes of a run were started with; returns what differs and may, in words.

    Args:
        environment: of this process, as `describe_environment` gives it.
        device: its kind: cpu, cuda, ...

    Raises:
        UserError: on all ranks, if there are other settings, versions, files of this package or kinds of devices among
            them. The main process's says what, the others' are empty.
    """
    settings = {key: repr(value) for key, value in config.model_dump().items() if key not in _OWN}
    code = {"device kind": device, "yolo_cosine's files": _code(), **environment}
    told = launch.exchange("alike", (socket.gethostname(), settings, code))
    hosts = [host for host, _, _ in told]
    found = differing(hosts, [settings for _, settings, _ in told])
    _refuse(launch.rank, found, "their configurations differ", "start all with the same one, and the same overrides")
    must = [{k: v for k, v in code.items() if k not in _MAY_DIFFER} for _, _, code in told]
    _refuse(launch.rank, differing(hosts, must), "they are not the same", "set all machines up alike")
    may = [{k: code.get(k, "nothing") for k in sorted(_MAY_DIFFER)} for _, _, code in told]
    return [f"the processes of the run differ: {text}; the run goes on" for text in differing(hosts, may)]


def check_same_data(world: World, prints: Mapping[str, Print] | None) -> Mapping[str, Print]:
    """The fingerprints of the splits, the same on all machines.

    Args:
        prints: as this process has found them; None leaves it to another one of its machine.

    Raises:
        UserError: on all ranks, if a machine has other data. The main process's says what, the others' are empty.
    """
    told = world.gather((socket.gethostname(), prints))
    said = [
        None if p is None else {f"{s}: {part}": v for s, split in p.items() for part, v in split.items()}
        for _, p in told
    ]
    found = differing([host for host, _ in told], said)
    _refuse(world.rank, found, "their data differs", "copy the same files to all machines")
    return told[0][1]


def differing(hosts: Sequence[str], told: Sequence[Mapping[str, str] | None]) -> list[str]:
    """In words, of which entries the processes have others, and which process has what.

    Args:
        hosts: the machine of each rank.
        told: the entries of each rank; None where it has none of its own.
    """
    speaking = [(rank, entries) for rank, entries in enumerate(told) if entries is not None]
    found = []
    for name in dict.fromkeys(name for _, entries in speaking for name in entries):
        ranks: dict[str, list[int]] = {}
        for rank, entries in speaking:
            ranks.setdefault(entries.get(name, "nothing"), []).append(rank)
        if len(ranks) > 1:
            found.append(f"{name} is " + " and ".join(f"{value} {_where(who, hosts)}" for value, who in ranks.items()))
    return found


def _where(ranks: Sequence[int], hosts: Sequence[str]) -> str:
    """Ranks and their machines: `on rank 0 (node-a)`."""
    machines = some_of(list(dict.fromkeys(hosts[rank] for rank in ranks)))
    return f"on rank{'s' if len(ranks) > 1 else ''} {some_of(ranks, most=8)} ({machines})"


def _refuse(rank: int, found: Sequence[str], what: str, remedy: str) -> None:
    if found:
        text = f"the processes of the run do not fit together, {what}: {some_of(found, most=_MOST, separator='; ')}; {remedy}"
        raise UserError(text if rank == 0 else "")


@functools.cache
def _code() -> str:
    """A digest of this package's files, for a version stays the same while they are worked on."""
    root = Path(yolo_cosine.__file__).parent
    files = sorted(path for kind in ("py", "c") for path in root.rglob(f"*.{kind}"))
    digest = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]
