"""run_sweep: what is not recorded yet is trained in packs on all cores and recorded, each run once."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TextIO

from goldfish.config.config import Config
from goldfish.sweep import machine, packs, starting
from goldfish.sweep.ownership import Checkpoints, Ownership, sweep_out, tidy
from goldfish.sweep.progress import Progress
from goldfish.sweep.record import Entry, Interruption, Recorder, Store
from goldfish.sweep.replay import replay
from goldfish.sweep.report import Report
from goldfish.sweep.signals import Signals
from goldfish.sweep.worker import TRAINER
from goldfish.sweep.workers import Event, Finished, Orders, Pool, Recorded, Stopped
from goldfish.sweep.workload import Rerun, Workload
from goldfish.training.outcome import Outcome

_POLL = 0.4  # seconds between two looks at runs that another process trains
_HURRY = 0.5  # seconds that recording may take after a signal; what is left then goes to the disk


def run_sweep(
    configs: Sequence[Config],
    *,
    store: Store,
    rerun: Rerun = "missing",
    workers: int | None = None,
    pack_size: packs.Size = "auto",
    checkpoint_minutes: float | None = 1.0,
    checkpoint_steps: int | None = None,
    sweep_name: str | None = None,
    trainer: str = TRAINER,
    stream: TextIO | None = None,
) -> Report:
    """Train and record the runs that the store does not hold yet.

    Args:
        configs: the runs' resolved configurations (goldfish.resolve), which has checked them.
        store: where outcomes go; it is created when it is not there.
        rerun: "stale" also repeats finished runs whose source has changed since, "all" repeats every run.
        workers: processes side by side, one torch thread each; by default all cores, or one for each GPU.
        pack_size: the largest number of runs trained together; "auto" takes goldfish.sweep.packs.replicas.
        checkpoint_minutes: a pack writes a checkpoint each time it has trained so long; None for none.
        checkpoint_steps: it also writes one after each multiple of so many steps.
        sweep_name: the tag `sweep` of the runs; the date and time by default.
        trainer: "module:function" that trains a pack, as goldfish.sweep.worker.Train says.
        stream: where progress is shown, standard error by default.

    The same sweep may be started several times at once: a run is trained where it was claimed first, and the others
    wait for it. After Ctrl-C or SIGTERM the packs in training write checkpoints, from which the same call goes on.

    Raises ConfigError for bad input, before anything is written; whatever makes recording or starting workers
    impossible; and, after what is trained has been recorded, KeyboardInterrupt or goldfish.sweep.signals.Terminated.
    """
    workload = Workload(list(configs), rerun)
    machine.check(workload.configs)
    replayed = replay(store)
    for line in replayed.lines():
        _tell(stream or sys.stderr, line)
    workload.leave_out_finished(store)
    if store.exists():
        tidy(workload, store.state)
    if workload.left:
        store.check()
        checkpoints = Checkpoints(store.state / "checkpoints", checkpoint_minutes, checkpoint_steps)
        name = sweep_name or time.strftime("%Y-%m-%d_%H-%M-%S")
        with Signals() as signals:
            _Training(workload, store, name, checkpoints, stream or sys.stderr, signals).run(
                workers, pack_size, trainer
            )
    workload.report.seconds = time.monotonic() - workload.started
    return workload.report


class _Training:
    """The training of what is to be done: recorded in the background, shown on `stream`."""

    def __init__(
        self, workload: Workload, store: Store, name: str, checkpoints: Checkpoints, stream: TextIO, signals: Signals
    ) -> None:
        self.workload, self.store, self.signals, self.stream = workload, store, signals, stream
        self.progress = Progress([workload.configs[run] for run in workload.left], stream, workload.left)
        self.owned = Ownership(
            workload, store, name, checkpoints, lambda runs: self.progress.show(Recorded(tuple(runs)))
        )
        experiments = (workload.keys[run][0] for run in workload.left)
        self.recorder = Recorder(store, sweep=name, experiments=experiments, recorded=self.owned.recorded)
        self.owned.recorder = self.recorder

    def run(self, count: int | None, pack_size: packs.Size, trainer: str) -> None:
        """Train. Raises what ended it early, after what is trained has been recorded."""
        configs = [self.workload.configs[run] for run in self.workload.left]
        gpu = machine.uses_gpu(configs)
        devices = machine.gpus() if gpu else []
        context = starting.prepare(trainer, gpu=gpu)
        count = count or len(devices) or machine.cores()
        self.recorder.start()
        try:
            with self.progress, Pool(count, trainer=trainer, context=context, devices=devices) as pool:
                self.signals.at_once = pool.kill
                for event in self._events(pool, pack_size, count, gpu):
                    self.recorder.check()
                    self._take(event)
            if self.signals.received is not None:
                self.signals.leave()
            with self.signals.raised(True):  # what is recorded takes no harm, and the rest goes to the disk
                self._close()
        except (KeyboardInterrupt, SystemExit) as error:
            self._close(hurry=True)
            self.workload.report.seconds = time.monotonic() - self.workload.started
            word = "interrupted" if isinstance(error, KeyboardInterrupt) else "terminated"
            _tell(self.stream, f"{word}; {self.workload.report.summary()}")
            raise
        except BaseException:
            if self.workload.report.verdicts:
                self._close()
            raise
        finally:
            self.owned.release()
            if not self.workload.report.done and not self.store.exists():
                sweep_out(self.store.state)

    def _events(self, pool: Pool, pack_size: packs.Size, count: int, gpu: bool) -> Iterator[Event]:
        """Train what nobody else trains, then wait for what others do, and take over what they leave."""
        orders = Orders(self.signals, self.owned.admit, lambda pack: self.owned.checkpoints.of(self.workload, pack))
        runs: Sequence[int] = self.workload.left
        while True:
            yield from pool.train(self.workload.configs, self.owned.packs(runs, pack_size, count, gpu=gpu), orders)
            while not (runs := self.owned.freed()):
                if not self.owned.elsewhere or self.signals.received is not None:
                    return
                self.recorder.check()
                self.progress.wait(self.owned.waiting())
                self.signals.wait(_POLL)

    def _take(self, event: Event) -> None:
        """Show what happened, and have it recorded."""
        self.progress.show(event)
        if isinstance(event, Finished):
            event = replace(event, outcome=self._on_its_data(event))
            key, source = self.workload.keys[event.run], self.workload.sources[event.run]
            self.recorder.put(Entry(event.outcome, *key, source, self.workload.since(event.run)))
            self.workload.report.count(self.workload.labels[event.run], event.outcome)
        elif isinstance(event, Stopped):
            word = "Ctrl-C" if self.signals.interrupted else "SIGTERM"
            for run in event.runs:
                config, key, source = self.workload.configs[run], self.workload.keys[run], self.workload.sources[run]
                reason = f"{word} at step {event.step}" if event.step else word
                self.recorder.put_interrupted(Interruption(config, *key, source, reason, event.since))
            self.workload.report.interrupted += len(event.runs)

    def _on_its_data(self, event: Finished) -> Outcome:
        """The outcome of a run; failed where its data are others than those that its fingerprint stands for."""
        outcome, content = event.outcome, self.workload.contents[event.run] or ""
        if outcome.content in ("", content):
            return outcome
        reason = "its data changed while the sweep ran; the same command trains it on the new ones"
        return Outcome(outcome.config, "failed", reason=reason, seconds=outcome.seconds, started=outcome.started)

    def _close(self, *, hurry: bool = False) -> None:
        """Wait for the last outcome to be recorded, or, in a hurry, to be on the disk."""
        self.recorder.close(patience=_HURRY) if hurry else self.recorder.close()
        where = {key: self.workload.labels[run] for run, key in self.workload.keys.items()}
        self.workload.report.unrecorded = [(where[entry.key], reason) for entry, reason in self.recorder.unrecorded]


def _tell(stream: TextIO, line: str) -> None:
    """Show a line where somebody can still read it."""
    with suppress(OSError, ValueError):
        print(f"goldfish: {line}", file=stream, flush=True)
