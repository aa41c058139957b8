"""A sweep drawn in text: a row for each group of runs that differ in their seed alone, a mark for each seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from goldfish.inspect.ledger import RESULTS, WORDS, State

MARKS = {
    "solved": "#",
    "unsolved": "-",
    "diverged": "^",
    "stale": "~",
    "waiting": "w",
    "running": ">",
    "interrupted": "/",
    "failed": "x",
    "missing": ".",
}
ROWS, COLUMNS = 40, 48  # above these, rows that are alike become one line, and marks become counts
_HEAD = ("task", "task.length", "cell", "init")
_APART = ("seed", "trainer.accelerator")  # neither makes a group, nor does where a run is recorded


@dataclass(frozen=True)
class Row:
    """A group of runs: its label, and the states of its runs by seed."""

    label: str
    states: tuple[State, ...]

    @property
    def marks(self) -> str:
        """One character for each run, or counts where they are many."""
        if len(self.states) <= COLUMNS:
            return "".join(MARKS[state.word] for state in self.states)
        return counted(self.states)

    @property
    def kind(self) -> str:
        """The state that all its runs share, "results" for results of several kinds, "" otherwise."""
        words = {state.word for state in self.states}
        return words.pop() if len(words) == 1 else "results" if words <= set(RESULTS) - {"stale"} else ""


def counted(states: Iterable[State]) -> str:
    """Such as "80 solved, 4 missing"."""
    counts = Counter(state.word for state in states)
    return ", ".join(f"{counts[word]} {word}" for word in WORDS if counts[word])


def rows(runs: Sequence[tuple[Mapping[str, str], State]]) -> list[Row]:
    """The groups in the order in which they come; a run is its flat configuration as texts, and its state."""
    keys = [*_HEAD, *_splitting([settings for settings, _ in runs])]
    groups: dict[tuple[str, ...], list[tuple[int, State]]] = {}
    for settings, state in runs:
        group = tuple(settings.get(key, "") for key in keys)
        groups.setdefault(group, []).append((int(settings.get("seed", "0") or 0), state))
    return [
        Row(_label(dict(zip(keys, group, strict=True))), tuple(state for _, state in sorted(members, key=_seed)))
        for group, members in groups.items()
    ]


def _seed(member: tuple[int, State]) -> int:
    return member[0]


def _splitting(runs: Sequence[Mapping[str, str]]) -> list[str]:
    """The keys by which runs of the same task, length, cell and initialisation differ, the seed aside."""
    keys = [*_HEAD]
    for key in dict.fromkeys(key for run in runs for key in run):
        if key in keys or key in _APART or key.startswith("tracking."):
            continue
        values: dict[tuple[str, ...], set[str]] = {}
        for run in runs:
            values.setdefault(tuple(run.get(known, "") for known in keys), set()).add(run.get(key, ""))
        if any(len(settings - {""}) > 1 for settings in values.values()):
            keys.append(key)
    return keys[len(_HEAD) :]


def _label(group: Mapping[str, str]) -> str:
    length = group["task.length"]
    head = f"{group['task']}{f' T={length}' if length else ''} {group['cell']}·{group['init']}"
    rest = [f"{key}={value}" for key, value in group.items() if key not in _HEAD and value]
    return " ".join([head, *rest]) if group["task"] else "unknown settings"


def draw(runs: Sequence[tuple[Mapping[str, str], State]]) -> list[str]:
    """The lines of the picture, and below them what its marks mean."""
    groups = rows(runs)
    shown, folded = _fold(groups)
    width = max((len(row.label) for row in shown), default=0)
    lines = [f"  {row.label.ljust(width)}  {row.marks}" for row in shown]
    seen = {state.word for row in shown if len(row.states) <= COLUMNS for state in row.states}
    legend = [f"{MARKS[word]} {word}" for word in WORDS if word in seen]
    return [*lines, *folded, *([f"  ({', '.join(legend)}; a mark is a seed)"] if legend else [])]


def _fold(groups: list[Row]) -> tuple[list[Row], list[str]]:
    """The rows to show, and lines for the others: of many rows those go first that are of one kind."""
    if len(groups) <= ROWS:
        return groups, []
    alike = Counter(row.kind for row in groups if row.kind)
    shown = [row for row in groups if not row.kind or alike[row.kind] == 1]
    lines = []
    for kind, count in alike.items():
        if count > 1:
            states = [state for row in groups if row.kind == kind for state in row.states]
            lines.append(f"  {count} groups alike: {counted(states)}")
    if len(shown) > ROWS:
        lines.append(f"  {len(shown) - ROWS} groups more: {counted(s for row in shown[ROWS:] for s in row.states)}")
    return shown[:ROWS], lines
