"""Worker processes, seen from the parent: they train packs side by side, and no run takes another one down.

The parent never imports torch. On Linux, workers are forked from a server that has imported the training code once; a
run that needs a GPU gets a freshly spawned process instead, for CUDA does not survive a fork.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

from goldfish.config.config import Config
from goldfish.errors import ConfigError
from goldfish.sweep import worker
from goldfish.sweep.signals import Signals
from goldfish.sweep.starting import starting
from goldfish.training.outcome import Outcome, loads
from goldfish.training.state.checkpoint import Checkpointing

_PATIENCE = 3  # workers that die one after another before any is ready
_MEMORY = re.compile(r"^(MemoryError|OutOfMemoryError)\b|can't allocate memory")  # of Python, CUDA, torch on a CPU
_TICK = 0.5  # seconds without news before the caller is woken, so that it can show the time
_FAREWELL = 3  # seconds that a process may take to end, or to write a checkpoint when it is told to stop


class WorkerError(RuntimeError):
    """No worker can be started: nothing can be trained."""


@dataclass(frozen=True)
class Advanced:
    """Training went on: `steps` = training steps × runs newly done. No runs: nothing happened for a moment."""

    runs: tuple[int, ...] = ()
    steps: int = 0


@dataclass(frozen=True)
class Restarted:
    """A pack failed; its runs are tried again, each alone, or, with `told`, as that line says."""

    runs: tuple[int, ...]
    told: str = ""


@dataclass(frozen=True)
class Finished:
    """A run's outcome."""

    run: int
    outcome: Outcome


@dataclass(frozen=True)
class Stopped:
    """Runs whose training was broken off by a signal; a checkpoint of `step` was written, if checkpoints are."""

    runs: tuple[int, ...]
    step: int
    since: float


@dataclass(frozen=True)
class Recorded:
    """Runs that another process has trained and recorded."""

    runs: tuple[int, ...]


Event = Advanced | Restarted | Finished | Stopped | Recorded


@dataclass(frozen=True)
class Orders:
    """How packs are to be trained.

    admit: called with a pack that a worker is free for; returns those of its runs that are to be trained.
    checkpointing: called with the runs of a pack that is being given to a worker.
    signals: what is asked whether to stop.
    """

    signals: Signals
    admit: Callable[[tuple[int, ...]], tuple[int, ...]] = lambda pack: pack
    checkpointing: Callable[[tuple[int, ...]], Checkpointing | None] = lambda pack: None


