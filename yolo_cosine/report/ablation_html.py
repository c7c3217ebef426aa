"""The report of an ablation as one HTML file that needs nothing else: styles, figures and Plotly are inside."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

from plotly.offline import get_plotlyjs

from yolo_cosine.report import ablation_tables as tables
from yolo_cosine.report import ablation_words as words
from yolo_cosine.report.ablation_charts import ablation_charts
from yolo_cosine.report.ablation_curves import Chart, style
from yolo_cosine.sinks.drawing import PALETTE

if TYPE_CHECKING:
    from yolo_cosine.ablation.results import AblationResults
    from yolo_cosine.ablation.stats import Paired
    from yolo_cosine.ablation.verdict import Verdict

_DARK = {"#000000": "#f2f2f2", "#0072B2": "#2a8fd0"}  # the palette's colours that a dark page would swallow
_STROKES = {"solid": "none", "dash": "7 4", "dot": "2 3", "dashdot": "7 3 2 3"}
_CHARTS = {  # name: heading, what it shows, what its choice is called
    "lr": ("Learning rate", "Of the weights, as it was applied; one line for each variant.", "scale"),
    "curves": (
        "Evaluations over the epochs",
        "The mean over the seeds that count, where all of them have a value, and its interval at each point; a whole curve "
        "leaves such a band more often than one point does.",
        "metric",
    ),
    "losses": (
        "Losses over the epochs",
        "Means over the epochs, of the training images: mean over seeds and its interval.",
        "loss",
    ),
    "finals": (
        "The runs that count",
        "Each point is a run; thin lines join the runs with the same seed, which make a pair; diamonds are means with their "
        "intervals.",
        "",
    ),
    "classes": ("Classes", tables.CLASSES_MEANING, "variant"),
    "cost": ("Cost", "", "in"),
}


def to_html(results: AblationResults, verdict: Verdict) -> str:
    """The page. All that comes from configurations, data and runs is escaped, and only the page's own scripts may run."""
    room = resources.files("yolo_cosine.report")
    template = Template(room.joinpath("ablation.html").read_text(encoding="utf-8"))
    charts = ablation_charts(results, verdict)
    scripts = [get_plotlyjs(), room.joinpath("ablation.js").read_text(encoding="utf-8")]
    hashes = (b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    return template.substitute(
        title=escape(tables.title(results)),
        policy=" ".join(f"'sha256-{value}'" for value in hashes),
        colours=_colours({}),
        dark_colours=_colours(_DARK),
        headline=escape(verdict.headline),
        sentences=_list(verdict.sentences),
        notes=f"<h2>What the verdict rests on</h2>{_list(verdict.notes, 'soft small')}" if verdict.notes else "",
        tally="".join(f"<div><b>{n}</b>{escape(state)}</div>" for state, n in words.tally(results).items()),
        concerns=_concerns(results, verdict),
        metric=escape(words.metric_name(results.metric)),
        table_text=escape(tables.table_text(results)),
        table=_results(results, verdict),
        others=_others(results, verdict),
        charts="".join(_chart(name, charts[name], results, verdict) for name in _CHARTS if name in charts),
        images=_images(results),
        record=_record(results),
        data=_json({"variants": results.variants, "baseline": results.baseline, "charts": charts}),
        plotly=scripts[0],
        script=scripts[1],
    )


def _json(value: object) -> str:
    """JSON that cannot end the script element that it is in; everything beyond ASCII is escaped by `dumps`."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _colours(others: dict[str, str]) -> str:
    return " ".join(f"--v{k}: {others.get(colour, colour)};" for k, colour in enumerate(PALETTE))


def _list(texts: Sequence[str], kind: str = "") -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f'<ul class="{kind}">{items}</ul>' if texts else ""


def _concerns(results: AblationResults, verdict: Verdict) -> str:
    items = "".join(
        f'<li class="{concern.severity}"><b>{concern.severity}</b> {escape(concern.text)}</li>'
        for concern in words.concerns(results, verdict)
    )
    return f'<h2>What to know of the runs</h2><ul class="concerns">{items}</ul>' if items else ""


# --- tables -----------------------------------------------------------------------------------------------------------


def _table(head: Iterable[str], rows: Iterable[Iterable[str]], caption: str, kind: str = "") -> str:
    """A table in a box of its own that scrolls, also by keyboard. The cells are HTML."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = ""
    for first, *rest in rows:
        body += f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>"
    label = escape(caption, quote=True)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table class="{kind}">'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _plain_table(head: Iterable[str], rows: Iterable[Iterable[str]], caption: str, kind: str = "") -> str:
    cells = ([_name(first), *map(escape, rest)] for first, *rest in rows)
    return _table(map(escape, head), cells, caption, kind)


def _name(text: str) -> str:
    """The first cell of a row: a name may be of any length, and is cut where it would fill the page."""
    return f'<span class="name" title="{escape(text, quote=True)}">{escape(text)}</span>'


def _results(results: AblationResults, verdict: Verdict) -> str:
    rows = tables.table_rows(results, verdict)
    pairs = [row.comparison.paired if row.comparison else None for row in rows]
    ends = [end for pair in pairs if pair for end in (pair.mean, pair.low, pair.high) if not words.missing(end)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    head = [escape(cell) for cell in tables.result_head(results)]
    drawn = high > low
    if drawn:
        head.insert(5, f'<span class="ends"><span>{words.points(low)}</span><span>{words.points(high)}</span></span>')
    cells = []
    for row, pair in zip(rows, pairs, strict=True):
        name, *rest = tables.result_cells(row)
        line = [_name(name), *map(escape, rest)]
        line[0] = f'<span class="who">{_key(results.variants.index(row.variant))}{line[0]}</span>'
        if drawn:
            line.insert(5, _forest(pair, low, high, results.variants.index(row.variant)))
        cells.append(line)
    return _table(head, cells, "results of the variants", "results")


def _forest(pair: Paired | None, low: float, high: float, k: int) -> str:
    """The interval of a difference as a picture, on the scale that all rows have; its numbers stand beside it."""
    span = high - low
    at = {name: 6 + 128 * (value - low) / span for name, value in (("zero", 0.0), *_marks(pair))}
    parts = f'<path class="zero" d="M{at["zero"]:.1f} 0V24"/>'
    if "low" in at:
        parts += (
            f'<path class="span" d="M{at["low"]:.1f} 12H{at["high"]:.1f}M{at["low"]:.1f} 8v8M{at["high"]:.1f} 8v8"/>'
        )
    if "mean" in at:
        parts += f'<circle cx="{at["mean"]:.1f}" cy="12" r="4"/>'
    return f'<svg class="forest" style="--tone: var(--v{k % len(PALETTE)})" viewBox="0 0 140 24" aria-hidden="true">{parts}</svg>'


def _marks(pair: Paired | None) -> list[tuple[str, float]]:
    if pair is None:
        return []
    ends = [] if words.missing(pair.low) else [("low", pair.low), ("high", pair.high)]
    return [("mean", pair.mean), *ends]


def _key(k: int) -> str:
    """A short piece of a variant's line, as in the charts."""
    dashes = _STROKES[style(k)]
    return (
        f'<svg class="key" viewBox="0 0 24 10" aria-hidden="true"><path d="M0 5H24" stroke="var(--v{k % len(PALETTE)})" '
        f'stroke-dasharray="{dashes}"/></svg>'
    )


def _others(results: AblationResults, verdict: Verdict) -> str:
    metrics = tables.others_of(results, verdict)
    if not metrics:
        return ""
    rows = [
        [
            _name(name),
            *(f'{escape(mean)}<br><span class="soft small">{escape(difference)}</span>' for mean, difference in cells),
        ]
        for name, cells in tables.other_cells(results, verdict, metrics)
    ]
    head = ["variant", *(escape(words.metric_name(metric)) for metric in metrics)]
    return f'<h3>Other metrics</h3><p class="soft small">{tables.OTHERS_MEANING}</p>' + _table(
        head, rows, "other metrics"
    )


# --- charts -----------------------------------------------------------------------------------------------------------


def _chart(name: str, chart: Chart, results: AblationResults, verdict: Verdict) -> str:
    heading, text, choice = _CHARTS[name]
    controls, below = "", ""
    if len(chart.get("keys", ())) > 1:
        options = "".join(
            f'<option value="{escape(k, quote=True)}">{escape(v)}</option>' for k, v in chart["keys"].items()
        )
        controls += f'<label>{choice} <select data-choice="{name}" autocomplete="off">{options}</select></label>'
    if any(trace["meta"]["part"] == "seed" for trace in chart["traces"]):
        controls += f'<label><input type="checkbox" data-seeds="{name}" autocomplete="off"> single runs</label>'
    legend = _legend(results) if name in ("lr", "curves", "losses") else ""
    if name == "cost":
        text = words.sharing_text(words.costs(results))
        below = _plain_table(tables.COST_HEAD, tables.cost_rows(results), "cost of the variants")
    if name in ("lr", "losses"):
        rows = tables.lr_rows(results) if name == "lr" else tables.loss_rows(results)
        head = tables.LR_HEAD if name == "lr" else tables.loss_head(results)
        below = f"<details><summary>In figures</summary>{_plain_table(head, rows, heading)}</details>"
    if name == "classes":
        table = _plain_table(*tables.class_rows(results, verdict), "differences of the classes")
        below = f"<details><summary>All classes and variants as a table</summary>{table}</details>"
    return (
        f'<section><h2>{heading}</h2><p class="soft small">{escape(text)}</p>'
        f'<figure class="chart" id="{name}"><div class="controls">{controls}</div>{legend}'
        f'<div class="view" tabindex="0" role="region" aria-label="chart: {heading}"><div class="plot" data-plot="{name}">'
        f"</div></div></figure>{below}</section>"
    )


def _legend(results: AblationResults) -> str:
    """A button for each variant: charts whose legend is part of the picture cannot be used by keyboard."""
    buttons = ""
    for k, name in enumerate(results.variants):
        full = f"{name} (baseline)" if name == results.baseline else name
        buttons += (
            f'<button type="button" data-variant="{k}" aria-pressed="true" title="{escape(full, quote=True)}">'
            f"{_key(k)}<span>{escape(full)}</span></button>"
        )
    return f'<div class="legend" role="group" aria-label="variants shown">{buttons}</div>'


# --- what comes last --------------------------------------------------------------------------------------------------


def _images(results: AblationResults) -> str:
    rows = tables.image_rows(results)
    if not rows:
        return ""
    return (
        f'<section><h2>Single runs on other images</h2><p class="soft small">{tables.IMAGES_MEANING}</p>'
        + _plain_table(tables.IMAGE_HEAD, rows, "intervals over the images")
        + "</section>"
    )


def _record(results: AblationResults) -> str:
    text = "<h3>Runs</h3>" + _plain_table(tables.run_head(results), tables.run_rows(results), "all runs", "runs")
    text += f"<h3>What each variant changes</h3>{_terms(tables.change_rows(results))}"
    text += f"<h3>Versions, hardware, seeds</h3>{_terms(tables.fact_rows(results))}"
    if results.source:
        text += (
            "<details><summary>The specification, resolved</summary>"
            f'<pre tabindex="0">{escape(results.source)}</pre></details>'
        )
    return text


def _terms(rows: Sequence[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in rows) + "</dl>"
