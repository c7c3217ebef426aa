"""Where the runs of an ablation lie in its folder."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

_MOST = 100  # bytes of a variant's folder, for file systems count these
# What else lies in the folder of an ablation, and names that Windows keeps for itself.
_TAKEN = {"tensorboard", "logs", "report.html", "report.md", "results.csv", "ablation.yaml", "con", "prn", "aux", "nul"}


def run_folder(folder: Path, variant: str, seed: int) -> Path:
    """The folder of one run: `folder/variant/seed0`. It does not depend on the other seeds, for more may be added.

    A variant whose name no file system would take, or that is taken, gets a folder with a digest of the name at its
    end, so that two never share one.
    """
    return Path(folder) / safe_name(variant) / f"seed{seed}"


def log_file(folder: Path, variant: str, seed: int) -> Path:
    """Where a run's console goes: beside the variants, so that `variant/seed*` are runs and nothing else."""
    return Path(folder) / "logs" / f"{safe_name(variant)}-seed{seed}.log"


def shared_images(folder: Path, cache_dir: str | None) -> Path:
    """The `cache_dir` of an ablation's runs: one for all of them, and for other ablations beside this one."""
    return Path(cache_dir or Path(folder).parent / ".images")


def safe_name(variant: str) -> str:
    """A variant's name as that of a folder; most stay as they are."""
    safe = re.sub(r"[^\w.,=+@%-]+", "-", variant).strip("-. ").encode()[:_MOST].decode(errors="ignore")
    if safe and safe == variant and safe.lower() not in _TAKEN:
        return safe
    digest = hashlib.sha256(variant.encode()).hexdigest()[:6]
    return f"{safe}-{digest}" if safe else digest
