from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from plotly.offline import get_plotlyjs

from tests.report.ablations import GAINS, HOSTILE, ablation, image_intervals, run_result, usual
from yolo_cosine.ablation.verdict import decide
from yolo_cosine.events import COCO_METRICS, MAP
from yolo_cosine.report import ablation_tables as tables
from yolo_cosine.report import ablation_words as words
from yolo_cosine.report.ablation_charts import ablation_charts
from yolo_cosine.report.ablation_curves import thin
from yolo_cosine.report.ablation_html import to_html
from yolo_cosine.report.ablation_report import write_report
from yolo_cosine.report.ablation_text import markdown, to_csv, to_markdown
from yolo_cosine.sinks.drawing import PALETTE


def all_in(state: str):
    """An ablation all of whose runs are in one state."""
    return ablation(GAINS, special={(name, seed): {"state": state} for name in GAINS for seed in range(5)})


STATES = {
    "usual": usual,
    "one seed": lambda: ablation(GAINS, (0,)),
    "one variant": lambda: ablation({"cosine": 0}),
    "one variant finished": lambda: ablation(
        GAINS, special={(name, seed): {"state": "interrupted"} for name in list(GAINS)[1:] for seed in range(5)}
    ),
    "baseline failed": lambda: ablation(GAINS, special={("cosine", seed): {"state": "failed"} for seed in range(5)}),
    "all failed": lambda: all_in("failed"),
    "all waiting": lambda: all_in("waiting"),
    "all interrupted": lambda: all_in("interrupted"),
    "no steps an epoch": lambda: replace(usual(), runs=tuple(replace(r, steps_per_epoch=0) for r in usual().runs)),
    "nothing recorded": lambda: ablation(GAINS, special={("wsd", 0): {"evaluations": (), "losses": {}, "facts": {}}}),
    "no classes": lambda: ablation(GAINS, classes=()),
    "no runs": lambda: replace(usual(), runs=()),
    "no variants": lambda: replace(usual(), runs=(), variants=(), changes={}),
    "other baseline": lambda: replace(usual(), baseline="gone"),
    "hostile": lambda: ablation({HOSTILE: 0, "b" + HOSTILE: 0.01}, classes=(HOSTILE,)),
}


