"""The claims of a paper in published.csv, and the rule by which each of them is compared with runs of our own.

Columns: claim, in words; rule (see RULES); select, which of our runs, as "column=value column=value"; versus, the other
runs of an ordering or a ratio; metric, a column of runs.csv or samples.csv, or "solved"; value, n, tolerance: numbers,
as the rule needs them; unit; source; read, how the number was read. Lines above the header that begin with # hold the
paper's settings that every run of ours has. A file without a column `rule` is not checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from goldfish.errors import ConfigError, nearest
from goldfish.figures import grid
from goldfish.papers import rules
from goldfish.papers.rules import Judged, Times

FILE = "published.csv"
COLUMNS = ("claim", "rule", "select", "versus", "metric", "value", "n", "tolerance", "unit", "source", "read")
RULES = {
    "success": "Fisher's exact test of solved runs",
    "value": "interval within the tolerance",
    "above": "interval above",
    "below": "interval below",
    "more": "interval of the difference above 0, or Fisher's exact test for counts of solved runs",
    "less": "interval of the difference below 0",
    "ratio": "interval of the ratio of times-to-solve",
    "note": "orientation, no verdict",
}
NOT_RUN = "not run at this scale"
_SOLVED = "solved"


@dataclass(frozen=True)
class Claim:
    """A row of published.csv."""

    claim: str
    rule: str
    select: dict[str, str]
    versus: dict[str, str]
    metric: str
    value: float
    n: float
    tolerance: float
    unit: str
    source: str
    read: str


def read(folder: Path) -> list[Claim]:
    """The claims of an experiment's folder, none where it has no published.csv with rules. Raises ConfigError."""
    path = folder / FILE
    if not path.is_file():
        return []
    head, _ = _head(path)
    table = pd.read_csv(path, dtype=str, keep_default_na=False, skiprows=head)
    if "rule" not in table:
        return []
    if list(table.columns) != list(COLUMNS):
        raise ConfigError(f"{path}: has columns {', '.join(table.columns)}; expected {', '.join(COLUMNS)}")
    return [_claim(path, row) for row in table.to_dict("records")]


def settings(folder: Path) -> dict[str, str]:
    """The paper's settings that every run of ours shares: key → value."""
    return _head(folder / FILE)[1] if (folder / FILE).is_file() else {}


def _head(path: Path) -> tuple[int, dict[str, str]]:
    """How many lines with a leading # the file begins with, and the settings in them. Raises ConfigError."""
    lines = path.read_text(encoding="utf-8").splitlines()
    count = next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
    try:
        return count, _pairs(" ".join(line.lstrip("# ") for line in lines[:count]))
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def _claim(path: Path, row: dict[str, str]) -> Claim:
    if row["rule"] not in RULES:
        raise ConfigError(f"{path}: rule={row['rule']}: {nearest(row['rule'], RULES)}")
    try:
        numbers = {name: float(row[name] or "nan") for name in ("value", "n", "tolerance")}
        chosen = {name: _pairs(row[name]) for name in ("select", "versus")}
    except ValueError as error:
        raise ConfigError(f"{path}: claim '{row['claim']}': {error}") from error
    texts = {name: row[name] for name in ("claim", "rule", "metric", "unit", "source", "read")}
    return Claim(**texts, **chosen, **numbers)  # type: ignore[arg-type]


def _pairs(text: str) -> dict[str, str]:
    parts = [part.partition("=") for part in text.split()]
    if not all(sign for _, sign, _ in parts):
        raise ValueError(f"'{text}' is not of the form column=value column=value")
    return {column: value for column, _, value in parts}


def verdicts(folder: Path, runs: pd.DataFrame) -> list[tuple[Claim, Judged]]:
    """The claims of an experiment's folder, each with its verdict on these runs."""
    return [(claim, judge(claim, runs)) for claim in read(folder)]


def text(pairs: Sequence[tuple[Claim, Judged]]) -> str:
    """A line for each claim and its verdict, then what they come to."""
    lines = [
        f"{judged.verdict or 'orientation'}: {claim.claim}: {judged.told}  [{claim.rule}]" for claim, judged in pairs
    ]
    return "\n".join([*lines, f"In all: {rules.overall([one.verdict for _, one in pairs])}"])


def judge(claim: Claim, runs: pd.DataFrame) -> Judged:
    """A claim's verdict. Failed and missing runs are left out, diverged ones are unsolved and have no value."""
    if claim.rule == "note":
        return Judged("", f"published {claim.value:g} {claim.unit}".rstrip())
    first, second = (rows(claim, pairs, runs) for pairs in (claim.select, claim.versus))
    if first.empty or (claim.versus and second.empty):
        return Judged(NOT_RUN, "–")
    if claim.metric == _SOLVED:
        solved, n = count(first)
        if claim.rule == "success":
            return rules.success(solved, n, int(claim.value), int(claim.n))
        return rules.order_of_success(solved, n, *count(second))
    if claim.rule == "ratio":
        return rules.ratio(times(first), times(second), claim.value)
    values = list(grid.column(first, claim.metric))
    if claim.rule == "value":
        return rules.value(values, claim.value, claim.tolerance)
    if claim.rule in ("above", "below"):
        return rules.bound(values, claim.value, above=claim.rule == "above")
    return rules.order(values, list(grid.column(second, claim.metric)), above=claim.rule == "more")


def rows(claim: Claim, pairs: Mapping[str, str], runs: pd.DataFrame) -> pd.DataFrame:
    """The rows with these values: of the runs, or of the samples beside them where only those have the claim's metric.

    Numbers are compared as numbers, null is no value, and a column that is not there matches nothing.
    """
    of_runs = claim.metric in (_SOLVED, "time_to_solve", *runs)
    kept = runs if of_runs else pd.DataFrame(runs.attrs.get("samples", []))
    kept = kept[~kept["outcome"].isin(grid.HOLES)] if "outcome" in kept else kept
    for column, wanted in pairs.items():
        if column not in kept:
            return kept.head(0)
        kept = kept[[_same(value, wanted) for value in kept[column]]]
    return kept


def _same(value: object, wanted: str) -> bool:
    if wanted == "null":
        return bool(pd.isna(value))
    try:
        return float(value) == float(wanted)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return str(value) == wanted


def count(rows: pd.DataFrame) -> tuple[int, int]:
    """How many runs are solved, of how many."""
    return int((rows["outcome"] == _SOLVED).sum()), len(rows)


def times(rows: pd.DataFrame) -> Times:
    """Steps until solved; the budget for a run that was not, as for one that diverged."""
    solved = rows["outcome"] == _SOLVED
    steps = grid.column(rows, "time_to_solve").where(solved, rows["trainer.max_steps"].astype(float))
    return Times(list(steps), list(solved))
