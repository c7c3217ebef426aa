"""The report for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from yolo_cosine.doctor.finding import Example, Finding
from yolo_cosine.doctor.report import Report, size_names

_MOST_CLASSES, _MOST_EXAMPLES = 20, 3


def to_text(report: Report) -> str:
    """Tables, then the findings with a few cases each; the JSON and HTML reports have more."""
    names = [split.name for split in report.splits]
    lines = [
        report.data, "",
        *_table(
            ("split", "images", "boxes", "crowds", "empty", "unreadable"),
            [(s.name, s.images, s.boxes, s.crowds, s.empty, s.unreadable) for s in report.splits],
        ),
        "",
        *_table(
            ("boxes (images) of a class", *names),
            [
                (_printable(c.name), *(f"{c.boxes[name]:,} ({c.images[name]:,})" for name in names))
                for c in sorted(report.classes, key=lambda c: -sum(c.boxes.values()))[:_MOST_CLASSES]
            ],
        ),
    ]  # fmt: skip
    if len(report.classes) > _MOST_CLASSES:
        lines.append(f"and {len(report.classes) - _MOST_CLASSES} more classes")
    lines += [
        "",
        *_table(
            (f"root of the area at {report.imgsz} px", *names),
            list(zip(size_names(), *(split.sizes for split in report.splits), strict=True)),
        ),
        f"strides: {', '.join(map(str, report.strides))}",
    ]
    for finding in report.findings:
        lines += ["", *_finding(finding)]
    return "\n".join(map(_printable, [*lines, "", tally_words(report)])) + "\n"


def tally_words(report: Report) -> str:
    """`1 error, 2 warnings, no notes`."""
    return ", ".join(f"{n or 'no'} {severity}{'' if n == 1 else 's'}" for severity, n in report.tally().items())


def example_words(example: Example) -> str:
    """One case on one line."""
    words = example.place
    if example.twin:
        here, there = (f"{at.split} " if at else "" for at in (example.image, example.twin_image))
        words = f"{words} and {example.twin}" if here == there else f"{here}{words} and {there}{example.twin}"
    if len(example.boxes) == 1:
        words += f" {list(example.boxes[0])}"
    return words + (f": {example.text}" if example.text else "")


def finding_words(finding: Finding) -> str:
    """What was found, where and how often."""
    return f"{finding.split}: {finding.count:,} {finding.what}"


def _finding(finding: Finding) -> Iterator[str]:
    yield f"{finding.severity.upper()}  {finding.kind}  {finding_words(finding)}"
    for example in finding.examples[:_MOST_EXAMPLES]:
        yield f"    {example_words(example)}"
    if finding.count > _MOST_EXAMPLES:
        yield f"    and {finding.count - _MOST_EXAMPLES:,} more"
    yield f"  what happens: {finding.training}"
    yield f"  remedy: {finding.remedy}"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Columns of text, the first to the left and the others to the right."""
    cells = [list(head)] + [[f"{v:,}" if isinstance(v, int) else str(v) for v in row] for row in rows]
    widths = [max(len(row[k]) for row in cells) for k in range(len(head))]
    for row in cells:
        first, *others = zip(row, widths, strict=True)
        yield "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()


def _printable(text: str) -> str:
    """Names from a data set may hold anything; a control character must not reach the terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)
