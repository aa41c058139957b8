"""A pool of worker processes, as their parent sees it: they train packs side by side, and no run can crash another.

The parent never imports torch. On Linux, workers are forked from a server that has imported the training code once; a
run that needs a GPU gets a freshly spawned process instead, for CUDA does not survive a fork.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import re
import signal
import sys
import tempfile
import time
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

from goldfish.errors import ConfigError
from goldfish.sweep import worker
from goldfish.sweep.packs import Pack, Run
from goldfish.sweep.signals import Signals
from goldfish.training.outcome import Outcome, loads
from goldfish.training.state.checkpoint import Checkpointing

_PATIENCE = 3  # workers that die one after another before any is ready
_MEMORY = re.compile(r"^(MemoryError|OutOfMemoryError)\b|can't allocate memory")  # of Python, CUDA, torch on a CPU
_TICK = 0.5  # seconds without news before the caller is woken, so that it can show the time
_FAREWELL = 3  # seconds that a process may take to end, or to write a checkpoint when it is told to stop
_NAME = 107  # bytes that a socket's name may have
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}


class WorkerError(RuntimeError):
    """No worker can be started: nothing can be trained."""


@dataclass(frozen=True)
class Advanced:
    """Training has advanced by `steps` = training steps × runs. Without runs, nothing happened for a moment."""

    runs: Pack = ()
    steps: int = 0


@dataclass(frozen=True)
class Started:
    """A worker has begun to train a pack."""

    runs: Pack


@dataclass(frozen=True)
class Restarted:
    """A pack failed; its runs are tried again, each alone, or, with `told`, as that line says."""

    runs: Pack
    told: str = ""


@dataclass(frozen=True)
class Finished:
    """A run's outcome."""

    run: Run
    outcome: Outcome


@dataclass(frozen=True)
class Stopped:
    """Runs whose training was broken off by a signal; a checkpoint of `step` was written, if checkpoints are."""

    runs: Pack
    step: int
    since: float


@dataclass(frozen=True)
class Recorded:
    """Runs that another process has trained and recorded."""

    runs: Pack


Event = Advanced | Started | Restarted | Finished | Stopped | Recorded


