"""The report of an ablation: `report.html`, `report.md` and `results.csv`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from yolo_cosine.files import replace_file
from yolo_cosine.report.ablation_html import to_html
from yolo_cosine.report.ablation_text import to_csv, to_markdown

if TYPE_CHECKING:
    from yolo_cosine.ablation.results import AblationResults
    from yolo_cosine.ablation.verdict import Verdict


def write_report(folder: Path, results: AblationResults, verdict: Verdict) -> list[Path]:
    """Write the report into a folder, in place of an earlier one. It may be written while runs are still to come.

    Returns:
        The files: `report.html`, which needs nothing else, `report.md`, and `results.csv` with one row for each run.

    Raises:
        OSError: if they cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "report.html": to_html(results, verdict),
        "report.md": to_markdown(results, verdict),
        "results.csv": to_csv(results),
    }
    for name, text in contents.items():
        # a path that is no Unicode has no bytes in it
        replace_file(folder / name, [text.encode("utf-8", "replace")])
    return [folder / name for name in contents]
