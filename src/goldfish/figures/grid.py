"""The grid of task × cell × initialisation × length × seed that a table of runs covers, and the holes in it.

Each task's grid is every cell × initialisation that it has runs of, at every length and seed that it has runs of. A run
of outcome "failed" is a hole; so is a row of outcome "missing", and a place without a row. A diverged run is a result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import pandas as pd

from goldfish.errors import ConfigError
from goldfish.figures.palette import cell_order, init_order

KEYS = ["task", "cell", "init", "length", "seed"]
HOLES = ("failed", "missing")
_SCORES = ("test/", "val/")
_LOWEST = ("loss", "bits_per_character")  # of every other score the highest is best


class Place(NamedTuple):
    """One run's place in the grid."""

    task: str
    cell: str
    init: str
    length: int
    seed: int


@dataclass(frozen=True)
class Coverage:
    """How much of its grid a table holds.

    `seeds` is the smallest and the largest number of runs of any point; `selected` says how its runs were selected.
    """

    runs: int
    planned: int
    seeds: tuple[int, int]
    diverged: tuple[Place, ...]
    failed: tuple[Place, ...]
    missing: tuple[Place, ...]
    seeds_planned: Mapping[str, int]
    selected: str = ""

    def note(self, diverged: str = "counted") -> str:
        """n, the counts, and every place that diverged, failed or is missing; `diverged` says how those are drawn."""
        low, high = self.seeds
        n = f"n = {high}" if low == high else f"n = {low}–{high}"
        parts = [f"{n} seeds per point; {self.runs} of {self.planned} runs."]
        if self.diverged:
            parts.append(f"Diverged, {diverged}: {len(self.diverged)} ({self._places(self.diverged)}).")
        if self.failed:
            parts.append(f"Failed, not drawn: {len(self.failed)} ({self._places(self.failed)}).")
        if self.missing:
            parts.append(f"Missing: {len(self.missing)} ({self._places(self.missing)}).")
        if not self.failed and not self.missing:
            parts.append("None failed, none missing." if self.diverged else "None diverged, failed or missing.")
        return " ".join([*parts, self.selected] if self.selected else parts)

    def _places(self, places: Iterable[Place]) -> str:
        """Places with their seeds, and lengths that lack the same seeds, joined."""
        seeds: dict[tuple[str, str, str], dict[int, list[int]]] = {}
        for place in places:
            seeds.setdefault(place[:3], {}).setdefault(place.length, []).append(place.seed)
        listed = []
        for (task, cell, init), by_length in seeds.items():
            same: dict[tuple[int, ...], list[int]] = {}
            for length, lacking in by_length.items():
                same.setdefault(tuple(lacking), []).append(length)
            spans = [f"length {_joined(lengths)} {self._seeds(task, lacking)}" for lacking, lengths in same.items()]
            listed.append(f"{task} {cell}/{init} " + ", ".join(spans))
        return "; ".join(listed)

    def _seeds(self, task: str, seeds: tuple[int, ...]) -> str:
        if len(seeds) == self.seeds_planned[task] > 1:
            return "all seeds"
        consecutive = len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1
        written = f"{seeds[0]}–{seeds[-1]}" if consecutive else _joined(seeds)
        return f"seed{'s' if len(seeds) > 1 else ''} {written}"


def check(runs: pd.DataFrame) -> None:
    """Raise ConfigError when the table has no run, or two of one place: those to draw are then selected beforehand."""
    if runs.empty:
        raise ConfigError("runs=0: the table holds no run to draw")
    twice = runs[runs.duplicated(KEYS, keep=False)]
    if twice.empty:
        return
    first, same = next(iter(twice.groupby(KEYS, sort=False)))
    place = Place(*first)
    config = [name for name in same if "." in name and "/" not in name]
    differing = [name for name in config if same[name].nunique(dropna=False) > 1]
    named = ", ".join(differing) or "no configuration key"
    raise ConfigError(
        f"{_written(place)}: {len(same)} runs, which differ in {named}; select one of them before drawing"
    )


