"""One measured number as a row, and its CSV: standard library only, for machines that have nothing else."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal

from benchmarks.interleave import NotRun, Ratio, Timed


@dataclass(frozen=True)
class Target:
    """What a number is to reach."""

    relation: Literal["≥", "≤"]
    bound: float

    def met(self, value: float) -> bool:
        """True when the value is on the right side."""
        return value >= self.bound if self.relation == "≥" else value <= self.bound

    def __str__(self) -> str:
        return f"{self.relation} {self.bound:.4g}"


@dataclass(frozen=True)
class Row:
    """One number of one contestant in one case.

    Attributes:
        section: part of the benchmark.
        case: what is computed, such as "lstm H=32 B=32".
        peer: who computes it.
        value: seconds per step and network (median over rounds), or a number in another unit; None if it did not run.
        unit: of the value.
        ratio: how many times longer the peer takes than this project (or what the section's title says).
        spread: interquartile range of the rounds' ratios over their median.
        rounds: how often it was measured.
        target: what the ratio is to reach, or the value where there is no ratio; such as "≥ 4.5".
        met: "yes", "no", or "" where there is no target.
        note: anything to know, such as why it did not run.
    """

    section: str
    case: str
    peer: str
    value: float | None
    unit: str = "s"
    ratio: float | None = None
    spread: float | None = None
    rounds: int = 1
    target: str = ""
    met: str = ""
    note: str = ""

    @property
    def ran(self) -> bool:
        """False for what could not run here."""
        return self.value is not None or self.ratio is not None


def row(
    section: str,
    case: str,
    peer: str,
    value: float | None,
    *,
    unit: str = "s",
    ratio: Ratio | None = None,
    rounds: int = 1,
    target: Target | None = None,
    note: str = "",
) -> Row:
    """A row whose `met` follows from its target."""
    number, width = (ratio.value, ratio.spread) if ratio else (None, None)
    plain = Row(section, case, peer, value, unit, number, width, rounds, note=note)
    return plain if target is None else judged(plain, target)


def judged(item: Row, target: Target) -> Row:
    """The row with a target, if it ran."""
    reached = item.value if item.ratio is None else item.ratio
    if reached is None:
        return item
    return replace(item, target=str(target), met="yes" if target.met(reached) else "no")


def not_run(section: str, case: str, peer: str, why: str) -> Row:
    """A row of something that could not run here."""
    return Row(section, case, peer, None, unit="", rounds=0, note=f"not run: {why}")


def timed(section: str, case: str, results: Mapping[str, Timed | NotRun], ratios: Mapping[str, Ratio]) -> list[Row]:
    """Rows of one interleaved measurement."""
    rows = []
    for peer, result in results.items():
        if isinstance(result, NotRun):
            rows.append(not_run(section, case, peer, result.reason))
        else:
            ratio = ratios.get(peer)
            rows.append(row(section, case, peer, result.median, ratio=ratio, rounds=len(result.rounds)))
    return rows


def write(path: Path, rows: Iterable[Row], about: Mapping[str, str]) -> None:
    """Write rows as CSV; what is known about the run (machine, versions, commit, …) stands in every row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [field.name for field in fields(Row)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*names, *about], lineterminator="\n")
        writer.writeheader()
        for item in rows:
            writer.writerow({name: _text(value) for name, value in (asdict(item) | dict(about)).items()})


def read(path: Path) -> tuple[list[Row], dict[str, str]]:
    """What `write` wrote: the rows and what is known about the run."""
    rows: list[Row] = []
    about: dict[str, str] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            rows.append(
                Row(
                    section=line.pop("section"),
                    case=line.pop("case"),
                    peer=line.pop("peer"),
                    value=_number(line.pop("value")),
                    unit=line.pop("unit"),
                    ratio=_number(line.pop("ratio")),
                    spread=_number(line.pop("spread")),
                    rounds=int(line.pop("rounds")),
                    target=line.pop("target"),
                    met=line.pop("met"),
                    note=line.pop("note"),
                )
            )
            about = line
    return rows, about


def _text(value: object) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _number(text: str) -> float | None:
    return float(text) if text else None
