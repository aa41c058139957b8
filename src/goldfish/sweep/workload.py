"""The runs of a sweep: each once, and which of them the store holds already."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from goldfish.config.config import Config
from goldfish.sweep.fingerprint import contents, fingerprints
from goldfish.sweep.record import Store
from goldfish.sweep.report import Report, names
from goldfish.sweep.source import CHOSEN, source_hash

Rerun = Literal["missing", "stale", "all"]


class Workload:
    """What a sweep has to train. Runs go by their index in `configs`.

    Attributes:
        configs: resolved configurations.
        contents: the content of each run's real data, None of synthetic data.
        keys: index → experiment name and fingerprint, of equal configurations the first one only.
        left: indices that are to be trained; fixed before the training starts.
        labels: a name of each run for a person.
        sources: the source hash of each run.
        report: what has become of the runs.
    """

    def __init__(self, configs: list[Config], rerun: Rerun) -> None:
        self.started, self._began = time.monotonic(), time.time()
        self.configs, self.rerun = configs, rerun
        self.contents = contents(configs)
        prints = fingerprints(configs, self.contents)
        keys = [(config.tracking.experiment_name, own) for config, own in zip(configs, prints, strict=True)]
        first = {key: index for index, key in reversed(list(enumerate(keys)))}
        self.keys = {index: key for key, index in first.items()}
        self.left = sorted(self.keys)
        self.labels = names(configs)
        self.sources = _sources(configs)
        duplicates = len(configs) - len(self.left)
        self.report = Report(len(configs), tuple(fingerprint for _, fingerprint in keys), duplicates=duplicates)
        self._known: dict[int, Any] = {}  # rows that the store held at the start

    def leave_out_finished(self, store: Store) -> None:
        """Leave out what the store holds or waits for, but for what `rerun` asks to repeat."""
        self._known = found = self._rows(store, self.keys) if store.exists() else {}
        stale = {index for index, row in found.items() if row.source_hash != self.sources[index]}
        again = {"missing": set(), "stale": stale, "all": set(found)}[self.rerun]
        waiting = set() if self.rerun == "all" else self._spooled(store) - again
        self.report.stale = len(stale - again)
        self.report.skipped = len(found.keys() - again)
        self.report.waiting = len(waiting - found.keys())
        self.left = [index for index in self.left if (index not in found and index not in waiting) or index in again]

    def since(self, run: int) -> float:
        """When a result of a run must have ended, to stand for what is trained now: unix time, 0 for any time."""
        return self._began if run in self._known else 0.0

    def finished_since(self, store: Store, runs: Iterable[int]) -> set[int]:
        """Those of the runs that another process has finished since the start."""
        wanted = set(runs)
        found = self._rows(store, wanted) if store.exists() else {}
        known = {index: row.run_id for index, row in self._known.items()}
        return {index for index, row in found.items() if row.run_id != known.get(index)} | self._spooled(store) & wanted

    def _rows(self, store: Store, runs: Iterable[int]) -> dict[int, Any]:
        """What the store holds of the runs, by index."""
        indices: dict[str, dict[str, int]] = {}
        for index in runs:
            experiment, digest = self.keys[index]
            indices.setdefault(experiment, {})[digest] = index
        found: dict[int, Any] = {}
        for experiment, mine in indices.items():
            rows: Mapping[str, Any] = store.finished(experiment, list(mine))
            found |= {mine[digest]: row for digest, row in rows.items() if digest in mine}
        return found

    def _spooled(self, store: Store) -> set[int]:
        """Runs whose outcomes wait on the disk to be recorded."""
        from goldfish.tracking import spool

        waiting = set(spool.keys(store.state))
        return {index for index, key in self.keys.items() if key in waiting} if waiting else set()


def _sources(configs: Sequence[Config]) -> list[str]:
    """The source hash of every run, found once for each choice of things."""
    choices = [tuple(config[group].name for group in CHOSEN) for config in configs]
    found = {choice: source_hash(config) for choice, config in dict(zip(choices, configs, strict=True)).items()}
    return [found[choice] for choice in choices]
