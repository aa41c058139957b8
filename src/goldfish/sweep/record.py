"""Recording outcomes beside the training, in a thread of its own: workers never wait for the store."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

from goldfish.sweep.worker import describe
from goldfish.training.outcome import Outcome


class Store(Protocol):
    """What a sweep asks of a store: goldfish.tracking.store.Store, or a stand-in for it."""

    def exists(self) -> bool:
        """True when there is a store to look into."""

    def prepare(self) -> None:
        """Create it, or bring it up to date."""

    def experiment(self, name: str) -> str:
        """The id of an experiment, which is created when it is not there."""

    def finished(self, experiment_name: str, fingerprints: Iterable[str] | None = None) -> Mapping[str, Any]:
        """The finished runs of an experiment by fingerprint; each has a `source_hash`."""

    def record(
        self,
        outcome: Outcome,
        *,
        experiment_name: str,
        sweep: str,
        fingerprint: str,
        source_hash: str,
        provenance: Mapping[str, str],
        dataset: Mapping[str, str] | None = None,
    ) -> str:
        """Record one run."""


@dataclass(frozen=True)
class Entry:
    """An outcome and what is recorded with it."""

    outcome: Outcome
    experiment_name: str
    fingerprint: str
    source_hash: str

    @property
    def key(self) -> tuple[str, str]:
        """What identifies the run in the store."""
        return self.experiment_name, self.fingerprint


class Recorder:
    """Prepares the store and records outcomes in the order in which they are put, in one background thread."""

    def __init__(self, store: Store, *, sweep: str, experiments: Iterable[str]) -> None:
        self.unrecorded: list[tuple[Entry, str]] = []
        self._store, self._sweep, self._experiments = store, sweep, sorted(set(experiments))
        self._queue: queue.Queue[Entry | None] = queue.Queue()
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
        self._queue.put(entry)

    def close(self) -> None:
        """Wait until everything is recorded; what could not be, even at a second attempt, is in `unrecorded`."""
        self._queue.put(None)
        self._thread.join()
        self.check()

    def _work(self) -> None:
        try:
            self._store.prepare()
            for name in self._experiments:
                self._store.experiment(name)  # raises where it was deleted in the UI
            self._record_all()
            self._prepare_views()
        except BaseException as error:  # handed to the thread that trains
            self._error = error

    def _record_all(self) -> None:
        """Record until the end is put; then try again what failed."""
        from goldfish.tracking.provenance import collect

        provenance = collect()
        again = [entry for entry in iter(self._queue.get, None) if self._record(entry, provenance) is not None]
        failed = ((entry, self._record(entry, provenance)) for entry in again)
        self.unrecorded = [(entry, reason) for entry, reason in failed if reason is not None]

    def _prepare_views(self) -> None:
        """Save the views in which an experiment's runs are compared."""
        from goldfish.tracking.views import prepare_views

        for name in self._experiments:
            prepare_views(cast(Any, self._store), name)

    def _record(self, entry: Entry, provenance: dict[str, str]) -> str | None:
        """Record one outcome; return the reason where that failed. One bad record must not stop a sweep."""
        try:
            self._store.record(
                entry.outcome,
                experiment_name=entry.experiment_name,
                sweep=self._sweep,
                fingerprint=entry.fingerprint,
                source_hash=entry.source_hash,
                provenance=provenance,
                dataset=entry.outcome.dataset or None,
            )
        except Exception as error:
            return describe(error)
        return None
