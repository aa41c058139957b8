"""Where results lie, what is known about a run, and the page that is rendered from them."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import contestants, table
from benchmarks import rows as rows_of
from benchmarks.rows import Row
from goldfish.errors import ConfigError
from goldfish.tracking import provenance

RESULTS = Path(__file__).with_name("results")
DEVICES = ("cpu", "cuda")
FOLDERS = {"cpu": "cpu", "cuda": "gpu"}  # of their results
PAGE = "performance_table.md"
_HEAD = """\
# Measured performance

Written by `goldfish bench --render` from `benchmarks/results/`; measured by `goldfish bench --update-results`. Every
comparison is interleaved: contestants take turns in one process, and a ratio is the median of the rounds' ratios, ±
their interquartile range. A step is forward, and backward from a fixed gradient of all outputs into all weights.
"Instrumented" also leaves the norm of the adjoint of every state, sample and step.
"""


def folder(device: str, update: bool) -> Path:
    """Where CSV and plots go: benchmarks/results/<device> with --update-results, else outputs/benchmarks/<device>."""
    return (RESULTS if update else Path("outputs") / "benchmarks") / FOLDERS[device]


def about(device: str, threads: int, quick: bool) -> dict[str, str]:
    """Machine, versions and commit; neither host nor user."""
    known = provenance.collect()
    changed = "+changes" if known.get("dirty") == "true" else ""
    return {
        "device": device,
        "threads": str(threads),
        "auto": contestants.auto(device),
        "quick": "yes" if quick else "no",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "load": f"{os.getloadavg()[0]:.2f}",
        "machine": known["machine"],
        "python": known["python"],
        "versions": known["versions"],
        "commit": f"{known['commit']}{changed}" if "commit" in known else "",
    }


def render(results: Path, docs: Path, order: Sequence[tuple[str, str]]) -> list[Path]:
    """Write the page, and the plots beside it; `order`: the sections' names and titles.

    Raises ConfigError when there are no results.
    """
    parts, written = [_HEAD], []
    for device in DEVICES:
        found = [
            (title, *rows_of.read(file))
            for name, title in order
            if (file := results / FOLDERS[device] / f"{name}.csv").is_file()
        ]
        if not found:
            continue
        parts.append(f"## {device}\n")
        for title, rows, facts in found:
            parts.append(f"### {title}\n\n{_facts(facts)}\n")
            parts.extend(f"{item.markdown()}\n" for item in table.tables(rows))
        plots = draw([row for _, rows, _ in found for row in rows], docs / f"performance_{device}")
        parts.extend(f"![cost against T, H and R, {device}]({file.name})\n" for file in plots if file.suffix == ".png")
        written.extend(plots)
    if not written and len(parts) == 1:
        raise ConfigError("--render: benchmarks/results/ is empty; goldfish bench --update-results fills it")
    page = docs / PAGE
    page.write_text("\n".join(parts), encoding="utf-8")
    return [page, *written]


def _facts(facts: dict[str, str]) -> str:
    quick = " A quick look, not the benchmark." if facts["quick"] == "yes" else ""
    threads = f"{facts['threads']} thread{'' if facts['threads'] == '1' else 's'}"
    settings = f"{threads}, load {facts['load']} at the start; engine=auto: {facts['auto']}"
    where = f"{facts['machine']}; {settings}"
    commit, _, changes = facts["commit"].partition("+")
    at = f"commit {commit[:10] or 'unknown'}{' with changes' if changes else ''}"
    return f"{where}; {facts['date']}, {at}; {facts['versions']}.{quick}"


def draw(rows: Sequence[Row], path: Path) -> list[Path]:
    """The growth plots, where there are such rows and matplotlib is installed; the files written."""
    if importlib.util.find_spec("matplotlib") is None:
        return []
    from benchmarks import plots

    return plots.growth(rows, path)
