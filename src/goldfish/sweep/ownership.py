"""Which runs of a sweep this process may train: those it has claimed, and nobody has finished meanwhile."""

from __future__ import annotations

import platform
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from goldfish import faults
from goldfish.errors import ConfigError
from goldfish.sweep import packs
from goldfish.sweep.claims import Claim, Claims, Key, claim
from goldfish.sweep.record import Interruption, Recorder, Store
from goldfish.sweep.source import training_hash
from goldfish.sweep.workload import Workload
from goldfish.training.pack import pack_key
from goldfish.training.state import checkpoint
from goldfish.training.state.checkpoint import Checkpointing


@dataclass
class Checkpoints:
    """Where checkpoints of the sweep's runs lie, and how often they are written; minutes and steps None: never."""

    folder: Path
    minutes: float | None
    steps: int | None
    sources: dict[str, str] = field(default_factory=dict)  # by pack_key

    @property
    def on(self) -> bool:
        """Whether any are written."""
        return self.minutes is not None or self.steps is not None

    def of(self, workload: Workload, pack: Sequence[int]) -> Checkpointing | None:
        """What a worker is told."""
        if not self.on:
            return None
        config = workload.configs[pack[0]]
        source = self.sources.setdefault(pack_key(config), training_hash(config))
        return Checkpointing(
            self.folder, tuple(name(workload.keys[run]) for run in pack), self.steps, self.minutes, source
        )


def name(key: Key) -> str:
    """What a run is called in a checkpoint."""
    return "/".join(key)


def tidy(workload: Workload, state: Path) -> None:
    """Remove the claims and checkpoints of recorded runs whose process was killed before it could."""
    recorded = {workload.keys[run] for run in workload.keys.keys() - set(workload.left)}
    claims = Claims(state / "claims")
    claims.drop(item for item in claims.all() if item.key in recorded and not claims.alive(item))
    checkpoint.discard(state / "checkpoints", {name(key) for key in recorded})


def sweep_out(state: Path) -> None:
    """Remove the folders that a sweep made whose store could not be made; what somebody still needs stays."""
    (state / "claims" / "lock").unlink(missing_ok=True)
    for folder in (state / "claims", state / "checkpoints", state, state.parent):
        with suppress(OSError):  # not there, or not empty
            folder.rmdir()


class Ownership:
    """Claims runs for this process just before they are trained, and gives them up when they are recorded.

    Args:
        workload: the sweep.
        store: where outcomes go; claims lie in its state folder.
        sweep: the sweep's name.
        checkpoints: of the sweep.
        found_recorded: called with the runs that another process turns out to have recorded.
    """

    def __init__(
        self,
        workload: Workload,
        store: Store,
        sweep: str,
        checkpoints: Checkpoints,
        found_recorded: Callable[[Sequence[int]], None],
    ) -> None:
        self.workload, self.store, self.sweep, self.checkpoints = workload, store, sweep, checkpoints
        self.found_recorded = found_recorded
        self.claims = Claims(store.state / "claims")
        self.elsewhere: dict[int, Claim] = {}
        self._run = {key: index for index, key in workload.keys.items()}
        self._mine: set[int] = set()
        self._recorded = {name(workload.keys[index]) for index in workload.keys.keys() - set(workload.left)}
        self._lock = threading.Lock()  # the recorder calls `recorded` from its thread
        self.recorder: Recorder | None = None

    def packs(self, runs: Sequence[int], size: packs.Size, workers: int, *, gpu: bool) -> list[list[int]]:
        """What is trained together: first what checkpoints were found of, then the rest as goldfish.sweep.packs."""
        index = {name(self.workload.keys[run]): run for run in runs}
        again: dict[tuple[Path, str], list[int]] = {}
        for found in sorted(checkpoint.find(self.checkpoints.folder), key=lambda item: -item.step):
            for run in [index.pop(wanted) for wanted in found.names if wanted in index]:
                again.setdefault((found.path, pack_key(self.workload.configs[run])), []).append(run)
        rest = sorted(index.values())
        grouped = packs.group([self.workload.configs[run] for run in rest], size, workers, gpu=gpu)
        return [*again.values(), *([rest[place] for place in pack] for pack in grouped)]

    def admit(self, pack: tuple[int, ...]) -> tuple[int, ...]:
        """Claim the runs of a pack; return those that are to be trained here."""
        with self._lock:
            fresh = [run for run in pack if run not in self._mine]
        if not fresh:
            return pack
        taken = self.claims.take(
            [claim(self.workload.keys[run], self.workload.labels[run], self.sweep) for run in fresh]
        )
        mine = [self._run[item.key] for item in taken.mine]
        self.elsewhere |= {self._run[item.key]: item for item in taken.elsewhere}
        finished = self._finished(mine)
        with self._lock:
            self._mine |= set(mine)
        self._leave(finished)
        self._succeed([item for item in taken.dead if self._run[item.key] not in finished])
        assert self.recorder is not None
        self.recorder.supersede([self.workload.keys[run] for run in mine if run not in finished])
        return tuple(run for run in pack if run in self._mine)

    def _finished(self, runs: Sequence[int]) -> set[int]:
        """Those of the runs that others have recorded; none while the store is away: recording will look again."""
        try:
            return self.workload.finished_since(self.store, runs)
        except Exception as error:
            if faults.line(error) is None and not isinstance(error, ConfigError):
                raise
            return set()

    def _leave(self, finished: set[int]) -> None:
        """Others have recorded these."""
        if finished:
            self.release(finished)
            with self._lock:
                self._recorded |= {name(self.workload.keys[run]) for run in finished}
            self.workload.report.skipped += len(finished)
            self.found_recorded(sorted(finished))

    def _succeed(self, dead: Iterable[Claim]) -> None:
        """The dead could not record that they were interrupted."""
        assert self.recorder is not None
        for item in dead:
            run = self._run[item.key]
            reason = f"process {item.pid} on {item.host} is gone"
            config, source = self.workload.configs[run], self.workload.sources[run]
            self.recorder.put_interrupted(Interruption(config, *item.key, source, reason, item.claimed))

    def recorded(self, key: Key) -> None:
        """An outcome is safe: its claim is given up, and checkpoints that nobody needs any more are removed."""
        run = self._run.get(key)
        if run is None:  # of an earlier sweep, and was waiting to be recorded
            return
        with self._lock:
            self._recorded.add(name(key))
            recorded = set(self._recorded)
        self.release([run])
        checkpoint.discard(self.checkpoints.folder, recorded)

    def release(self, runs: Iterable[int] | None = None) -> None:
        """Give up the claims of runs, by default of all that this process has."""
        with self._lock:
            released = self._mine & (self._mine if runs is None else set(runs))
            self._mine -= released
        self.claims.release([self.workload.keys[run] for run in released])

    def freed(self) -> list[int]:
        """Runs that were claimed elsewhere and are not any more: finished, given up, or their process has died."""
        free = [run for run in self.elsewhere if self.claims.owner(self.workload.keys[run]) is None]
        for run in free:
            del self.elsewhere[run]
        return free

    def waiting(self) -> str:
        """What is waited for, in a line."""
        owners = Counter((item.host, item.pid) for item in self.elsewhere.values())
        told = []
        for (host, pid), count in owners.items():
            where = "" if host == platform.node() else f" on {host}"
            told.append(f"{count} {'run is' if count == 1 else 'runs are'} trained by process {pid}{where}")
        return ", ".join(told)
