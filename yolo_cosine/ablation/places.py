"""Where the parts of an ablation lie in its folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path


def run_folder(folder: Path, variant: str, seed: int, seeds: Sequence[int]) -> Path:
    """`<folder>/<variant>/seed<k>`: names that sort well, and that every file system takes."""
    safe = re.sub(r"[^A-Za-z0-9._=+-]+", "-", variant).strip("-.")[:100] or "variant"
    return Path(folder) / safe / f"seed{seed:0{len(str(max(seeds)))}d}"
