"""Recording outcomes beside the training, in a thread of its own: workers never wait for the store.

What cannot be recorded is tried again while training goes on. What is left when it has ended waits on the disk, and
the next sweep records it.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from goldfish.config.config import Config
from goldfish.errors import ConfigError
from goldfish.sweep.worker import describe
from goldfish.tracking import spool
from goldfish.training.outcome import Outcome


class Store(Protocol):
    """What a sweep asks of a store: goldfish.tracking.store.Store, or a stand-in for it."""

    def exists(self) -> bool:
        """True when there is a store to look into."""

    def check(self) -> None:
        """Raise OSError where nothing could be recorded."""

    def prepare(self) -> None:
        """Create it, or bring it up to date."""

    def experiment(self, name: str) -> str:
        """The id of an experiment, which is created when it is not there."""

    def finished(self, experiment_name: str, fingerprints: Iterable[str] | None = None) -> Mapping[str, Any]:
        """The finished runs of an experiment by fingerprint; each has a `source_hash`."""

    @property
    def state(self) -> Path:
        """The folder of what goldfish keeps beside the store."""

    def record_interrupted(
        self,
        config: Mapping[str, Any],
        *,
        experiment_name: str,
        sweep: str,
        fingerprint: str,
        source_hash: str,
        provenance: Mapping[str, str],
        reason: str,
        started: float,
    ) -> str:
        """Record an attempt that was broken off."""

    def supersede(self, experiment_name: str, fingerprints: Iterable[str]) -> int:
        """Mark the attempts at these runs that came to nothing."""

    def record(
        self,
        outcome: Outcome,
        *,
        experiment_name: str,
        sweep: str,
        fingerprint: str,
        source_hash: str,
        provenance: Mapping[str, str],
        since: float = 0.0,
    ) -> str:
        """Record one run."""


Key = tuple[str, str]  # experiment, fingerprint
PATIENCE = 60.0  # seconds that the end of a sweep waits for a store that is away
_DELAYS = (0.25, 0.5, 1.0, 2.0, 4.0)  # seconds between two attempts; the last one again and again
_NEVER = (ValueError, TypeError, KeyError, ConfigError)  # the record's fault, or the user's: no use in trying again


@dataclass(frozen=True)
class Entry:
    """An outcome and what is recorded with it; `since`: when its sweep began, of a run that it repeats, else 0."""

    outcome: Outcome
    experiment_name: str
    fingerprint: str
    source_hash: str
    since: float = 0.0

    @property
    def key(self) -> Key:
        """What identifies the run in the store."""
        return self.experiment_name, self.fingerprint


@dataclass(frozen=True)
class Interruption:
    """An attempt that was broken off; `reason` is one line, `started` a unix time in seconds."""

    config: Config
    experiment_name: str
    fingerprint: str
    source_hash: str
    reason: str
    started: float


Item = Entry | Interruption | tuple[Key, ...]  # keys: runs whose earlier attempts are superseded


class Recorder:
    """Prepares the store and records in one background thread.

    Args:
        store: where to.
        sweep: the name of the sweep.
        experiments: the MLflow experiments of its runs.
        recorded: called in the background thread with a run's key once its outcome is in the store, or on the disk.

    Attributes:
        unrecorded: outcomes that are not in the store when everything is closed, and why.
    """

    def __init__(
        self,
        store: Store,
        *,
        sweep: str,
        experiments: Iterable[str],
        recorded: Callable[[Key], None] | None = None,
    ) -> None:
        self.unrecorded: list[tuple[Entry, str]] = []
        self._store, self._sweep, self._experiments = store, sweep, sorted(set(experiments))
        self._recorded = recorded or (lambda key: None)
        self._queue: queue.Queue[Item | None] = queue.Queue()
        self._open: dict[Key, Entry] = {}  # put, and not yet safe
        self._again: deque[tuple[Entry, str]] = deque()
        self._provenance: dict[str, str] = {}
        self._deadline = float("inf")
        self._last = time.monotonic()  # when something was recorded last
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="goldfish-recorder", daemon=True)

    def start(self) -> None:
        """Begin: the store's own imports take seconds, and go on beside those of the workers."""
        self._thread.start()

    def check(self) -> None:
        """Raise what made recording impossible, if anything did, so that nothing is trained in vain."""
        if self._error is not None:
            raise self._error

    def put(self, entry: Entry) -> None:
        """Have an outcome recorded."""
        self._open[entry.key] = entry
        self._queue.put(entry)

    def put_interrupted(self, interruption: Interruption) -> None:
        """Have an attempt that was broken off recorded."""
        self._queue.put(interruption)

    def supersede(self, keys: Iterable[Key]) -> None:
        """Have the earlier attempts at these runs marked, which came to nothing; their processes are gone."""
        self._queue.put(tuple(keys))

    def close(self, patience: float = PATIENCE) -> None:
        """Wait until everything is recorded, for so many seconds once the store is away; then the rest goes to disk."""
        self._deadline = time.monotonic() + patience
        self._queue.put(None)
        while self._thread.is_alive() and (time.monotonic() < self._deadline + 1 or not self._away()):
            self._thread.join(0.1)
        if self._thread.is_alive():
            for entry in list(self._open.values()):
                self._keep(entry, "the store does not answer")
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
            if item:
                self._do(item)
            elif self._again:
                pauses = 0 if self._retry() else pauses + 1
        for entry, reason in self._again:
            self._keep(entry, reason)

    def _next(self, pause: float, ended: bool) -> Item | None:
        """The next thing to record; () where there is nothing for a pause and something to try again."""
        if ended:
            time.sleep(max(0.0, min(pause, self._deadline - time.monotonic())))
            return ()
        try:
            return self._queue.get(timeout=pause if self._again else None)
        except queue.Empty:
            return ()

    def _do(self, item: Item) -> None:
        if isinstance(item, Entry):
            self._try(item)
            return
        try:
            if isinstance(item, Interruption):
                self._store.record_interrupted(
                    item.config,
                    experiment_name=item.experiment_name,
                    sweep=self._sweep,
                    fingerprint=item.fingerprint,
                    source_hash=item.source_hash,
                    provenance=self._provenance,
                    reason=item.reason,
                    started=item.started,
                )
            else:
                for experiment in dict.fromkeys(experiment for experiment, _ in item):
                    self._store.supersede(experiment, [digest for name, digest in item if name == experiment])
        except Exception as error:  # a note beside the results; the sweep does not depend on it
            logging.getLogger(__name__).warning("an interrupted attempt is not in the store: %s", describe(error))

    def _retry(self) -> bool:
        """Try again what failed, until two in a row fail; True when any succeeded."""
        failures, count = 0, len(self._again)
        for _ in range(count):
            entry, _ = self._again.popleft()
            failures = 0 if self._try(entry) else failures + 1
            if failures == 2 or time.monotonic() >= self._deadline:
                break
        return len(self._again) < count

    def _try(self, entry: Entry) -> bool:
        """Record an outcome; where that fails it is tried again later, unless it never can be: then it waits."""
        try:
            self._store.record(
                entry.outcome,
                experiment_name=entry.experiment_name,
                sweep=self._sweep,
                fingerprint=entry.fingerprint,
                source_hash=entry.source_hash,
                provenance=self._provenance,
                since=entry.since,
            )
        except _NEVER as error:
            self._keep(entry, describe(error))
        except Exception as error:
            self._again.append((entry, describe(error)))
            return False
        else:
            self._last = time.monotonic()
            self._safe(entry)
        return True

    def _safe(self, entry: Entry) -> None:
        if self._open.pop(entry.key, None) is not None:
            self._recorded(entry.key)

    def _keep(self, entry: Entry, reason: str) -> None:
        """Put an outcome on the disk."""
        about = spool.About(*entry.key, self._sweep, entry.source_hash, self._provenance, entry.since)
        try:
            path = spool.put(self._store.state, about, entry.outcome)
        except OSError as error:
            self.unrecorded.append((entry, f"{reason}; and it cannot wait on the disk: {error}"))
            return
        self.unrecorded.append((entry, f"{reason}; it waits in {path}, and the next command records it"))
        self._safe(entry)

    def _prepare_views(self) -> None:
        """Save the views in which an experiment's runs are compared."""
        from goldfish.tracking.views import prepare_views

        for name in self._experiments:
            prepare_views(cast(Any, self._store), name)
