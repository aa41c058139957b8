"""Makes docs/mlflow_view.png anew: a prepared view of `forgetting` in MLflow's UI, as a reader's browser shows it.

    make sweep                          # the runs, recorded in mlflow.db; nothing where they are there already
    .venv/bin/python docs/pictures.py   # starts the UI on that store, photographs it, stops it

Needs Debian's chromium (`apt install chromium`) and playwright, which comes with `pip install goldfish-rnn[dev]`. The
store is that of the working directory, or MLFLOW_TRACKING_URI. Ends with 2 and one line where something is not there.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from goldfish.errors import ConfigError
from goldfish.tracking import ui, views
from goldfish.tracking.store import Store

if TYPE_CHECKING:
    from playwright.sync_api import Page

PICTURE = Path(__file__).with_name("mlflow_view.png")
EXPERIMENT = "forgetting"
SEARCH = 'params.task = "recall" and params.length = "40"'
MATCHING = "48 matching runs"  # 12 cell × initialisation pairs, four seeds each
WIDTH, HEIGHT = 1500, 930  # pixels
PATIENCE = 120_000  # milliseconds
SWITCHES = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
GROUPS = 12
DRAWN = """groups => {
    const drawn = [...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => plot.data)
        .filter(trace => trace.metricKey && trace.hoverinfo != 'skip').map(trace => trace.metricKey);
    return ['gradient/log10_norm_by_lag_before', 'gradient/log10_norm_by_lag']
        .every(metric => drawn.filter(name => name == metric).length == groups);
}"""


def main() -> int:
    """Make the picture; returns the exit code."""
    try:
        photograph(Store(), _chromium())
    except ConfigError as error:
        print(f"pictures: {error}", file=sys.stderr)
        return 2
    print(f"Written: {PICTURE}")
    return 0


def _chromium() -> str:
    """Chromium's path. Raises ConfigError where it is not installed."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        raise ConfigError("chromium: not installed; apt install chromium")
    return found


def photograph(store: Store, chromium: str) -> None:
    """Start the UI on the store, open the averages, narrow them to recall at length 40, and write the picture.

    Raises ConfigError where the store has no such experiment, and where playwright is not installed.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError as error:
        raise ConfigError("playwright: not installed; pip install playwright") from error
    views.experiment(store, EXPERIMENT)  # refuse before anything starts
    store.prepare()
    views.prepare_views(store, EXPERIMENT)
    with ui.running(store) as server, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=list(SWITCHES))
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(PATIENCE)
        page.goto(views.link(server.base, views.experiment(store, EXPERIMENT), views.AVERAGES))
        _narrow(page)
        page.screenshot(path=PICTURE)
        browser.close()


def _narrow(page: Page) -> None:
    """Close what MLflow opens for a newcomer, search, and wait until both charts of the gradient are drawn."""
    assistant = page.get_by_role("button", name="Close").first
    assistant.wait_for()
    assistant.click()
    search = page.get_by_placeholder("metrics.rmse < 1")
    search.fill(SEARCH)
    search.press("Enter")
    page.get_by_text(MATCHING).wait_for()
    for _ in range(3):  # charts are drawn again until the page has settled
        page.wait_for_function(DRAWN, arg=GROUPS)
        page.wait_for_timeout(4000)
    page.wait_for_function(DRAWN, arg=GROUPS)


if __name__ == "__main__":
    sys.exit(main())
