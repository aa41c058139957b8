"""What has waited on the disk is recorded, each outcome once: by every command that looks at the store."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from goldfish.sweep.worker import describe
from goldfish.tracking import spool

if TYPE_CHECKING:
    from goldfish.sweep.record import Key, Store
    from goldfish.tracking import store as tracking

_IN_A_ROW = 2  # outcomes that cannot be recorded one after another before the others are left for the next time


@dataclass
class Replayed:
    """What became of outcomes that waited: recorded now; file and reason of each that goes on waiting; the damaged."""

    recorded: list[Key] = field(default_factory=list)
    waiting: dict[Path, str] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What is to be told."""
        told = []
        if self.recorded:
            are = "is" if len(self.recorded) == 1 else "are"
            told.append(f"{_counted(len(self.recorded))} that had waited {are} recorded now")
        for (folder, reason), paths in self._groups().items():
            wait = "waits" if len(paths) == 1 else "wait"
            told.append(f"{_counted(len(paths))} {wait} in {folder} to be recorded: {reason}")
        return [*told, *(f"{line}; its run is trained again" for line in self.damaged)]

    def _groups(self) -> dict[tuple[Path, str], list[Path]]:
        groups: dict[tuple[Path, str], list[Path]] = {}
        for path, reason in self.waiting.items():
            groups.setdefault((path.parent, reason), []).append(path)
        return groups


def replay(store: Store) -> Replayed:
    """Record what waits, whoever else tries at the same time; what cannot be recorded yet goes on waiting."""
    found = Replayed()
    if not spool.waiting(store.state):
        return found
    from filelock import FileLock

    try:
        store.prepare()
        with FileLock(store.state / "spool" / "lock"):
            _replay(store, found)
    except Exception as error:  # the store is away, or the disk is full: nothing is lost
        found.waiting |= {path: describe(error) for path in spool.waiting(store.state) if path not in found.waiting}
    return found


def opened() -> tracking.Store:
    """The store of the working directory or of MLFLOW_TRACKING_URI, for a command; what was replayed is told."""
    from goldfish.tracking.store import Store

    store = Store()
    for line in replay(store).lines():
        print(f"goldfish: {line}", file=sys.stderr)
    return store


def _replay(store: Store, found: Replayed) -> None:
    failures = 0
    for path in spool.waiting(store.state):
        try:
            about, outcome = spool.read(path)
        except FileNotFoundError:
            continue  # somebody else was faster
        except ValueError as error:
            found.damaged.append(f"{spool.set_aside(path)}: {error}")
            continue
        if failures == _IN_A_ROW:
            found.waiting[path] = next(reversed(found.waiting.values()))
            continue
        try:
            if not _there(store, about, round(1000 * outcome.started)):
                store.record(
                    outcome,
                    experiment_name=about.experiment_name,
                    sweep=about.sweep,
                    fingerprint=about.fingerprint,
                    source_hash=about.source_hash,
                    provenance=about.provenance,
                    since=about.since,
                )
        except Exception as error:
            found.waiting[path] = describe(error)
            failures += 1
            continue
        failures = 0
        path.unlink()
        found.recorded.append(about.key)


def _there(store: Store, about: spool.About, started: int) -> bool:
    """True when this very outcome is in the store: its process ended between recording and removing it."""
    row = store.finished(about.experiment_name, [about.fingerprint]).get(about.fingerprint)
    return row is not None and round(1000 * row.started) == started


def _counted(number: int) -> str:
    return f"{number} outcome{'' if number == 1 else 's'}"
