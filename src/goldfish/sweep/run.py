"""run_sweep trains every run that is not recorded yet, in packs on all cores, and records each once."""

from __future__ import annotations

import platform
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from goldfish import faults
from goldfish.config.config import Config
from goldfish.errors import ConfigError
from goldfish.sweep import machine, packs
from goldfish.sweep.claims import Claim, Claims, Key
from goldfish.sweep.identity import contents, fingerprints, source_hashes, training_hash
from goldfish.sweep.packs import Pack, Run
from goldfish.sweep.pool import Event, Finished, Pool, Recorded, Stopped
from goldfish.sweep.progress import Progress, Report, names
from goldfish.sweep.recorder import Recorder, replay
from goldfish.sweep.signals import Signals
from goldfish.sweep.worker import TRAINER
from goldfish.training.outcome import Outcome
from goldfish.training.pack import pack_key
from goldfish.training.state import checkpoint
from goldfish.training.state.checkpoint import Checkpointing

if TYPE_CHECKING:
    from goldfish.tracking.store import Store

Rerun = Literal["missing", "stale", "all"]
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
    began, stream = time.monotonic(), stream or sys.stderr
    hashes = contents(configs)
    machine.check(configs)
    for line in replay(store):
        _tell(stream, line)
    name = sweep_name or time.strftime("%Y-%m-%d_%H-%M-%S")
    runs, report, recorded = _missing(configs, hashes, store, rerun, name)
    if store.exists():
        _tidy(store.state, recorded)
    if runs:
        store.check()
        with Signals() as signals:
            settings = Checkpointing(store.state / "checkpoints", (), checkpoint_steps, checkpoint_minutes)
            training = _Training(runs, recorded, report, store, settings, stream, signals)
            try:
                training.run(workers, pack_size, trainer)
            except (KeyboardInterrupt, SystemExit) as error:
                report.seconds = time.monotonic() - began
                word = "interrupted" if isinstance(error, KeyboardInterrupt) else "terminated"
                _tell(stream, f"{word}; {report.summary()}")
                raise
    report.seconds = time.monotonic() - began
    return report


def _missing(
    configs: Sequence[Config], hashes: Sequence[str | None], store: Store, rerun: Rerun, sweep: str
) -> tuple[list[Run], Report, set[Key]]:
    """The runs to be trained, each once; a report that counts those in store and spool; and the keys of these."""
    now = time.time()
    prints = fingerprints(configs, hashes)
    keys = [(config.tracking.experiment_name, own) for config, own in zip(configs, prints, strict=True)]
    labels, sources = names(configs), source_hashes(configs)
    rows = _finished(store, set(keys)) if store.exists() else {}
    stale = {key for key, source in zip(keys, sources, strict=True) if key in rows and rows[key].source_hash != source}
    again = {"missing": set(), "stale": stale, "all": rows.keys()}[rerun]
    waiting = set() if rerun == "all" else _spooled(store) & set(keys) - again
    recorded = (rows.keys() | waiting) - again
    runs: dict[Key, Run] = {}
    for config, key, source, content, label in zip(configs, keys, sources, hashes, labels, strict=True):
        if key not in recorded:
            repeats = (rows[key].run_id, now) if key in rows else ()
            runs.setdefault(key, Run(config, key, source, content or "", label, sweep, *repeats))
    report = Report(
        len(configs),
        tuple(prints),
        skipped=len(rows.keys() - again),
        waiting=len(waiting - rows.keys()),
        duplicates=len(configs) - len(set(keys)),
        stale=len(stale - again),
    )
    return list(runs.values()), report, recorded


def _finished(store: Store, keys: Iterable[Key]) -> dict[Key, Any]:
    """The finished runs that the store holds, by key."""
    wanted: dict[str, list[str]] = {}
    for experiment, fingerprint in keys:
        wanted.setdefault(experiment, []).append(fingerprint)
    return {
        (experiment, own): row
        for experiment, prints in wanted.items()
        for own, row in store.finished(experiment, prints).items()
    }


