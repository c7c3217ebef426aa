"""The page in a browser: what it draws, what its controls do, and that nothing of it goes wrong or goes out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.report.ablations import GAINS, HOSTILE, ablation, usual
from yolo_cosine.ablation.verdict import decide
from yolo_cosine.report.ablation_report import write_report

selenium = pytest.importorskip("selenium", reason="selenium drives the browser")
from selenium.webdriver import Chrome, ChromeOptions, Keys  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.select import Select  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver")

STATES = {
    "usual": usual,
    "hostile": lambda: ablation(
        {HOSTILE: 0, "b" + HOSTILE: 0.01}, classes=(HOSTILE, "dog"), special={(HOSTILE, 1): {"state": "failed"}}
    ),
    "many": lambda: ablation(
        {f"variant {k}": 0.002 * k for k in range(12)}, (0, 1, 2), classes=[f"class {k}" for k in range(80)]
    ),
    "waiting": lambda: ablation(
        GAINS, special={(name, seed): {"state": "waiting"} for name in GAINS for seed in range(5)}
    ),
    "one seed": lambda: ablation(GAINS, (0,)),
}


class Browser:
    """Chromium with a window of any size and either colour scheme."""

    def __init__(self, folder: Path):
        options = ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = Chrome(options=options, service=Service(DRIVER))
        self.folder = folder

    def show(self, state: str, width: int = 1280, scheme: str = "light") -> None:
        """Open the report of a state."""
        path = self.folder / state
        if not path.exists():
            results = STATES[state]()
            write_report(path, results, decide(results))
        self.logs()
        self.look(width, scheme)
        self.driver.get((path / "report.html").as_uri())

    def look(self, width: int | None = None, scheme: str | None = None) -> None:
        """Another width or colour scheme, also while a page is open; waits until it has taken it up."""
        if width:
            size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
            self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        if scheme:
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        # Plotly takes up a new size a tenth of a second later
        painted = "const done = arguments[1]; setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done)), arguments[0])"
        self.driver.execute_async_script(painted, 150 if width else 0)

    def logs(self) -> tuple[list[str], list[str]]:
        """What the console says, and the addresses that were asked for, since the last call."""
        told = [entry["message"] for entry in self.driver.get_log("browser")]
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return told, asked

    def run(self, script: str, *arguments):
        """The value of a function's body in the page."""
        return self.driver.execute_script(script, *arguments)

    def all(self, selector: str) -> list:
        """The elements that a CSS selector finds."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def click(self, selector: str) -> None:
        """Click the one element of a selector."""
        (element,) = self.all(selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def lines(self, chart: str) -> int:
        """The traces that a chart shows."""
        return len(self.all(f"#{chart} .scatterlayer .trace"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("pages"))
    yield browser
    browser.driver.quit()


@pytest.mark.parametrize("state", ["usual", "hostile", "many", "waiting"])
def test_nothing_goes_wrong_goes_out_or_sticks_out(browser, state):
    scheme = "dark" if state == "many" else "light"
    browser.show(state, 360, scheme)
    browser.run("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    for look in (
        {"width": 360},
        {"scheme": "light" if scheme == "dark" else "dark"},
        {"width": 1280},
        {"scheme": scheme},
    ):
        browser.look(**look)
        assert browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        charts = browser.all("[data-plot]")
        assert len(charts) == (0 if state == "waiting" else 6)
        assert len(browser.all("[data-plot] .main-svg:first-child .cartesianlayer")) == len(charts)
        edges = "[...document.querySelectorAll('.main-svg')].map((svg) => svg.getBoundingClientRect().right)"
        assert browser.run(f"return Math.max(0, ...{edges}) <= document.documentElement.clientWidth")
    told, asked = browser.logs()
    assert told == []
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [browser.driver.current_url]


def test_a_variant_can_be_hidden_in_all_curves(browser):
    browser.show("usual")
    before = {chart: browser.lines(chart) for chart in ("lr", "curves", "losses", "finals")}
    assert before["lr"] == 4 and before["curves"] == 8  # mean and band each
    browser.click("#curves [data-variant='2']")
    after = {chart: browser.lines(chart) for chart in before}
    assert after == {"lr": 3, "curves": 6, "losses": before["losses"] - 2, "finals": before["finals"]}
    assert [b.get_attribute("aria-pressed") for b in browser.all("[data-variant='2']")] == ["false"] * 3
    (button,) = browser.all("#lr [data-variant='2']")
    button.send_keys(Keys.ENTER)
    assert {chart: browser.lines(chart) for chart in before} == before


def test_a_variant_can_be_shown_alone(browser):
    browser.show("usual")
    (button,) = browser.all("#lr [data-variant='1']")
    button.send_keys(Keys.SHIFT, Keys.ENTER)
    assert browser.lines("lr") == 1
    assert [b.get_attribute("aria-pressed") for b in browser.all("#lr [data-variant]")] == [
        "false",
        "true",
        "false",
        "false",
    ]
    button.send_keys(Keys.SHIFT, Keys.ENTER)
    assert browser.lines("lr") == 4


def test_single_runs_can_be_shown(browser):
    browser.show("usual")
    before, losses = browser.lines("curves"), browser.lines("losses")
    browser.click("[data-seeds='curves']")
    assert browser.lines("curves") == before + 19  # all that have begun
    assert browser.lines("losses") == losses
    (box,) = browser.all("[data-seeds='curves']")
    box.send_keys(Keys.SPACE)
    assert browser.lines("curves") == before
    for selector in (".scroll", ".view", "pre"):  # boxes that scroll can be reached
        assert all(element.get_attribute("tabindex") == "0" for element in browser.all(selector))


def test_what_is_not_finished_is_shown_by_its_runs(browser):
    browser.show("one seed")
    assert browser.lines("curves") == 4


def test_the_choices_change_what_is_drawn(browser):
    browser.show("usual")
    data = "const d = document.querySelector(`[data-plot='${arguments[0]}']`).data; return JSON.stringify(d.map((t) => [t.x, t.y]))"
    for chart, key, title in (
        ("losses", "dfl_loss", ".ytitle"),
        ("curves", "metrics/mAP50", ".ytitle"),
        ("curves", "difference", ".ytitle"),
        ("cost", "time", ".xtitle"),
        ("classes", "3", None),
    ):
        before, name = browser.run(data, chart), title and browser.all(f"#{chart} {title}")[0].text
        Select(browser.all(f"[data-choice='{chart}']")[0]).select_by_value(key)
        assert browser.run(data, chart) != before
        assert not title or browser.all(f"#{chart} {title}")[0].text != name
    Select(browser.all("[data-choice='lr']")[0]).select_by_value("log")
    assert browser.run("return document.querySelector(\"[data-plot='lr']\")._fullLayout.yaxis.type") == "log"
    assert browser.logs()[0] == []


def test_zoom_stays_when_lines_go(browser):
    browser.show("usual")
    zoom = "const d = document.querySelector(\"[data-plot='curves']\"); return"
    browser.run(f"{zoom} Plotly.relayout(d, {{'xaxis.range': [20, 30]}}).then(() => 0)")
    browser.click("#curves [data-variant='1']")
    assert browser.run(f"{zoom} d.layout.xaxis.range") == [20, 30]


def test_colours_follow_the_scheme(browser):
    browser.show("many")
    look = """const d = document.querySelector("[data-plot='lr']");
        const ink = (node) => getComputedStyle(node).fill;
        return [ink(d.querySelector(".xtick text")), ...d.data.map((trace) => trace.line.color)]"""
    light = browser.run(look)
    browser.look(scheme="dark")
    dark = browser.run(look)
    assert light[0] == "rgb(29, 33, 38)" and dark[0] == "rgb(230, 232, 234)"
    assert light[7] == "#000000" and dark[7] == "#f2f2f2"
    assert len(set(light[1:8])) == len(set(dark[1:8])) == 7 and light[1] == light[8]


def test_names_do_nothing_and_are_shown_as_they_are(browser):
    browser.show("hostile")
    browser.click("[data-seeds='curves']")
    assert browser.driver.title == "Ablation schedules"
    assert not browser.all("b[onmouseover]") and len(browser.all("script")) == 3
    assert browser.all("#lr [data-variant='0']")[0].get_attribute("title") == f"{HOSTILE} (baseline)"
    shown = [element.text for element in browser.all("#finals .ytick text, #classes .ytick text")]
    assert "</script><script>document.title…" in shown[:2]
    names = browser.run("return document.querySelector(\"[data-plot='curves']\").data.map((t) => t.name)")
    assert all("<" not in name for name in names)


def test_a_script_that_is_not_the_page_s_own_does_not_run(browser):
    browser.show("usual")
    add = "const s = document.createElement('script'); s.textContent = 'window.owned = 1'; document.body.append(s)"
    browser.run(add)
    assert browser.run("return window.owned") is None
    assert "Content Security Policy" in browser.logs()[0][0]


def test_no_button_of_a_chart_sends_it_away(browser):
    browser.show("usual")
    titles = {button.get_attribute("data-title") for button in browser.all("#curves .modebar-btn")}
    assert titles == {"Download plot as a PNG", "Zoom", "Pan", "Zoom in", "Zoom out", "Reset axes"}


def test_it_prints_in_light_colours_with_everything_open(browser):
    browser.show("usual", scheme="dark")
    browser.run("window.dispatchEvent(new Event('beforeprint'))")
    assert browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(251, 251, 250)"
    assert not browser.all("details:not([open])")
    browser.run("window.dispatchEvent(new Event('afterprint'))")
    assert browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    assert not browser.all("details[open]") and browser.logs()[0] == []
