"""Recording outcomes in a background thread, so that workers never wait for the store.

What cannot be recorded is tried again while training goes on. What is left at the end is kept on disk, and every
command that opens the store records it, each outcome once.
"""

from __future__ import annotations

import itertools
import logging
import queue
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from goldfish.errors import ConfigError
from goldfish.sweep.worker import describe
from goldfish.tracking import spool
from goldfish.training.outcome import Outcome

if TYPE_CHECKING:
    from goldfish.sweep.packs import Run
    from goldfish.tracking.store import Store

    Item = Run | Callable[[], object]  # a run whose outcome is to be recorded, or what writes a note

PATIENCE = 60.0  # seconds that the end of a sweep waits for a store that is away
_DELAYS = (0.25, 0.5, 1.0, 2.0, 4.0)  # seconds between two attempts; the last one again and again
_NEVER = (ValueError, TypeError, KeyError, ConfigError)  # the record's fault, or the user's: no use in trying again
_IN_A_ROW = 2  # outcomes that cannot be recorded one after another before the others are left for the next time


class Recorder:
    """Prepares the store and records in one background thread.

    Args:
        store: where to.
        experiments: the MLflow experiments of the runs.
        recorded: called in the background thread with a run once its outcome is in the store, or on the disk.

    Attributes:
        unrecorded: runs whose outcomes are not in the store when everything is closed, and why.
    """

    def __init__(self, store: Store, experiments: Iterable[str], recorded: Callable[[Run], None]) -> None:
        self.unrecorded: list[tuple[Run, str]] = []
        self._store, self._experiments, self._recorded = store, sorted(experiments), recorded
        self._queue: queue.Queue[Item | None] = queue.Queue()
        self._open: dict[Run, Outcome] = {}  # put, and not yet safe
        self._again: deque[tuple[Run, str]] = deque()
        self._provenance: dict[str, str] = {}
        self._deadline = float("inf")
        self._last = time.monotonic()  # when something was recorded last
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="goldfish-recorder", daemon=True)

    def start(self) -> None:
        """Begin: the store's own imports take seconds, and go on beside those of the workers."""
        self._thread.start()

    def check(self) -> None:
        """Raise the error that made recording impossible, if there was one, so that nothing is trained in vain."""
        if self._error is not None:
            raise self._error

    def put(self, run: Run, outcome: Outcome) -> None:
        """Have an outcome recorded."""
        self._open[run] = outcome
        self._queue.put(run)

    def interrupted(self, run: Run, reason: str, started: float) -> None:
        """Have an attempt that was broken off recorded; `reason` is one line, `started` a unix time in seconds."""
        self._queue.put(
            lambda: self._store.record_interrupted(
                run.config,
                experiment_name=run.key[0],
                sweep=run.sweep,
                fingerprint=run.key[1],
                source_hash=run.source_hash,
                provenance=self._provenance,
                reason=reason,
                started=started,
            )
        )

    def supersede(self, runs: Sequence[Run]) -> None:
        """Have the earlier attempts at these runs marked, which came to nothing; their processes are gone."""
        for experiment in dict.fromkeys(run.key[0] for run in runs):
            prints = [run.key[1] for run in runs if run.key[0] == experiment]
            self._queue.put(partial(self._store.supersede, experiment, prints))

    def close(self, patience: float | None = None) -> None:
        """Wait until everything is recorded, for so many seconds once the store is away; then the rest goes to disk."""
        self._deadline = time.monotonic() + (PATIENCE if patience is None else patience)
        self._queue.put(None)
        while self._thread.is_alive() and (time.monotonic() < self._deadline + 1 or not self._away()):
            self._thread.join(0.1)
        if self._thread.is_alive():
            for run, outcome in list(self._open.items()):
                self._keep(run, outcome, "the store does not answer")
        self.check()

    def _away(self) -> bool:
        """True unless something was recorded in the last second: a long queue is no reason to give up."""
        return time.monotonic() - self._last > 1

    def _work(self) -> None:
        try:
            self._prepare()
            self._record_all()
            if not self.unrecorded:
                self._prepare_views()
        except BaseException as error:  # handed to the thread that trains
            self._error = error

    def _prepare(self) -> None:
        """Create the store and the experiments; somebody else's lock on it is waited for, as when recording."""
        for pause in itertools.chain(_DELAYS, itertools.repeat(_DELAYS[-1])):
            try:
                self._store.prepare()
                for name in self._experiments:
                    self._store.experiment(name)  # raises where it was deleted in the UI
                return
            except Exception as error:
                if "database is locked" not in str(error) or time.monotonic() > self._deadline:
                    raise
                time.sleep(pause)

    def _record_all(self) -> None:
        """Record until the end is put, and again what failed; at the end the rest goes to disk."""
        from goldfish.tracking.provenance import collect

        self._provenance = collect()
        pauses = 0
        ended = False
        while not ended or (self._again and time.monotonic() < self._deadline):
            item = self._next(_DELAYS[min(pauses, len(_DELAYS) - 1)], ended)
            ended = ended or item is None
            if callable(item):
                self._note(item)
            elif item:
                self._try(item)
            elif self._again:
                pauses = 0 if self._retry() else pauses + 1
        for run, reason in self._again:
            self._keep(run, self._open[run], reason)

    def _next(self, pause: float, ended: bool) -> Item | tuple[()] | None:
        """The next thing to record; () where there is nothing for a pause and something to try again."""
        if ended:
            time.sleep(max(0.0, min(pause, self._deadline - time.monotonic())))
            return ()
        try:
            return self._queue.get(timeout=pause if self._again else None)
        except queue.Empty:
            return ()

    def _note(self, write: Callable[[], object]) -> None:
        """Write a note beside the results; the sweep does not depend on it."""
        try:
            write()
        except Exception as error:
            logging.getLogger(__name__).warning("an interrupted attempt is not in the store: %s", describe(error))

    def _retry(self) -> bool:
        """Try again what failed, until two in a row fail; True when any succeeded."""
        failures, count = 0, len(self._again)
        for _ in range(count):
            run, _ = self._again.popleft()
            failures = 0 if self._try(run) else failures + 1
            if failures == _IN_A_ROW or time.monotonic() >= self._deadline:
                break
        return len(self._again) < count

    def _try(self, run: Run) -> bool:
        """Record an outcome; where that fails it is tried again later, unless it never can be: then it waits."""
        outcome = self._open.get(run)
        if outcome is None:  # on the disk, for the store had not answered
            return True
        try:
            self._store.record(outcome, **vars(self._about(run)))
        except _NEVER as error:
            self._keep(run, outcome, describe(error))
        except Exception as error:
            self._again.append((run, describe(error)))
            return False
        else:
            self._last = time.monotonic()
            self._safe(run)
        return True

    def _about(self, run: Run) -> spool.About:
        return spool.About(*run.key, run.sweep, run.source_hash, self._provenance, run.since)

    def _safe(self, run: Run) -> None:
        if self._open.pop(run, None) is not None:
            self._recorded(run)

    def _keep(self, run: Run, outcome: Outcome, reason: str) -> None:
        """Put an outcome on the disk."""
        try:
            path = spool.put(self._store.state, self._about(run), outcome)
        except OSError as error:
            self.unrecorded.append((run, f"{reason}; and it cannot wait on the disk: {error}"))
            return
        self.unrecorded.append((run, f"{reason}; it waits in {path}, and the next command records it"))
        self._safe(run)

    def _prepare_views(self) -> None:
        """Save the views in which an experiment's runs are compared."""
        from goldfish.tracking.views import prepare_views

        for name in self._experiments:
            prepare_views(self._store, name)


