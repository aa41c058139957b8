"""run_sweep: what is not recorded yet is trained in packs on all cores and recorded, each run once."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Literal, TextIO

from goldfish.config import Config, resolve
from goldfish.sweep import machine, packs, workers
from goldfish.sweep.fingerprint import fingerprint
from goldfish.sweep.progress import Progress
from goldfish.sweep.record import Entry, Recorder, Store
from goldfish.sweep.report import Report, names
from goldfish.sweep.source import CHOSEN, source_hash
from goldfish.sweep.worker import TRAINER

Rerun = Literal["missing", "stale", "all"]
Key = tuple[str, str]  # experiment name, fingerprint: within an experiment a run is recorded once


def run_sweep(
    configs: Sequence[Config],
    *,
    store: Store,
    rerun: Rerun = "missing",
    workers: int | None = None,
    pack_size: packs.Size = "auto",
    sweep_name: str | None = None,
    trainer: str = TRAINER,
    stream: TextIO | None = None,
) -> Report:
    """Train and record the runs that the store does not hold yet.

    Args:
        configs: the runs' configurations; everything is checked before anything starts.
        store: where outcomes go; it is created when it is not there.
        rerun: "stale" also repeats finished runs whose source has changed since, "all" repeats every run.
        workers: processes side by side, one torch thread each; all cores by default, one where a GPU is used.
        pack_size: the largest number of runs trained together; "auto" takes goldfish.sweep.packs.replicas.
        sweep_name: the tag `sweep` of the runs; the date and time by default.
        trainer: "module:function" that trains a pack, as goldfish.training.train.train_pack does.
        stream: where progress is shown, standard error by default.

    Raises ConfigError for bad input, before anything is written; whatever makes recording or starting workers
    impossible; and KeyboardInterrupt, after what is trained has been recorded.
    """
    sweep = _Sweep([resolve(config) for config in configs], rerun)
    machine.check(sweep.configs)
    if store.exists():
        sweep.leave_out_finished(store)
    if sweep.todo:
        name = sweep_name or time.strftime("%Y-%m-%d_%H-%M-%S")
        recorder = Recorder(store, sweep=name, experiments=(sweep.keys[index][0] for index in sweep.todo))
        _train(sweep, recorder, workers, pack_size, trainer, stream or sys.stderr)
    sweep.report.seconds = time.monotonic() - sweep.started
    return sweep.report


class _Sweep:
    """The runs of a sweep, each once, and what has become of them."""

    def __init__(self, configs: list[Config], rerun: Rerun) -> None:
        self.started = time.monotonic()
        self.configs, self.rerun = configs, rerun
        keys = [(config["tracking"]["experiment_name"], fingerprint(config)) for config in configs]
        first = {key: index for index, key in reversed(list(enumerate(keys)))}
        self.keys = {index: key for key, index in first.items()}
        self.todo = sorted(self.keys)
        self.sources = _sources(configs)
        duplicates = len(configs) - len(self.todo)
        self.report = Report(len(configs), tuple(fingerprint for _, fingerprint in keys), duplicates=duplicates)

    def leave_out_finished(self, store: Store) -> None:
        """Leave out what the store holds, but for what `rerun` asks to repeat."""
        found = self._finished(store)
        stale = {index for index in found if found[index] != self.sources[index]}
        again = {"missing": set(), "stale": stale, "all": set(found)}[self.rerun]
        self.report.stale = len(stale - again)
        self.report.skipped = len(found.keys() - again)
        self.todo = [index for index in self.todo if index not in found or index in again]

    def _finished(self, store: Store) -> Mapping[int, str]:
        """The source hash of each run that the store holds."""
        found: dict[int, str] = {}
        for experiment in dict.fromkeys(experiment for experiment, _ in self.keys.values()):
            mine = {fingerprint: index for index, (name, fingerprint) in self.keys.items() if name == experiment}
            rows = store.finished(experiment, list(mine))
            found |= {mine[fingerprint]: row.source_hash for fingerprint, row in rows.items() if fingerprint in mine}
        return found

    def entry(self, index: int, event: workers.Finished) -> Entry:
        """What is recorded of a run."""
        experiment, digest = self.keys[index]
        return Entry(event.outcome, experiment, digest, self.sources[index])


def _sources(configs: Sequence[Config]) -> list[str]:
    """The source hash of every run, found once for each choice of things."""
    choices = [tuple(config[group]["name"] for group in CHOSEN) for config in configs]
    found = {choice: source_hash(config) for choice, config in dict(zip(choices, configs, strict=True)).items()}
    return [found[choice] for choice in choices]


def _train(
    sweep: _Sweep, recorder: Recorder, count: int | None, pack_size: packs.Size, trainer: str, stream: TextIO
) -> None:
    """Train what is to be done; recorded in the background, shown on `stream`."""
    configs = [sweep.configs[index] for index in sweep.todo]
    gpu = machine.uses_gpu(configs)
    context = workers.prepare(trainer, gpu=gpu)
    recorder.start()
    count = count or (1 if gpu else machine.cores())
    labels = names(sweep.configs)
    try:
        with Progress(configs, stream) as progress, workers.Pool(count, trainer=trainer, context=context) as pool:
            for event in pool.train(configs, packs.group(configs, pack_size, count, gpu=gpu)):
                recorder.check()
                progress.show(event)
                if isinstance(event, workers.Finished):
                    index = sweep.todo[event.run]
                    recorder.put(sweep.entry(index, event))
                    sweep.report.count(labels[index], event.outcome)
    except BaseException as error:
        if sweep.report.verdicts:
            _close(sweep, recorder, labels)
        if isinstance(error, KeyboardInterrupt):
            sweep.report.seconds = time.monotonic() - sweep.started
            print(f"goldfish: interrupted; {sweep.report.summary()}", file=stream)
        raise
    _close(sweep, recorder, labels)


def _close(sweep: _Sweep, recorder: Recorder, labels: Sequence[str]) -> None:
    """Wait for the last outcome to be recorded."""
    recorder.close()
    where = {key: labels[index] for index, key in sweep.keys.items()}
    sweep.report.unrecorded = [(where[entry.key], reason) for entry, reason in recorder.unrecorded]
