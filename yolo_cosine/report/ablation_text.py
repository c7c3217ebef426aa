"""The report of an ablation in Markdown, which can be read as it is, and its runs as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from yolo_cosine.events import CLASS_AP, COCO_METRICS
from yolo_cosine.report import ablation_tables as tables
from yolo_cosine.report import ablation_words as words

if TYPE_CHECKING:
    from yolo_cosine.ablation.results import AblationResults
    from yolo_cosine.ablation.verdict import Verdict

_MOST_CLASSES = 20  # in the table of classes; the CSV has them all


def to_markdown(results: AblationResults, verdict: Verdict) -> str:
    """Verdict, tables, what was left out and the record. Names cannot become Markdown or HTML."""
    return "\n".join(_lines(results, verdict)) + "\n"


def _lines(results: AblationResults, verdict: Verdict) -> Iterator[str]:
    metric = words.metric_name(results.metric)
    yield f"# {markdown(tables.title(results))}"
    yield from ("", f"**{markdown(verdict.headline)}**", "")
    yield from (f"- {markdown(text)}" for text in verdict.sentences)
    concerns = words.concerns(results, verdict)
    if concerns:
        yield from ("", "## What to know of the runs", "")
        yield from (f"- {concern.severity}: {markdown(concern.text)}" for concern in concerns)
    if verdict.notes:
        yield from ("", "## What the verdict rests on", "", *(f"- {markdown(text)}" for text in verdict.notes))
    yield from ("", f"## {markdown(metric)}", "", markdown(tables.table_text(results)), "")
    yield from _table(
        tables.result_head(results), [tables.result_cells(row) for row in tables.table_rows(results, verdict)]
    )
    others = tables.others_of(results, verdict)
    if others:
        yield from ("", "### Other metrics", "", tables.OTHERS_MEANING, "")
        head = ["variant", *map(words.metric_name, others)]
        cells = tables.other_cells(results, verdict, others)
        yield from _table(head, [[name, *(" ".join(filter(None, pair)) for pair in row)] for name, row in cells])
    yield from _classes(results, verdict)
    yield from _cost(results)
    images = tables.image_rows(results)
    if images:
        yield from ("", "## Single runs on other images", "", tables.IMAGES_MEANING, "")
        yield from _table(tables.IMAGE_HEAD, images)
    yield from _record(results)


def _classes(results: AblationResults, verdict: Verdict) -> Iterator[str]:
    head, rows = tables.class_rows(results, verdict)
    if not rows:
        return
    yield from ("", "## Classes", "", tables.CLASSES_MEANING, "")
    yield from _table(head, rows[:_MOST_CLASSES])
    if len(rows) > _MOST_CLASSES:
        yield from ("", f"{len(rows) - _MOST_CLASSES} more classes are in report.html and results.csv.")


def _cost(results: AblationResults) -> Iterator[str]:
    yield from ("", "## Cost", "", words.sharing_text(words.costs(results)), "")
    yield from _table(tables.COST_HEAD, tables.cost_rows(results))


def _record(results: AblationResults) -> Iterator[str]:
    yield from ("", "## For the record", "", "### Runs", "")
    yield from _table(tables.run_head(results), tables.run_rows(results))
    yield from ("", "### What each variant changes", "")
    yield from (f"- {markdown(name)}: {markdown(text)}" for name, text in tables.change_rows(results))
    yield from ("", "### Versions, hardware, seeds", "")
    yield from (f"- {markdown(name)}: {markdown(text)}" for name, text in tables.fact_rows(results))
    if results.source:
        fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", results.source))])
        yield from ("", "### Specification, resolved", "", f"{fence}yaml", results.source.rstrip("\n"), fence)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table whose columns are as wide as their text, so that it can be read unrendered, too."""
    cells = [[markdown(cell) for cell in row] for row in (head, *rows)]
    widths = [max(3, *(len(row[k]) for row in cells)) for k in range(len(head))]

    def line(row: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"

    yield line(cells[0])
    yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    yield from map(line, cells[1:])


def markdown(text: str) -> str:
    """Text on one line that Markdown, also GitHub's, shows as it is."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    text = re.sub(r"([\\`*|~$]|<(?=[A-Za-z/!?])|\](?=[(\[:]))", r"\\\1", text)
    text = re.sub(r"&(?=#?\w+;)", r"\\&", text)
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # one inside a word is only itself
    text = re.sub(r"^(#+|[+-]|>|\[(?=[ xX]\]))(?=\s|$|>|[ xX]\])", r"\\\1", text)
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", text)


def to_csv(results: AblationResults) -> str:
    """One row a run, with every metric and class of the evaluation that counts; empty where there is no number."""
    chosen = [run.chosen for run in results.runs if run.chosen]
    scalars = dict.fromkeys(name for evaluation in chosen for name in evaluation.scalars)
    metrics = [name for name in COCO_METRICS if name in scalars] + [n for n in scalars if n not in COCO_METRICS]
    classes = dict.fromkeys(name for evaluation in chosen for name in evaluation.per_class)
    columns = [*metrics, *(CLASS_AP + name for name in classes)]
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    last = ("steps", "steps_done", "steps_trained", "seconds", "incidents", "detail", "folder")
    rows.writerow(["variant", "seed", "state", "epoch", *columns, *last])
    for run in results.runs:
        values = (run.value(name) for name in columns)
        row = [run.variant, run.seed, run.state, run.chosen.epoch if run.chosen else ""]
        row += ["" if words.missing(value) else repr(float(value)) for value in values]
        row += [run.steps, run.steps_done, words.steps_trained(run), repr(float(run.seconds))]
        rows.writerow([*row, "; ".join(run.incidents), run.detail, tables.folder_of(results, run)])
    return file.getvalue()