class Pool:
    """Up to `count` workers that train packs; a context manager, which leaves none behind.

    A worker sees one of the `devices` alone, names as CUDA_VISIBLE_DEVICES takes them: the one that fewest others see.
    """

    def __init__(self, count: int, *, trainer: str, context: Any, devices: Sequence[str] = ()) -> None:
        self.count, self.trainer, self.context, self.devices = count, trainer, context, devices
        self.workers: list[_Worker] = []
        self._configs: Sequence[Config] = ()
        self._queue: deque[tuple[int, ...]] = deque()
        self._lost_starts = self._disturbed = 0
        self._spared: set[int] = set()  # runs that were given a second chance after memory had run out
        self._stopping = False

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            for item in self.workers:
                item.dismiss()
        for item in self.workers:
            item.stop()
        self.workers = []

    def train(self, configs: Sequence[Config], packs: Sequence[Sequence[int]], orders: Orders) -> Iterator[Event]:
        """Train the packs in the given order, yielding what happens; every admitted run ends in one Finished.

        A pack of several runs that raises, or whose worker dies, is tried again run by run; a run that does so alone
        is failed. Where memory has run out, a pack is tried again in halves before, and a run alone once more. After a
        signal, what is in training ends in Finished or Stopped, within three seconds, and the rest is left. Raises
        WorkerError when no worker can be started, and ConfigError for input that a worker refuses.
        """
        self._configs, self._queue = configs, deque(tuple(pack) for pack in packs)
        while self._queue or self._busy:
            if orders.signals.received is not None:
                yield from self._wind_up()
                return
            self._fill(orders.signals)
            self._distribute(orders)
            if self._queue or self._busy:
                yield from self._news(_TICK, orders.signals)

    def kill(self) -> None:
        """End every worker at once, from whatever place in the program."""
        for item in self.workers:
            if item.process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(item.process.pid, signal.SIGKILL)

    @property
    def _busy(self) -> list[_Worker]:
        return [item for item in self.workers if item.job]

    def _fill(self, signals: Signals) -> None:
        """Start workers while there is work for them."""
        busy = len(self._busy)
        while len(self.workers) < min(self.count, busy + len(self._queue)):
            with signals.raised(not busy):  # the first worker waits for its server's imports
                self.workers.append(_Worker(self.context, self.trainer, self._free_device()))

    def _free_device(self) -> str | None:
        """The device that the fewest workers have, the first of equals; None where there is none to choose."""
        taken = [item.device for item in self.workers]
        return min(self.devices, key=taken.count, default=None)

    def _distribute(self, orders: Orders) -> None:
        for item in self.workers:
            while item.ready and not item.job and self._queue and orders.signals.received is None:
                pack = orders.admit(self._queue.popleft())
                if pack:
                    item.give(pack, worker.request([self._configs[run] for run in pack], orders.checkpointing(pack)))

    def _wind_up(self) -> Iterator[Event]:
        """Ask for checkpoints, and end all workers: after three seconds those that have not answered too."""
        self._queue.clear()
        self._stopping = True
        for item in self.workers:
            item.tell() if item.job else item.stop()
        self.workers = self._busy
        deadline = time.monotonic() + _FAREWELL
        while self._busy and (left := deadline - time.monotonic()) > 0:
            yield from self._news(left)
        for item in self.workers:
            item.stop()
            if item.job:
                yield item.stopped(0)
        self.workers = []

    def _news(self, patience: float, signals: Signals | None = None) -> Iterator[Event]:
        sources: list[Any] = [source for item in self.workers for source in (item.connection, item.process.sentinel)]
        ready = wait([*sources, signals.waker] if signals else sources, timeout=patience)
        if not ready:
            yield Advanced()
        for item in list(self.workers):
            if item.connection in ready or item.process.sentinel in ready:
                yield from self._read(item)

    def _read(self, item: _Worker) -> Iterator[Event]:
        """Handle every message a worker has sent, and its death."""
        for message in item.messages():
            if isinstance(message, Outcome):
                run, *rest = item.job
                item.job = tuple(rest)
                yield Finished(run, message)
                continue
            kind, *content = message
            if kind == "ready":
                item.ready, self._lost_starts = True, 0
            elif kind == "broken":
                raise WorkerError(f"{self.trainer} cannot be imported: {content[0]}")
            elif kind == "advance":
                yield Advanced(item.job, content[0])
            elif kind == "interrupted":
                yield from self._interrupted(item, content[0])
            elif kind == "refused" and not self._stopping:
                raise ConfigError(content[0])
            else:
                item.dead = item.dead or len(content) > 1
                yield from self._failed(item, content[0])
        if item.dead:
            self.workers.remove(item)
            yield from self._bury(item)

    def _interrupted(self, item: _Worker, step: int) -> Iterator[Event]:
        """A worker that somebody else has told to stop is of no more use; its pack goes on in another one."""
        if self._stopping:
            yield item.stopped(step)
            return
        self._disturbed += 1
        if self._disturbed > _PATIENCE * self.count:
            raise WorkerError("workers get SIGTERM again and again; send it to this process")
        self._queue.appendleft(item.job)
        yield Restarted(item.job)
        item.job, item.dead = (), True
        item.process.kill()

    def _bury(self, item: _Worker) -> Iterator[Event]:
        ended = item.stop()
        reason = item.damage or f"worker died: {ended}"
        if item.job:
            yield from self._failed(item, reason, killed=item.killed and not item.damage)
        elif not item.ready:
            self._lost_starts += 1
            if self._lost_starts >= _PATIENCE:
                raise WorkerError(f"{reason}, {_PATIENCE} times while starting")

    def _failed(self, item: _Worker, reason: str, *, killed: bool = False) -> Iterator[Event]:
        """A pack of several goes back to the front of the queue, run by run; a single run is failed.

        `killed`: by SIGKILL, which nobody but the kernel sends, when memory has run out.
        """
        job = item.job
        if self._stopping:
            yield item.stopped(0)
        elif (killed or _MEMORY.search(reason)) and not self._spared.issuperset(job):
            item.job = ()
            yield self._spare(job, "a worker was killed" if killed else "memory ran out")
        elif item.packed > 1:
            item.job = ()
            self._queue.extendleft((run,) for run in reversed(job))
            yield Restarted(job)
        else:
            item.job = ()
            seconds = time.time() - item.since
            outcome = Outcome(self._configs[job[0]], "failed", reason=reason, seconds=seconds, started=item.since)
            yield Finished(job[0], outcome)

    def _spare(self, job: tuple[int, ...], what: str) -> Restarted:
        """Train a pack again, in halves, when the others are done: then there may be room for it."""
        self._spared.update(job)
        parts = [part for part in (job[: len(job) // 2], job[len(job) // 2 :]) if part]
        self._queue.extend(parts)
        lost = f"{what} in training {'a run' if len(job) == 1 else f'{len(job)} runs together'}"
        again = "the run is" if len(job) == 1 else f"they are, {len(parts[0])} and {len(parts[1])} together,"
        return Restarted(job, f"{lost}, as happens where memory is short; {again} trained once more")


class _Worker:
    """One process, the pipe to it, and the runs it is training."""

    def __init__(self, context: Any, trainer: str, device: str | None = None) -> None:
        self.device = device
        self.connection, child = context.Pipe()
        self.process = context.Process(target=worker.main, args=(child, trainer), name="goldfish-worker", daemon=True)
        # The server's children inherit its blocked signals, and the first waits for its imports: Ctrl-C stays possible.
        own = {} if device is None else {"CUDA_VISIBLE_DEVICES": device}
        with starting(own, block=context.get_start_method() == "spawn"):
            self.process.start()
        child.close()
        self.ready = False
        self.dead = False
        self.killed = False
        self.job: tuple[int, ...] = ()  # of these no outcome has come yet
        self.packed = 0
        self.since = 0.0
        self.damage = ""

    def give(self, job: tuple[int, ...], request: bytes) -> None:
        """Send a pack."""
        self.job, self.packed, self.since = job, len(job), time.time()
        try:
            self.connection.send_bytes(request)
        except OSError:  # it died since its last message
            self.dead = True

    def messages(self) -> Iterator[Outcome | list[Any]]:
        """What it has sent so far; sets `dead` where the pipe has ended or the process has."""
        ended = not self.process.is_alive()  # asked first: what it sent before its end is still read
        try:
            while not self.damage and self.connection.poll():
                yield self._understood(self.connection.recv_bytes())
        except (EOFError, OSError):  # the other end is closed, perhaps in the middle of a message
            ended = True
        except ValueError as error:
            self.damage = f"worker sent what cannot be read: {error}"
            self.process.kill()
        self.dead = self.dead or ended or bool(self.damage)

    def _understood(self, data: bytes) -> Outcome | list[Any]:
        """A message is a JSON list, an outcome begins with a word. Raises ValueError for anything else."""
        message: list[Any] = json.loads(data) if data[:1] == b"[" else []
        return message or loads(data)

    def tell(self) -> None:
        """Ask it to write a checkpoint and stop training."""
        if self.process.is_alive():
            self.process.terminate()

    def stopped(self, step: int) -> Stopped:
        """What it was training is training no more."""
        job, self.job = self.job, ()
        return Stopped(job, step, self.since)

    def dismiss(self) -> None:
        """Ask it to end."""
        self.dead = True  # whatever it answers
        with suppress(OSError):  # it has ended already
            self.connection.send_bytes(b"null")

    def stop(self) -> str:
        """End the process, at once unless it is ending anyway: it owns nothing. Return how it ended."""
        self.process.join(_FAREWELL if self.dead else 0)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        code = self.process.exitcode or 0
        self.killed = code == -signal.SIGKILL
        self.process.close()
        self.connection.close()
        return f"exit code {code}" + (f" ({signal.strsignal(-code)})" if code < 0 else "")