class Pool:
    """Up to `count` workers that train packs by `trainer`; a context manager, which leaves none behind.

    A worker sees one of the `devices` alone, names as CUDA_VISIBLE_DEVICES takes them: the one that fewest others see.
    With `spawn` workers are started afresh, as a GPU needs it.
    """

    def __init__(self, count: int, trainer: str, *, devices: Sequence[str] = (), spawn: bool = False) -> None:
        self.count, self.trainer, self.devices = count, trainer, devices
        self.context = _context(trainer, spawn=spawn)
        self.workers: list[_Worker] = []
        self._queue: deque[Pack] = deque()
        self._lost_starts = self._disturbed = 0
        self._spared: set[Run] = set()  # runs that were given a second chance after memory had run out
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

    def train(
        self,
        packs: Sequence[Pack],
        signals: Signals,
        admit: Callable[[Pack], Pack],
        checkpointing: Callable[[Pack], Checkpointing | None],
    ) -> Iterator[Event]:
        """Train the packs in the given order, yielding what happens; every admitted run ends in one Finished.

        A pack of several runs that raises, or whose worker dies, is tried again run by run; a run that does so alone
        is failed. Where memory has run out, a pack is tried again in halves before, and a run alone once more. After a
        signal, what is in training ends in Finished or Stopped, within three seconds, and the rest is left.

        Args:
            packs: runs that are trained together.
            signals: what is asked whether to stop.
            admit: called with a pack that a worker is free for; returns those of its runs that are to be trained.
            checkpointing: called with a pack that is being given to a worker.

        Raises:
            WorkerError: when no worker can be started.
            ConfigError: for input that a worker refuses.
        """
        self._queue = deque(packs)
        while self._queue or self._busy:
            if signals.received is not None:
                yield from self._wind_up()
                return
            self._fill(signals)
            for item in self.workers:
                while item.ready and not item.job and self._queue and signals.received is None:
                    if pack := admit(self._queue.popleft()):
                        item.give(pack, checkpointing(pack))
                        yield Started(pack)
            if self._queue or self._busy:
                yield from self._news(_TICK, signals)

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
            taken = [item.device for item in self.workers]
            device = min(self.devices, key=taken.count, default=None)  # the one that the fewest workers have
            with signals.raised(not busy):  # the first worker waits for its server's imports
                self.workers.append(_Worker(self.context, self.trainer, device))

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
        for kind, content in item.messages():
            if kind == "outcome":
                run, *rest = item.job
                item.job = tuple(rest)
                yield Finished(run, loads(content))
            elif kind == "ready":
                item.ready, self._lost_starts = True, 0
            elif kind == "broken":
                raise WorkerError(f"{self.trainer} cannot be imported: {content}")
            elif kind == "advance":
                yield Advanced(item.job, content)
            elif kind == "interrupted":
                yield from self._interrupted(item, content)
            elif kind == "refused" and not self._stopping:
                raise ConfigError(content)
            else:
                item.dead = item.dead or kind == "ending"
                yield self._failed(item, content)
        if item.dead:
            self.workers.remove(item)
            yield from self._bury(item)

    def _interrupted(self, item: _Worker, step: int) -> Iterator[Event]:
        """Give up a worker that somebody else has told to stop; its pack goes on in another one."""
        if self._stopping:
            yield item.stopped(step)
            return
        self._disturbed += 1
        if self._disturbed > _PATIENCE * self.count:
            raise WorkerError("workers keep receiving SIGTERM; send it to this process instead")
        self._queue.appendleft(item.job)
        yield Restarted(item.job)
        item.job, item.dead = (), True
        item.process.kill()

    def _bury(self, item: _Worker) -> Iterator[Event]:
        code = item.stop()
        reason = f"worker died: exit code {code}" + (f" ({signal.strsignal(-code)})" if code < 0 else "")
        if item.job:
            yield self._failed(item, reason, killed=code == -signal.SIGKILL)
        elif not item.ready:
            self._lost_starts += 1
            if self._lost_starts >= _PATIENCE:
                raise WorkerError(f"{reason}, {_PATIENCE} times while starting")

    def _failed(self, item: _Worker, reason: str, *, killed: bool = False) -> Event:
        """A pack of several goes back to the front of the queue, run by run; a single run is failed.

        `killed`: by SIGKILL, which nobody but the kernel sends, when memory has run out.
        """
        if self._stopping:
            return item.stopped(0)
        job, item.job = item.job, ()
        if (killed or _MEMORY.search(reason)) and not self._spared.issuperset(job):
            return self._spare(job, "a worker was killed" if killed else "memory ran out")
        if item.packed > 1:
            self._queue.extendleft((run,) for run in reversed(job))
            return Restarted(job)
        seconds = time.time() - item.since
        outcome = Outcome(job[0].config, "failed", reason=reason, seconds=seconds, started=item.since)
        return Finished(job[0], outcome)

    def _spare(self, job: Pack, what: str) -> Restarted:
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
        with _starting(own, block=context.get_start_method() == "spawn"):
            self.process.start()
        child.close()
        self.ready = False
        self.dead = False
        self.job: Pack = ()  # of these no outcome has come yet
        self.packed = 0
        self.since = 0.0

    def give(self, pack: Pack, checkpointing: Checkpointing | None) -> None:
        """Send a pack."""
        self.job, self.packed, self.since = pack, len(pack), time.time()
        try:
            self.connection.send(([run.config for run in pack], checkpointing))
        except OSError:  # it died since its last message
            self.dead = True

    def messages(self) -> Iterator[tuple[str, Any]]:
        """The messages that it has sent so far; sets `dead` where the pipe has ended or the process has."""
        ended = not self.process.is_alive()  # asked first: what it sent before its end is still read
        try:
            while self.connection.poll():
                yield self.connection.recv()
        except (EOFError, OSError):  # the other end is closed, perhaps in the middle of a message
            ended = True
        self.dead = self.dead or ended

    def tell(self) -> None:
        """Ask it to write a checkpoint and stop training."""
        if self.process.is_alive():
            self.process.terminate()

    def stopped(self, step: int) -> Stopped:
        """Take its pack away and return the event that training was broken off."""
        job, self.job = self.job, ()
        return Stopped(job, step, self.since)

    def dismiss(self) -> None:
        """Ask it to end."""
        self.dead = True  # whatever it answers
        with suppress(OSError):  # it has ended already
            self.connection.send(None)

    def stop(self) -> int:
        """End the process, at once unless it is ending anyway: it owns nothing. Return its exit code."""
        self.process.join(_FAREWELL if self.dead else 0)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        code = self.process.exitcode or 0
        self.process.close()
        self.connection.close()
        return code


def _context(trainer: str, *, spawn: bool) -> Any:
    """The multiprocessing context; on Linux it forks from a server: start that now, and return at once.

    On macOS a process that has loaded torch must not be forked: Apple's libraries may crash in the child. Workers are
    spawned there, and where the server's socket could not have its long name.
    """
    named = len(os.fsencode(tempfile.gettempdir())) <= _NAME - len("/pymp-xxxxxxxx/listener-xxxxxxxx")
    if spawn or sys.platform != "linux" or not named:
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([trainer.partition(":")[0]])
    with _starting():
        multiprocessing.forkserver.ensure_running()
    return context


@contextmanager
def _starting(own: Mapping[str, str] | None = None, *, block: bool = True) -> Iterator[None]:
    """Let a process started in the block inherit the workers' environment, `own`, and, with `block`, blocked signals.

    A group's signals are the parent's business: they must not end the server, nor a worker before it listens. No
    `__main__` is known meanwhile, or the caller's script would run in each worker.
    """
    environment = {**worker.ENVIRONMENT, **(own or {})}
    before = {name: os.environ.get(name) for name in environment}
    main = sys.modules["__main__"]
    multiprocessing.resource_tracker.ensure_running()  # it unblocks signals when it starts: not while we block them
    method = multiprocessing.get_start_method(allow_none=True)
    if method not in (None, *multiprocessing.get_all_start_methods()):
        multiprocessing.set_start_method("spawn", force=True)  # joblib's own is unknown where the process starts
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS if block else set())
    os.environ.update(environment)
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        os.environ.update({name: value for name, value in before.items() if value is not None})
        for name in [name for name, value in before.items() if value is None]:
            del os.environ[name]
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if multiprocessing.get_start_method(allow_none=True) != method:
            multiprocessing.set_start_method(method, force=True)
