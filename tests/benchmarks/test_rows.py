"""Rows, their targets, their CSV, and the tables and the page that are made of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import results, rows, table
from benchmarks.interleave import NotRun, Ratio, Timed
from benchmarks.rows import Row, Target, judged, not_run, row
from goldfish.errors import ConfigError

ABOUT = {
    "device": "cpu",
    "threads": "2",
    "auto": "rnn: cpu, lstm: cpu, gru: stepwise",
    "quick": "no",
    "date": "2026-01-02",
    "load": "0.10",
    "machine": "Some CPU, 2 cores",
    "python": "3.11",
    "versions": 'goldfish 0.1.0, "torch" 2.13',
    "commit": "0123456789abcdef+changes",
}
OURS = "goldfish auto, instrumented"
ROWS = [
    row("single", "rnn H=32 B=32", OURS, 1.5e-3, ratio=Ratio(1.0, 0.0), rounds=7),
    row("single", "rnn H=32 B=32", "torch.nn", 7.5e-3, ratio=Ratio(5.0, 0.02), rounds=7, target=Target("≥", 4.5)),
    row("single", "gru H=32 B=32", "torch.nn", 3e-6, ratio=Ratio(2.0, 0.5), rounds=7, target=Target("≥", 4.5)),
    row("single", "lstm T=200", "goldfish cpu", 3.1e-7, unit="", target=Target("≤", 2e-6), note="fp32 | norms"),
    not_run("single", "rnn H=32 B=32", "FlashRNN", "not installed"),
]


@pytest.mark.parametrize(
    ("target", "value", "met"),
    [
        (Target("≥", 4.5), 4.5, True),
        (Target("≥", 4.5), 4.4, False),
        (Target("≤", 1.05), 1.05, True),
        (Target("≤", 1.05), 1.06, False),
    ],
)
def test_targets(target: Target, value: float, met: bool) -> None:
    assert target.met(value) is met


def test_a_target_judges_the_ratio_where_there_is_one() -> None:
    assert row("s", "c", "p", 9.0, ratio=Ratio(1.0, 0.0), target=Target("≥", 2)).met == "no"
    assert row("s", "c", "p", 9.0, target=Target("≥", 2)).met == "yes"
    assert judged(not_run("s", "c", "p", "why"), Target("≥", 2)).target == ""


def test_rows_of_a_measurement() -> None:
    measured: dict[str, Timed | NotRun] = {"a": Timed((2.0, 4.0, 3.0)), "b": NotRun("why")}
    first, second = rows.timed("s", "c", measured, {"a": Ratio(1.5, 0.1)})
    assert first == Row("s", "c", "a", 3.0, "s", 1.5, 0.1, rounds=3)
    assert not second.ran
    assert second.note == "not run: why"


def test_csv_round_trip(tmp_path: Path) -> None:
    rows.write(tmp_path / "new" / "single.csv", ROWS, ABOUT)
    found, about = rows.read(tmp_path / "new" / "single.csv")
    assert found == ROWS
    assert about == ABOUT
    text = (tmp_path / "new" / "single.csv").read_text(encoding="utf-8")
    assert text.startswith("section,case,peer,value,unit,ratio,spread,rounds,target,met,note,device,")
    assert "\r" not in text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.234, "s", "1.23 s"),
        (1.5e-3, "s", "1.5 ms"),
        (3e-6, "s", "3 µs"),
        (2e-8, "s", "0.02 µs"),
        (1.4, "GB", "1.4 GB"),
        (1000, "steps", "1000 steps"),
        (3.1e-7, "", "3.1e-07"),
        (None, "s", ""),
    ],
)
def test_quantities(value: float | None, unit: str, text: str) -> None:
    assert table.quantity(value, unit) == text


def test_tables() -> None:
    found = {item.title: item for item in table.tables(ROWS)}
    assert found["Targets"].lines == [
        ["rnn H=32 B=32", "torch.nn", "5 ± 2%", "≥ 4.5", "met"],
        ["gru H=32 B=32", "torch.nn", "2 ± 50%", "≥ 4.5", "NOT met"],
    ]
    grids = [item for item in table.tables(ROWS) if item.title == "Time (ratio)"]
    assert grids[0].lines == [[OURS, "1.5 ms (1)"], ["torch.nn", "7.5 ms (5)"]]
    assert grids[1].head == ["", "gru H=32 B=32"]
    assert found["Measured"].lines == [["lstm T=200", "3.1e-07 met (fp32 | norms)", "≤ 2e-06"]]
    assert found["Not run"].lines == [["FlashRNN", "not installed", "rnn H=32 B=32"]]
    assert "  gru H=32 B=32  torch.nn  2 ± 50%  ≥ 4.5   NOT met" in found["Targets"].text().splitlines()
    assert "| lstm T=200 | 3.1e-07 met (fp32 \\| norms) | ≤ 2e-06 |" in found["Measured"].markdown()


def test_a_wide_table_is_broken() -> None:
    wide = [row("growth", f"rnn T={T}", "torch.nn", 1.0, ratio=Ratio(1.0, 0.0)) for T in range(table.ACROSS + 1)]
    assert [len(item.lines[0]) - 1 for item in table.tables(wide)] == [table.ACROSS, 1]


def test_rendering(tmp_path: Path) -> None:
    grown = [
        row("growth", f"{cell} H=32 B=32{extra}", peer, 1e-3 * (2 + k), ratio=Ratio(1.0, 0.0))
        for cell in ("rnn", "lstm", "gru")
        for k, extra in enumerate((" T=50", "", " R=4"))
        for peer in (OURS, "torch.nn")
    ]
    rows.write(tmp_path / "results" / "cpu" / "single.csv", ROWS, ABOUT)
    rows.write(tmp_path / "results" / "cpu" / "growth.csv", grown, ABOUT)
    docs = tmp_path / "docs"
    docs.mkdir()
    written = results.render(tmp_path / "results", docs, [("single", "One network"), ("growth", "Cost")])
    assert [file.name for file in written] == ["performance_table.md", "performance_cpu.pdf", "performance_cpu.png"]
    page = written[0].read_text(encoding="utf-8")
    assert "### One network" in page
    assert "Some CPU, 2 cores; 2 threads, load 0.10 at the start; engine=auto: rnn: cpu, lstm: cpu, gru: st" in page
    assert "2026-01-02, commit 0123456789 with changes; goldfish 0.1.0" in page

    assert "| rnn H=32 B=32 | torch.nn | 5 ± 2% | ≥ 4.5 | met |" in page
    assert "![cost against T, H and R, cpu](performance_cpu.png)" in page
    assert "## cuda" not in page
    assert written[2].read_bytes().startswith(b"\x89PNG")


def test_nothing_to_render(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--update-results fills it"):
        results.render(tmp_path, tmp_path, [("single", "One network")])
