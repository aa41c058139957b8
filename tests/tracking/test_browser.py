"""The prepared views in a real headless browser: their form is MLflow's own and undocumented, so it is looked at."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from tests.stores import copy_store
from tests.tracking.outcomes import make_study, record

from goldfish.tracking import ui, views
from goldfish.tracking.store import Store

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SWITCHES = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
PATIENCE = 60_000  # milliseconds
TRACES = """() => [...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => plot.data)
    .filter(trace => trace.metricKey && trace.hoverinfo != 'skip')
    .map(trace => ({metric: trace.metricKey, colour: trace.marker.color, x: trace.x, y: trace.y}))"""


@pytest.fixture(scope="module")
def study(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with 24 runs, 12 groups of two seeds, and its views."""
    store = copy_store(template, tmp_path_factory.mktemp("study"))
    for outcome in make_study():
        record(store, outcome)
    views.prepare_views(store, "study")
    return store


@pytest.fixture(scope="module")
def base(study: Store) -> Iterator[str]:
    """The address of a UI on that store."""
    with ui.running(study, 5400) as server:
        yield server.base


@pytest.fixture(scope="module")
def page(base: str) -> Iterator[Page]:
    """A page of a fresh browser that has never seen MLflow; it fails the test when it asks for anything elsewhere."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium here: apt install chromium")
    strangers = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=SWITCHES)
        page = browser.new_page(viewport={"width": 1700, "height": 1650})
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: strangers.append(request.url) if _foreign(request.url, base) else None)
        yield page
        browser.close()
    assert strangers == []


def _foreign(url: str, base: str) -> bool:
    return not url.startswith((base, "data:", "blob:"))


def traces(page: Page, metric: str, count: int) -> list[dict[str, Any]]:
    """The curves that are drawn of a metric, once there are `count` of them."""
    there = f"([metric, count]) => ({TRACES})().filter(trace => trace.metric == metric).length == count"
    page.wait_for_function(there, arg=[metric, count])
    return [trace for trace in page.evaluate(TRACES) if trace["metric"] == metric]


def without_assistant(page: Page) -> None:
    """Close the panel that MLflow opens for a newcomer: it takes a third of the page."""
    panel = page.get_by_role("button", name="Close").first
    panel.wait_for()
    panel.click()


def test_the_link_opens_straight_into_curves_averaged_over_seeds(study: Store, base: str, page: Page, tmp_path: Path):
    page.goto(views.link(base, study.experiments()["study"], views.AVERAGES))
    without_assistant(page)
    page.get_by_text("24 matching runs").wait_for()
    groups = page.locator(".ag-row").filter(has_text="Group: ")
    arms = [*("gru·chrono", "gru·pytorch", "lstm·chrono", "lstm·pytorch"), *("rnn·orthogonal", "rnn·pytorch")]
    expected = [f"Group: {length}·{arm} recall" for arm in arms for length in (20, 80)]
    shown = [[line for line in text.splitlines() if "Group: " in line] for text in groups.all_inner_texts()]
    assert shown == [[name] for name in expected]
    for metric in ("gradient/log10_norm_by_lag_before", "gradient/log10_norm_by_lag", "recall/accuracy_by_length"):
        assert len(traces(page, metric, 12)) == 12
    drawn = {_key(trace["x"], trace["y"]) for trace in traces(page, "gradient/log10_norm_by_lag_before", 12)}
    assert drawn == _means(study, "before")
    lines = page.locator(".js-plotly-plot").first.locator(".scatterlayer .trace path.js-line")
    assert lines.count() >= 12
    page.screenshot(path=tmp_path / "averages.png")
    page.get_by_text("Settings, horizons and accuracy").scroll_into_view_if_needed()
    page.get_by_text("Parallel Coordinates").wait_for()
    page.locator(".parcoords canvas").first.wait_for()
    for axis in ("length", "gradient/horizon_before", "recall/horizon", "test/accuracy"):
        page.locator(".parcoords").get_by_text(axis, exact=True).wait_for()
    page.screenshot(path=tmp_path / "averages-below.png")


def test_the_second_view_shows_every_run_with_its_key_columns(study: Store, base: str, page: Page, tmp_path: Path):
    page.goto(views.link(base, study.experiments()["study"], views.ALL_RUNS))
    page.get_by_text("24 matching runs").wait_for()
    headings = page.locator(".ag-header-cell")
    parameters = ("cell", "init", "task", "length", "seed", "hidden", "lr")
    for name in ("goldfish.outcome", *parameters, "test/accuracy", "recall/horizon"):
        headings.get_by_text(name, exact=True).wait_for()
    first = page.locator(".ag-center-cols-container .ag-row[row-index='0']").inner_text().split("\n")
    assert [word for word in first if word][:8] == ["solved", "gru", "chrono", "recall", "20", "0", "32", "0.001"]
    assert page.get_by_role("link", name="gru·chrono·recall T=20 seed 0").is_visible()
    page.screenshot(path=tmp_path / "runs.png")


def test_two_runs_are_compared_in_the_colours_of_their_cells(study: Store, base: str, page: Page, tmp_path: Path):
    link = views.link(base, study.experiments()["study"], views.ALL_RUNS)
    page.goto(link.replace("compareRunsMode=TABLE", "compareRunsMode=CHART"))
    page.get_by_text("24 matching runs").wait_for()
    search = page.get_by_placeholder("metrics.rmse < 1")
    search.fill('params.init = "pytorch" and params.length = "80" and params.seed = "0" and params.cell != "lstm"')
    search.press("Enter")
    page.get_by_text("2 matching runs").wait_for()
    found = traces(page, "gradient/log10_norm_by_lag_before", 2)
    assert {trace["colour"] for trace in found} == {"#D55E00", "#009E73"}
    assert {len(trace["x"]) for trace in found} == {81}
    page.screenshot(path=tmp_path / "compare.png")


def _means(store: Store, phase: str) -> set[tuple]:
    """The curve of each group as it must be drawn: the mean over its seeds."""
    runs = store.runs("study")
    curves = store.curves(runs["run_id"])
    wanted = curves[(curves["quantity"] == "gradient/log10_norm_by_lag") & (curves["phase"] == phase)]
    joined = pd.merge(wanted, runs[["fingerprint", "cell", "init", "task.length"]], on="fingerprint")
    means = joined.groupby(["cell", "init", "task.length", "x"])["value"].mean()
    return {_key(part.index.get_level_values("x"), part) for _, part in means.groupby(level=[0, 1, 2])}


def _key(x: Any, y: Any) -> tuple:
    return (*np.asarray(x, float), *np.round(np.asarray(y, float), 9))
