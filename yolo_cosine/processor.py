"""What CPU this is, and how much of it is for this process."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_FACTS = ("vendor_id", "model name", "flags", "CPU implementer", "CPU part", "Features")  # x86 and ARM


def cpu_facts() -> str:
    """Maker, model and abilities of the CPU, as the system tells them; what differs between its cores is there for each."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(_FACTS)))


def processor_name() -> str:
    """The CPU's model, for people."""
    names = (line.partition(":")[2].strip() for line in cpu_facts().splitlines() if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def available_cores() -> int:
    """The cores that this process may use: a container's, a job's or `taskset`'s share of the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