def coverage(runs: pd.DataFrame) -> Coverage:
    """Compare a table with its grid. Raises ConfigError as `check` does."""
    check(runs)
    outcomes = {Place(*key): outcome for *key, outcome in runs[[*KEYS, "outcome"]].itertuples(index=False)}
    grid = [place for task in tasks(runs) for place in _grid(runs, task)]
    present = [place for place in grid if outcomes.get(place, "missing") not in HOLES]
    counts: dict[tuple[object, ...], int] = dict.fromkeys((place[:4] for place in grid), 0)
    for place in present:
        counts[place[:4]] += 1
    drawn = [count for count in counts.values() if count] or [0]
    return Coverage(
        runs=len(present),
        planned=len(grid),
        seeds=(min(drawn), max(drawn)),
        diverged=tuple(place for place in grid if outcomes.get(place) == "diverged"),
        failed=tuple(place for place in grid if outcomes.get(place) == "failed"),
        missing=tuple(place for place in grid if outcomes.get(place, "missing") == "missing"),
        seeds_planned={task: runs.loc[runs["task"] == task, "seed"].nunique() for task in tasks(runs)},
        selected=str(runs.attrs.get("selected", "")),
    )


def tasks(runs: pd.DataFrame) -> list[str]:
    """The tasks, that of the shortest sequences first: their order does not depend on the order of the rows."""
    return sorted(set(runs["task"]), key=lambda task: (min(lengths(runs, task)), task))


def lengths(runs: pd.DataFrame, task: str) -> list[int]:
    """The sequence lengths of one task, ascending."""
    return sorted({int(length) for length in runs.loc[runs["task"] == task, "length"]})


def arms(runs: pd.DataFrame, task: str) -> list[tuple[str, str]]:
    """The cell × initialisation pairs of one task, in the order of the palette."""
    present = set(runs.loc[runs["task"] == task, ["cell", "init"]].itertuples(index=False, name=None))
    cells, inits = cell_order(runs["cell"]), init_order(runs["init"])
    return [(cell, init) for cell in cells for init in inits if (cell, init) in present]


def scored(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that count: failed and missing ones left out, diverged ones at chance and with a recall horizon of 0.

    A diverged network answers nothing; leaving it out would flatter its cell. Its gradients before training stand.
    """
    rows = runs[~runs["outcome"].isin(HOLES)].sort_values(KEYS)
    rows = rows.assign(**{"test/accuracy": score(rows, "test/accuracy", levels=runs)})
    with_lag = [task for task in tasks(runs) if has_lag(runs, task)]
    diverged = (rows["outcome"] == "diverged") & rows["task"].isin(with_lag)
    if diverged.any():
        rows.loc[diverged, ["recall/horizon", "recall/horizon_reached_end"]] = 0.0
    return rows


def lowest_is_best(metric: str) -> bool:
    """True of a score such as a loss."""
    return metric.rpartition("/")[2] in _LOWEST


def score(rows: pd.DataFrame, metric: str, levels: pd.DataFrame | None = None) -> pd.Series:
    """A metric as floats, in which no diverged run is best: it has the worst score there is.

    An accuracy is at its task's chance then, another score of which the highest is best 0, a loss infinite. A metric
    that is no score, such as seconds, stands as it was measured. `levels` is the whole table, where `rows` is a part
    that may not hold the chance level.
    """
    values, diverged = column(rows, metric), rows["outcome"] == "diverged"
    if not metric.startswith(_SCORES) or not diverged.any():
        return values
    if lowest_is_best(metric):
        return values.mask(diverged, math.inf)
    if not metric.endswith("/accuracy"):
        return values.mask(diverged, 0.0)
    levels = rows if levels is None else levels
    return values.mask(diverged, rows["task"].map({task: chance(levels, task) or 0.0 for task in set(rows["task"])}))


def chance(runs: pd.DataFrame, task: str) -> float | None:
    """A task's chance level, as its runs recorded it; None where none did."""
    return _first(runs, task, "recall/chance")


def has_lag(runs: pd.DataFrame, task: str) -> bool:
    """True when some run of the task recorded a recall horizon."""
    return _first(runs, task, "recall/horizon") is not None


def column(rows: pd.DataFrame, name: str) -> pd.Series:
    """A column as floats; all NaN where no run of the table recorded that metric."""
    return rows[name].astype(float) if name in rows else pd.Series(math.nan, index=rows.index)


def _first(runs: pd.DataFrame, task: str, name: str) -> float | None:
    values = column(runs[runs["task"] == task], name).dropna()
    return float(values.iloc[0]) if len(values) else None


def _grid(runs: pd.DataFrame, task: str) -> list[Place]:
    seeds = sorted({int(seed) for seed in runs.loc[runs["task"] == task, "seed"]})
    points = product(arms(runs, task), lengths(runs, task), seeds)
    return [Place(task, cell, init, length, seed) for (cell, init), length, seed in points]


def _written(place: Place) -> str:
    return ", ".join(f"{key}={value}" for key, value in place._asdict().items())


def _joined(numbers: Iterable[int]) -> str:
    return ", ".join(str(number) for number in numbers)
