"""A section's rows as short tables: time and ratios by case and peer, targets, single numbers, and what did not run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.rows import Row

VERDICTS = {"yes": "met", "no": "NOT met", "": ""}
ACROSS = 6  # cases side by side
_SI = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


@dataclass(frozen=True)
class Table:
    """A title, a head, and lines of as many cells."""

    title: str
    head: list[str]
    lines: list[list[str]]

    def text(self) -> str:
        """Aligned columns."""
        every = [self.head, *self.lines]
        widths = [max(len(line[column]) for line in every) for column in range(len(self.head))]
        rendered = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in every]
        return "\n".join([self.title, *(f"  {line.rstrip()}" for line in rendered)])

    def markdown(self) -> str:
        """A pipe table under a bold title."""
        lines = [self.head, ["---"] * len(self.head), *self.lines]
        escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
        return "\n".join([f"**{self.title}**", "", *(f"| {' | '.join(line)} |" for line in escaped)])


def tables(rows: Sequence[Row]) -> list[Table]:
    """The tables of one section; empty ones are left out."""
    found = [_targets(rows), *_grids(rows), _numbers(rows), _missing(rows)]
    return [table for table in found if table.lines]


def quantity(value: float | None, unit: str) -> str:
    """Such as "1.32 ms", "3.1e-07" or "1.4 GB"."""
    if value is None:
        return ""
    if unit != "s":
        return f"{value:{'.0f' if float(value).is_integer() else '.3g'}} {unit}".strip()
    factor, name = next((item for item in _SI if value >= item[0]), _SI[-1])
    return f"{value / factor:.3g} {name}"


def _targets(rows: Sequence[Row]) -> Table:
    """Ratios that have a target."""
    shown = [item for item in rows if item.target and item.ratio is not None]
    lines = [[item.case, item.peer, _reached(item), item.target, VERDICTS[item.met]] for item in shown]
    return Table("Targets", ["case", "peer", "ratio", "target", ""], lines)


def _reached(item: Row) -> str:
    return f"{item.ratio:.3g}{f' ± {item.spread:.0%}' if item.spread else ''}"


def _grids(rows: Sequence[Row]) -> list[Table]:
    """Peers down, cases across, tables for each cell: the time, and the ratio behind it."""
    shown = [item for item in rows if item.unit == "s" and item.value is not None and item.ratio is not None]
    found = []
    for first in dict.fromkeys(item.case.split()[0] for item in shown):
        group = [item for item in shown if item.case.split()[0] == first]
        cases = list(dict.fromkeys(item.case for item in group))
        found += [_grid(group, cases[start : start + ACROSS]) for start in range(0, len(cases), ACROSS)]
    return found


def _grid(rows: Sequence[Row], cases: Sequence[str]) -> Table:
    by = {(item.case, item.peer): item for item in rows}
    peers = dict.fromkeys(item.peer for item in rows if item.case in cases)
    lines = [[peer, *(_timed(by.get((case, peer))) for case in cases)] for peer in peers]
    return Table("Time (ratio)", ["", *cases], lines)


def _timed(item: Row | None) -> str:
    return "" if item is None else f"{quantity(item.value, item.unit)} ({item.ratio:.3g})"


def _numbers(rows: Sequence[Row]) -> Table:
    """Numbers that are no ratios: cases down, peers across."""
    shown = [item for item in rows if item.value is not None and item.ratio is None]
    by = {(item.case, item.peer): item for item in shown}
    targets = {item.case: item.target for item in shown if item.target}
    peers = list(dict.fromkeys(item.peer for item in shown))
    lines = [
        [case, *(_number(by.get((case, peer))) for peer in peers), targets.get(case, "")]
        for case in dict.fromkeys(item.case for item in shown)
    ]
    return Table("Measured", ["case", *peers, "target"], lines)


def _number(item: Row | None) -> str:
    if item is None:
        return ""
    verdict = f" {VERDICTS[item.met]}" if item.met else ""
    return f"{quantity(item.value, item.unit)}{verdict}{f' ({item.note})' if item.note else ''}"


def _missing(rows: Sequence[Row]) -> Table:
    """What could not run, one line for each peer and reason."""
    cases: dict[tuple[str, str], list[str]] = {}
    for item in rows:
        if not item.ran:
            cases.setdefault((item.peer, item.note.removeprefix("not run: ")), []).append(item.case)
    lines = [[peer, why, ", ".join(found)] for (peer, why), found in cases.items()]
    return Table("Not run", ["peer", "reason", "cases"], lines)