def _spooled(store: Store) -> set[Key]:
    """Runs whose outcomes wait on the disk to be recorded."""
    from goldfish.tracking import spool

    return set(spool.keys(store.state))


class _Training:
    """The training of runs, recorded in the background and shown on `stream`.

    Runs are claimed just before they are trained, and given up when they are recorded; those that another process has
    claimed are waited for.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        recorded: Iterable[Key],
        report: Report,
        store: Store,
        checkpointing: Checkpointing,
        stream: TextIO,
        signals: Signals,
    ) -> None:
        self.runs, self.report, self.store, self.signals = runs, report, store, signals
        self.checkpointing = checkpointing
        self.progress = Progress(runs, stream)
        self.claims = Claims(store.state / "claims")
        self.elsewhere: dict[Run, Claim] = {}
        self.recorded = {"/".join(key) for key in recorded}
        self.recorder = Recorder(store, {run.key[0] for run in runs}, self._recorded)

    def run(self, count: int | None, pack_size: packs.Size, trainer: str) -> None:
        """Train. Raises what ended it early, after what is trained has been recorded."""
        gpu = machine.uses_gpu(run.config for run in self.runs)
        devices = machine.gpus() if gpu else []
        count = count or len(devices) or machine.cores()
        pool = Pool(count, trainer, devices=devices, spawn=gpu)
        self.recorder.start()
        try:
            with self.progress, pool:
                self.signals.at_once = pool.kill
                for event in self._events(pool, pack_size, count, gpu):
                    self.recorder.check()
                    self._take(event)
            if self.signals.received is not None:
                self.signals.leave()
            with self.signals.raised(True):  # what is recorded takes no harm, and the rest goes to the disk
                self._close()
        except (KeyboardInterrupt, SystemExit):
            self._close(_HURRY)
            raise
        except BaseException:
            if self.report.verdicts:
                self._close()
            raise
        finally:
            self.claims.close()
            if not self.report.done and not self.store.exists():
                _sweep_out(self.store.state)

    def _events(self, pool: Pool, size: packs.Size, count: int, gpu: bool) -> Iterator[Event]:
        """Train what nobody else trains, then wait for what others do, and take over what they leave."""
        runs = self.runs
        while True:
            yield from pool.train(self._packs(runs, size, count, gpu), self.signals, self._admit, self._settings)
            while not (runs := [run for run in self.elsewhere if self.claims.claimed(run.key) is None]):
                if not self.elsewhere or self.signals.received is not None:
                    return
                self.recorder.check()
                self.progress.wait(_owners(self.elsewhere.values()))
                self.signals.wait(_POLL)
            for run in runs:
                del self.elsewhere[run]

    def _packs(self, runs: Sequence[Run], size: packs.Size, workers: int, gpu: bool) -> list[Pack]:
        """The packs to train: first those that have checkpoints, then the rest as goldfish.sweep.packs groups it."""
        named = {run.name: run for run in runs}
        again: dict[tuple[Path, str], list[Run]] = {}
        for saved in sorted(checkpoint.find(self.checkpointing.folder), key=lambda item: -item.step):
            for run in [named.pop(name) for name in saved.names if name in named]:
                again.setdefault((saved.path, pack_key(run.config)), []).append(run)
        rest = list(named.values())
        grouped = packs.group([run.config for run in rest], size, workers, gpu=gpu)
        return [*map(tuple, again.values()), *(tuple(rest[place] for place in pack) for pack in grouped)]

    def _settings(self, pack: Pack) -> Checkpointing | None:
        """The settings of checkpoints that a worker is given."""
        if self.checkpointing.minutes is None and self.checkpointing.every_steps is None:
            return None
        source = training_hash(pack[0].config)
        return replace(self.checkpointing, names=tuple(run.name for run in pack), source=source)

    def _admit(self, pack: Pack) -> Pack:
        """Claim the runs of a pack; return those that are to be trained here."""
        claimed = {run.key: run for run in pack}
        taken = self.claims.take([self.claims.of(run.key, run.label, run.sweep) for run in pack])
        self.elsewhere |= {claimed[item.key]: item for item in taken.elsewhere}
        mine = [claimed[item.key] for item in taken.mine]
        if finished := self._finished_by_others(mine):
            self.claims.release(run.key for run in finished)
            self.recorded |= {run.name for run in finished}
            self.report.skipped += len(finished)
            self.progress.show(Recorded(tuple(finished)))
            mine = [run for run in mine if run not in finished]
        for item in taken.dead:  # which could not record that it was interrupted
            if (run := claimed[item.key]) in mine:
                self.recorder.interrupted(run, f"process {item.pid} on {item.host} is gone", item.claimed)
        self.recorder.supersede(mine)
        return tuple(mine)

    def _finished_by_others(self, runs: Sequence[Run]) -> list[Run]:
        """Those that others have recorded since; none while the store is away: recording will look again."""
        try:
            rows = _finished(self.store, [run.key for run in runs]) if self.store.exists() else {}
        except Exception as error:
            if faults.line(error) is None and not isinstance(error, ConfigError):
                raise
            return []
        waiting = _spooled(self.store)
        return [r for r in runs if r.key in waiting or (r.key in rows and rows[r.key].run_id != r.repeated)]

    def _take(self, event: Event) -> None:
        """Show what happened, and have it recorded."""
        self.progress.show(event)
        if isinstance(event, Finished):
            outcome = _on_its_data(event.run, event.outcome)
            self.recorder.put(event.run, outcome)
            self.report.count(event.run.label, outcome)
        elif isinstance(event, Stopped):
            word = "Ctrl-C" if self.signals.interrupted else "SIGTERM"
            for run in event.runs:
                self.recorder.interrupted(run, f"{word} at step {event.step}" if event.step else word, event.since)
            self.report.interrupted += len(event.runs)

    def _recorded(self, run: Run) -> None:
        """An outcome is safe: its claim is given up, and checkpoints that nobody needs any more are removed.

        Called in the recorder's thread.
        """
        self.recorded.add(run.name)
        self.claims.release([run.key])
        checkpoint.discard(self.checkpointing.folder, self.recorded)

    def _close(self, patience: float | None = None) -> None:
        """Wait for the last outcome to be recorded, or, in a hurry, to be on the disk."""
        self.recorder.close(patience)
        self.report.unrecorded = [(run.label, reason) for run, reason in self.recorder.unrecorded]


def _on_its_data(run: Run, outcome: Outcome) -> Outcome:
    """The outcome of a run; failed where its data are others than those that its fingerprint stands for."""
    if outcome.content in ("", run.content):
        return outcome
    reason = "its data changed while the sweep ran; the same command trains it on the new ones"
    return Outcome(outcome.config, "failed", reason=reason, seconds=outcome.seconds, started=outcome.started)


def _owners(claims: Iterable[Claim]) -> str:
    """A line on the processes that train the runs which are waited for."""
    told = []
    for (host, pid), count in Counter((item.host, item.pid) for item in claims).items():
        where = "" if host == platform.node() else f" on {host}"
        told.append(f"{count} {'run is' if count == 1 else 'runs are'} trained by process {pid}{where}")
    return ", ".join(told)


def _tidy(state: Path, recorded: set[Key]) -> None:
    """Remove the claims and checkpoints of recorded runs whose process was killed before it could."""
    claims = Claims(state / "claims")
    claims.drop(item for item in claims.all() if item.key in recorded and not claims.alive(item))
    checkpoint.discard(state / "checkpoints", {"/".join(key) for key in recorded})


def _sweep_out(state: Path) -> None:
    """Remove the folders that a sweep made although its store could not be made; those in use stay."""
    (state / "claims" / "lock").unlink(missing_ok=True)
    for folder in (state / "claims", state / "checkpoints", state, state.parent):
        with suppress(OSError):  # not there, or not empty
            folder.rmdir()


def _tell(stream: TextIO, line: str) -> None:
    """Show a line where somebody can still read it."""
    with suppress(OSError, ValueError):
        print(f"goldfish: {line}", file=stream, flush=True)