class Page(HTMLParser):
    """The tags, attributes and text of a page, scripts apart."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.attributes, self.text, self.scripts = [], [], "", []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.inside = tag
        self.attributes += attrs

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts.append(data)
        else:
            self.text += data


def page_of(results) -> Page:
    return Page(to_html(results, decide(results)).replace(get_plotlyjs(), "/* Plotly */"))


def data_of(page: Page) -> dict:
    return json.loads(page.scripts[0])


# --- figures and names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (words.fraction(0.57349), "0.573"),
        (words.fraction(math.nan), "–"),
        (words.fraction(None), "–"),
        (words.points(0.0042), "+0.42"),
        (words.points(-0.123), "-12.30"),
        (words.points(-1e-9), "0.00"),
        (words.points(math.nan), "–"),
        (words.interval(-0.001, 0.0094), "[-0.10, +0.94]"),
        (words.interval(None, 1), "–"),
        (words.p_value(0.00012), "<0.001"),
        (words.p_value(0.0126), "0.013"),
        (words.p_value(None), "–"),
        (words.percent(0.87), "87%"),
        (words.percent(0.9999), ">99%"),
        (words.percent(1.0), "100%"),
        (words.percent(0.001), "<1%"),
        (words.percent(None), "–"),
        (words.duration(42), "42 s"),
        (words.duration(600), "10 min"),
        (words.duration(7500), "2 h 05 min"),
        (words.duration(math.nan), "–"),
        (words.seeds_text([3]), "seed 3"),
        (words.seeds_text([0, 1, 2]), "seeds 0, 1 and 2"),
        (words.seeds_text(range(20)), "seeds 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 8 more"),
    ],
)
def test_figures_as_text(told, text):
    assert told == text


def test_a_row_of_the_table():
    results = ablation(GAINS)
    verdict = decide(results)
    own = {row.variant: row for row in tables.table_rows(results, verdict)}["wsd"]
    pair = own.comparison.paired
    values = [run.value(MAP) for run in results.of("wsd")]
    differences = [a - b.value(MAP) for a, b in zip(values, results.of("cosine"), strict=True)]
    cells = dict(zip(tables.result_head(results), tables.result_cells(own), strict=True))
    assert cells["mAP50-95"] == f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" and cells["seeds"] == "5"
    assert cells["points"] == f"{100 * np.mean(differences):+.2f}"
    assert cells["95% interval"] == f"[{100 * pair.low:+.2f}, {100 * pair.high:+.2f}]"
    assert cells["effect"] == f"{pair.d_z_hedges:.2f}" and cells["next pair"] == f"{pair.chance_next_positive:.0%}"


def test_the_best_mean_is_on_top_and_the_baseline_is_named():
    results = usual()
    rows = [tables.result_cells(row) for row in tables.table_rows(results, decide(results))]
    means = [float(row[2].split()[0]) for row in rows]
    assert means == sorted(means, reverse=True) and "cosine (baseline)" in [row[0] for row in rows]


def test_pairs_are_named_where_they_are_fewer_than_the_runs_of_the_variant():
    results = ablation(GAINS, special={("cosine", 0): {"state": "failed"}})
    row = next(row for row in tables.table_rows(results, decide(results)) if row.variant == "wsd")
    assert tables.result_cells(row)[1] == "5" and tables.result_cells(row)[3].endswith("(4 pairs)")


def test_what_to_know_of_the_runs():
    results = usual()
    told = [(c.severity, c.text) for c in words.concerns(results, decide(results))]
    assert [severity for severity, _ in told] == ["error", "warning", "warning", "note", "note"]
    text = "\n".join(text for _, text in told)
    for part in ("linear, seed 1: left out: failed: the loss was NaN", "wsd, seed 2: left out: 2 updates", "not begun"):
        assert part in text
    results = replace(results, include_marked=True)
    told = [c.text for c in words.concerns(results, decide(results))]
    assert any(text.startswith("wsd, seed 2: counts, although: 2 updates") for text in told)


def test_the_record_names_what_differs():
    results = usual()
    facts = dict(tables.fact_rows(results))
    assert facts["torch"] == "2.13.0" and facts["seeds"] == "0, 1, 2, 3, 4"
    assert facts["hardware"].startswith("differs: ") and "another GPU (linear, seed 0)" in facts["hardware"]
    fewer = replace(results, runs=tuple(run for run in results.runs if (run.variant, run.seed) != ("wsd", 0)))
    assert dict(tables.fact_rows(fewer))["seeds"].startswith("differ: ")


def test_what_sharing_saved():
    results = ablation(GAINS, special={("wsd", 0): {"forked_at": 300}})
    own = {cost.variant: cost for cost in words.costs(results)}
    assert (own["wsd"].steps, own["wsd"].trained, own["wsd"].shared) == (3000, 2700, 300)
    assert "11,700 steps were trained for runs that have 12,000 together: 300 (2%)" in words.sharing_text(
        list(own.values())
    )
    assert words.steps_trained(run_result("a", 0, state="waiting", forked_at=300)) == 0


# --- charts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
def test_every_state_has_charts_that_plotly_takes(state):
    results = STATES[state]()
    for chart in ablation_charts(results, decide(results)).values():
        for key in chart.get("layouts", {"": {}}):
            go.Figure(chart["traces"], chart["layout"])
            go.Layout(chart.get("layouts", {}).get(key, {}))
        assert {t["meta"].get("key") for t in chart["traces"]} <= {None, *chart.get("keys", {})}


@given(
    st.integers(4, 60),
    st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), min_size=0, max_size=300),
)
def test_thinning_keeps_ends_and_extremes_and_is_as_short_as_asked_for(most, values):
    x, y = np.arange(len(values), dtype=float), np.array(values, dtype=float)
    tx, ty = thin(x, y, most)
    assert len(tx) <= max(most, 4) + 3 and (np.diff(tx) > 0).all() and set(tx) <= set(x)
    if len(values):
        assert (tx[0], tx[-1]) == (x[0], x[-1])
    if np.isfinite(y).any():
        assert np.nanmin(ty) == np.nanmin(y) and np.nanmax(ty) == np.nanmax(y)
    assert np.isnan(ty).any() == np.isnan(y).any()


def test_the_band_is_the_t_interval_of_the_runs_that_count():
    from yolo_cosine.ablation.stats import band

    results = usual()
    chart = ablation_charts(results, decide(results))["curves"]
    mean, area = (
        next(t for t in chart["traces"] if t["meta"] == {"variant": 2, "part": part, "key": MAP})
        for part in ("line", "band")
    )
    counted = [run for run in results.of("wsd") if run.seed != 2]
    expected = band(np.array([[e.scalars[MAP] for e in run.evaluations] for run in counted]))
    assert mean["x"] == list(range(1, 31))
    assert mean["y"] == pytest.approx(expected[0], rel=1e-4)
    assert area["y"] == pytest.approx([*expected[1], *expected[2][::-1]], rel=1e-4)


def test_the_difference_over_the_epochs_is_that_of_the_pairs():
    results = ablation(GAINS)
    chart = ablation_charts(results, decide(results))["curves"]
    line = next(t for t in chart["traces"] if t["meta"] == {"variant": 2, "part": "line", "key": "difference"})
    pairs = zip(results.of("wsd"), results.of("cosine"), strict=True)
    ends = [100 * (a.value(MAP) - b.value(MAP)) for a, b in pairs]
    assert line["y"][-1] == pytest.approx(np.mean(ends), rel=1e-3)
    assert not [t for t in chart["traces"] if t["meta"]["variant"] == 0 and t["meta"]["key"] == "difference"]


def test_a_run_with_rates_of_its_own_has_a_line_of_its_own():
    lr = run_result("wsd", 1).lr * 0.5
    special = {("wsd", 1): {"lr": lr}, ("cosine", 1): {"state": "interrupted"}}
    results = ablation(GAINS, special={k: v for k, v in special.items() if k[0] == "cosine"})
    charts = ablation_charts(results, decide(results))
    assert len(charts["lr"]["traces"]) == 4  # an unfinished run is a beginning of the others
    runs = tuple(replace(r, lr=lr) if (r.variant, r.seed) == ("wsd", 1) else r for r in results.runs)
    results = replace(results, runs=runs)
    assert len(ablation_charts(results, decide(results))["lr"]["traces"]) == 5


def test_classes_are_sorted_by_their_difference():
    results = ablation(GAINS, classes=[f"class {k}" for k in range(80)])
    chart = ablation_charts(results, decide(results))["classes"]
    for trace in chart["traces"]:
        assert len(trace["x"]) == 80 and trace["x"] == sorted(trace["x"], reverse=True)


def test_more_variants_than_colours_have_other_dashes():
    results = ablation({f"v{k}": 0.001 * k for k in range(12)})
    lines = [t for t in ablation_charts(results, decide(results))["lr"]["traces"]]
    looks = {(t["meta"]["variant"] % len(PALETTE), t["line"]["dash"]) for t in lines}
    assert len(looks) == 12


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
def test_every_state_has_a_report(state, tmp_path):
    results = STATES[state]()
    files = write_report(tmp_path / "new", results, decide(results))
    assert [f.name for f in files] == ["report.html", "report.md", "results.csv"] and all(f.is_file() for f in files)
    page = page_of(results)
    data_of(page)
    levels = [int(tag[1]) for tag in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1 and all(b - a <= 1 for a, b in pairwise(levels))
    for word in ("nan", "None"):
        assert not re.search(rf"\b{word}\b", page.text.replace("was NaN", ""))


def test_names_cannot_break_out_of_the_page():
    results = ablation(
        {HOSTILE: 0, "b" + HOSTILE: 0.01}, classes=(HOSTILE,), source=HOSTILE, notes=(HOSTILE,),
        special={(HOSTILE, 1): {"state": "failed", "detail": HOSTILE}, (HOSTILE, 2): {"facts": {HOSTILE: HOSTILE}}},
    )  # fmt: skip
    page = page_of(replace(results, name=HOSTILE))
    assert len(page.scripts) == 3
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert HOSTILE in page.text and data_of(page)["variants"][0] == HOSTILE
    assert "\u2028" not in page.scripts[0] and "<" not in page.scripts[0]


def test_the_page_needs_nothing_from_outside():
    page = page_of(usual())
    assert not {"img", "iframe", "object", "base", "form"} & set(page.tags)
    addresses = [value for name, value in page.attributes if name in ("href", "src", "srcset", "action")]
    assert addresses == ["data:,"]
    policy = next(value for name, value in page.attributes if name == "content" and "default-src" in value)
    assert policy.startswith("default-src 'none'") and policy.count("sha256-") == 2
    assert "unsafe-eval" not in policy and "script-src 'unsafe" not in policy and "connect-src" not in policy


def test_the_page_of_a_large_ablation_stays_small():
    long = {"lr": np.linspace(0.01, 0, 100_000), "lr_steps": np.arange(100_000.0), "steps_per_epoch": 1667}
    results = ablation(
        {f"v{k}": 0.001 * k for k in range(12)}, range(10), epochs=60, classes=[f"class {k}" for k in range(80)],
        special={(f"v{k}", 0): long for k in range(12)},
    )  # fmt: skip
    page = page_of(results)
    assert len(page.scripts[0]) < 2_500_000


def test_paths_that_are_no_unicode(tmp_path):
    results = ablation({"cosine\udcff": 0, "linear": 0.1})
    write_report(tmp_path, results, decide(results))
    assert "linear" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_markdown_has_the_verdict_and_the_tables():
    results = usual()
    verdict = decide(results)
    text = to_markdown(results, verdict)
    assert text.startswith("# Ablation schedules\n\n**") and text.count("\n### ") >= 4
    for line in (*verdict.sentences, *verdict.notes):
        assert markdown(line) in text
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        rows = table.splitlines()
        assert len({len(row) for row in rows}) == 1, "columns are aligned"
    assert "| linear   | 1    | failed      |" in text and "```yaml\nbase: base.yaml\nseeds: 5\n```" in text


@pytest.mark.parametrize(
    "text",
    [
        HOSTILE, "a|b", "<b>x</b>", "*x* _y_ __z__", "a_b_c", "`code`", "[x](http://a)", "![x](y)", "[a]: b", "# x", "- x",
        "1. x", "1) x", "> x", "&lt; &copy;", "a\\", "\\|", "~~x~~", "$x$", "[ ] x", "+", "0.573", "-0.42", "[-1, +2]", "<1%",
        "a\nb", "lr0=0.01, phases=[{\"for\": \"3ep\"}]",
    ],
)  # fmt: skip
def test_names_are_shown_by_markdown_as_they_are(text):
    shown = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    md = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    for source in (f"- {markdown(text)}", f"| a |\n|---|\n| {markdown(text)} |"):
        page = Page(md.render(source))
        assert page.text.split("a\n\n\n\n\n", 1)[-1].strip() == shown
        assert set(page.tags) <= {"ul", "li", "table", "thead", "tbody", "tr", "th", "td"}


@pytest.mark.parametrize("text", ["0.573", "[-0.66, +1.95]", "warmup_epochs", "<1%", "wsd (baseline)", "mAP50-95"])
def test_figures_are_not_cluttered_by_escapes(text):
    assert markdown(text) == text


def test_the_fence_is_longer_than_what_it_holds():
    results = ablation(GAINS, source="a: |\n  ```\n  ````\n")
    assert "\n`````yaml\n" in to_markdown(results, decide(results))


def test_the_csv_has_every_run_in_full_precision():
    results = usual()
    rows = list(csv.DictReader(io.StringIO(to_csv(results))))
    assert [(row["variant"], int(row["seed"]), row["state"]) for row in rows] == [
        (run.variant, run.seed, run.state) for run in results.runs
    ]
    for row, run in zip(rows, results.runs, strict=True):
        for name in (*COCO_METRICS, "AP50-95/cat", "AP50-95/dog"):
            value = run.value(name)
            assert row[name] == "" if math.isnan(value) else float(row[name]) == value
        assert (
            int(row["steps_trained"]) == max(run.steps_done - run.forked_at, 0) and float(row["seconds"]) == run.seconds
        )
    assert rows[11]["incidents"] == "" and "2 updates were left out" in rows[12]["incidents"]


def test_intervals_over_images_are_kept_apart():
    results = ablation(GAINS, special={("wsd", 3): {"images": image_intervals()}})
    assert tables.image_rows(results) == [
        ("wsd", "3", "mAP50-95", words.fraction(results.of("wsd")[3].value(MAP)), "[0.520, 0.580], 95%", "500", "1,000")
    ]
    for text in (page_of(results).text, to_markdown(results, decide(results))):
        assert tables.IMAGES_MEANING in text
    assert tables.IMAGES_MEANING not in page_of(ablation(GAINS)).text