def replay(store: Store) -> list[str]:
    """Record what waits, even if other processes try at the same time, and return lines that say what came of it.

    What cannot be recorded yet goes on waiting; a damaged file is set aside, and its run is trained again.
    """
    if not spool.waiting(store.state):
        return []
    from filelock import FileLock

    recorded: list[Path] = []
    damaged: list[str] = []
    waiting: dict[Path, str] = {}  # why
    try:
        store.prepare()
        with FileLock(store.state / "spool" / "lock"):
            _replay(store, recorded, waiting, damaged)
    except Exception as error:  # the store is away, or the disk is full: nothing is lost
        waiting |= {path: describe(error) for path in spool.waiting(store.state) if path not in waiting}
    are = "is" if len(recorded) == 1 else "are"
    lines = [f"{_counted(len(recorded))} that had waited {are} recorded now"] if recorded else []
    for (folder, reason), count in Counter((path.parent, why) for path, why in waiting.items()).items():
        lines.append(f"{_counted(count)} {'waits' if count == 1 else 'wait'} in {folder} to be recorded: {reason}")
    return lines + damaged


def opened() -> Store:
    """Open the store of the working directory or of MLFLOW_TRACKING_URI for a command, and say what was replayed."""
    from goldfish.tracking.store import Store

    store = Store()
    for line in replay(store):
        print(f"goldfish: {line}", file=sys.stderr)
    return store


def _replay(store: Store, recorded: list[Path], waiting: dict[Path, str], damaged: list[str]) -> None:
    failures = 0
    for path in spool.waiting(store.state):
        try:
            about, outcome = spool.read(path)
        except FileNotFoundError:
            continue  # somebody else was faster
        except ValueError as error:
            damaged.append(f"{spool.set_aside(path)}: {error}; its run is trained again")
            continue
        if failures == _IN_A_ROW:
            waiting[path] = next(reversed(waiting.values()))
            continue
        try:
            if not _there(store, about, round(1000 * outcome.started)):
                store.record(outcome, **vars(about))
        except Exception as error:
            waiting[path] = describe(error)
            failures += 1
            continue
        failures = 0
        path.unlink()
        recorded.append(path)


def _there(store: Store, about: spool.About, started: int) -> bool:
    """True when this very outcome is in the store: its process ended between recording and removing it."""
    row = store.finished(about.experiment_name, [about.fingerprint]).get(about.fingerprint)
    return row is not None and round(1000 * row.started) == started


def _counted(number: int) -> str:
    return f"{number} outcome{'' if number == 1 else 's'}"
