"""The report as one HTML file that needs nothing else: styles and pictures are inside, scripts there are none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from yolo_cosine.doctor.finding import Example, Finding
from yolo_cosine.doctor.pictures import picture
from yolo_cosine.doctor.report import EDGES, Report, size_names
from yolo_cosine.doctor.snapshot import Snapshot, quiet
from yolo_cosine.doctor.text import example_words, finding_words

_MOST_PICTURES, _MOST_CASES, _MOST_CLASSES = 6, 20, 20


def to_html(report: Report, snapshot: Snapshot) -> str:
    """The report, with pictures of the first cases of each finding. All that comes from the data set is escaped."""
    template = Template(resources.files("yolo_cosine.doctor").joinpath("template.html").read_text(encoding="utf-8"))
    names = [split.name for split in report.splits]
    with quiet():
        findings = [_finding(k, finding, snapshot) for k, finding in enumerate(report.findings)]
    return template.substitute(
        title=escape(f"Data set {Path(report.data).name}"),
        subtitle=escape(report.data),
        tally="".join(_tally(report)),
        splits=_splits(report),
        legend=" ".join(f'<i class="key s{k}"></i>{escape(name)} ' for k, name in enumerate(names)),
        classes=_classes(report),
        sizes=_sizes(report),
        imgsz=report.imgsz,
        contents="".join(_content(k, finding) for k, finding in enumerate(report.findings)),
        findings="".join(findings) or "<p>Nothing was found.</p>",
    )


def _tally(report: Report) -> Iterator[str]:
    for severity, n in report.tally().items():
        yield f'<div class="{severity}"><b>{n}</b>{severity}{"" if n == 1 else "s"}</div>'


def _content(k: int, finding: Finding) -> str:
    return f'<li class="{finding.severity}"><a href="#f{k}">{escape(finding_words(finding))}</a></li>'


def _splits(report: Report) -> str:
    columns = ("images", "boxes", "crowds", "empty", "unreadable")
    head = "".join(f"<th>{name}</th>" for name in ("split", *columns))
    rows = "".join(
        f'<tr><td><i class="key s{k}"></i>{escape(split.name)}</td>'
        + "".join(f"<td>{getattr(split, name):,}</td>" for name in columns)
        + "</tr>"
        for k, split in enumerate(report.splits)
    )
    return f"<tr>{head}</tr>{rows}"


# --- bars -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Bar:
    share: float  # of the longest, 0 to 1
    text: str


def _row(label: str, bars: Sequence[_Bar]) -> str:
    drawn = ""
    for k, bar in enumerate(bars):
        line = f'<i class="s{k}" style="--share:{bar.share:.4f}"></i>' if bar.share else ""
        drawn += f'<div class="bar">{line}{bar.text}</div>'
    return f'<div class="row"><div>{escape(label)}</div><div>{drawn}</div></div>'


def _classes(report: Report) -> str:
    most = {s.name: max((c.boxes[s.name] for c in report.classes), default=0) or 1 for s in report.splits}

    def words(boxes: Mapping[str, int], images: Mapping[str, int]) -> list[_Bar]:
        return [_Bar(boxes[name] / top, f"{boxes[name]:,} ({images[name]:,})") for name, top in most.items()]

    ordered = sorted(report.classes, key=lambda c: -sum(c.boxes.values()))
    rows = [_row(c.name, words(c.boxes, c.images)) for c in ordered]
    shown, rest = "".join(rows[:_MOST_CLASSES]), rows[_MOST_CLASSES:]
    return shown + (f"<details><summary>{len(rest)} more classes</summary>{''.join(rest)}</details>" if rest else "")


def _sizes(report: Report) -> str:
    parts = []
    for k, name in enumerate(size_names()):
        if k and EDGES[k - 1] in report.strides:
            parts.append(f'<div class="stride">stride {EDGES[k - 1]}</div>')
        bars = []
        for split in report.splits:
            top, total = max(split.sizes) or 1, sum(split.sizes) or 1
            bars.append(_Bar(split.sizes[k] / top, f"{split.sizes[k]:,} ({split.sizes[k] / total:.1%})"))
        parts.append(_row(name, bars))
    return "".join(parts)


# --- findings ---------------------------------------------------------------------------------------------------------


def _finding(k: int, finding: Finding, snapshot: Snapshot) -> str:
    pictures, cases = [], []
    for example in finding.examples[:_MOST_CASES]:
        drawn = _figure(example, snapshot) if len(pictures) < _MOST_PICTURES else ""
        (pictures if drawn else cases).append(drawn or f"<li>{escape(example_words(example))}</li>")
    more = finding.count - len(pictures) - len(cases)
    if more:
        cases.append(f"<li>and {more:,} more, all of them in the JSON report</li>")
    return (
        f'<section id="f{k}" class="finding {finding.severity}"><p class="kind">{finding.severity} · {escape(finding.kind)}</p>'
        f"<h3>{escape(finding_words(finding))}</h3>"
        f"<dl><dt>what happens</dt><dd>{escape(finding.training)}</dd><dt>remedy</dt><dd>{escape(finding.remedy)}</dd></dl>"
        + (f'<div class="pictures">{"".join(pictures)}</div>' if pictures else "")
        + (f'<ul class="cases">{"".join(cases)}</ul>' if cases else "")
        + "</section>"
    )


def _figure(example: Example, snapshot: Snapshot) -> str:
    """The image, beside the one that it is a copy of where it is one; '' if there is nothing to show."""
    shown = [picture(snapshot, example.image, example.boxes)] if example.image else []
    if example.twin_image:
        shown.append(picture(snapshot, example.twin_image, ()))
    if not any(shown):
        return ""
    kind = ' class="twins"' if len(shown) > 1 else ""
    return (
        f"<figure{kind}><div>{''.join(shown)}</div><figcaption>{escape(example_words(example))}</figcaption></figure>"
    )
