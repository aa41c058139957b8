"""What tests share: the folder of real datasets, which tests are slow, and a table of what was skipped, and why."""

from __future__ import annotations

import gc
import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from goldfish.tracking.store import Store

ROOT = Path(__file__).parents[1]
KNOWN = Path(__file__).with_name("skips.txt")
SLOW = ("browser", "faults", "sample", "science")
LONG = 5.0  # seconds after which a test is told that is not marked slow
Skips = Counter[tuple[str, str]]  # file, reason


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """A folder of datasets as parquet, one folder each: $GOLDFISH_DATA, or ../shared/data beside the repository."""
    folder = Path(os.environ.get("GOLDFISH_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real datasets: {folder} is not there (set GOLDFISH_DATA)")
    return folder


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an empty store, created once: it takes seconds."""
    from goldfish.tracking.store import Store

    folder = tmp_path_factory.mktemp("template")
    store = Store(f"sqlite:///{folder / 'mlflow.db'}", root=folder)
    store.prepare()
    assert store.path is not None
    return store.path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture
def store(template: Path, here: Path) -> Store:
    """A store of its own in an otherwise empty folder, which is the working directory."""
    from tests.stores import copy_store

    return copy_store(template, here)


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what -m does not name
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What has one of these marks takes long."""
    for item in items:
        if any(item.get_closest_marker(name) for name in SLOW):
            item.add_marker("slow")


def pytest_collection_finish() -> None:
    """What is imported by now stays: a test that collects garbage need not look through it."""
    gc.collect()
    gc.freeze()


def skips(config: pytest.Config) -> Skips:
    """How many tests of a file were skipped for a reason."""
    found: Skips = Counter()
    for report in config.pluginmanager.getplugin("terminalreporter").stats.get("skipped", ()):
        found[report.nodeid.partition("::")[0], str(report.longrepr[2]).removeprefix("Skipped: ")] += 1
    return found


def is_known(reason: str) -> bool:
    """Whether skips.txt has the reason."""
    lines = KNOWN.read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    return any(re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), reason) for pattern in patterns)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In continuous integration a skip for a new reason is a failure."""
    new = [reason for _, reason in skips(session.config) if not is_known(reason)]
    if new and os.environ.get("CI") == "true" and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table, and what takes long without being marked slow."""
    for report in terminalreporter.stats.get("passed", ()):
        if report.when == "call" and report.duration > LONG and "slow" not in report.keywords:
            terminalreporter.line(f"{report.nodeid} took {report.duration:.0f} s, and is not marked slow")
    found = skips(config)
    if found:
        terminalreporter.section("skipped")
        for (file, reason), count in sorted(found.items()):
            mark = "" if is_known(reason) else "NEW, not in tests/skips.txt: "
            terminalreporter.line(f"{count:5}  {file:<40}  {mark}{reason}")
