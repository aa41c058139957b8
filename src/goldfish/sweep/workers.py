"""Worker processes, seen from the parent: they train packs side by side, and no run takes another one down.

The parent never imports torch. Workers are forked from a server that has imported the training code once; a run that
needs a GPU gets a freshly spawned process instead, for CUDA does not survive a fork.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import pickle
import signal
import sys
import time
import types
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

from goldfish.config import Config
from goldfish.sweep import worker
from goldfish.training.outcome import Outcome

_PATIENCE = 3  # workers that die one after another before any is ready
_TICK = 0.5  # seconds without news before the caller is woken, so that it can show the time
_FAREWELL = 3  # seconds that a process may take to end


class WorkerError(RuntimeError):
    """No worker can be started: nothing can be trained."""


@dataclass(frozen=True)
class Advanced:
    """Training went on: `steps` = training steps × runs newly done. No runs: nothing happened for a moment."""

    runs: tuple[int, ...] = ()
    steps: int = 0


@dataclass(frozen=True)
class Restarted:
    """A pack failed; its runs are tried again, each alone."""

    runs: tuple[int, ...]


@dataclass(frozen=True)
class Finished:
    """A run's outcome."""

    run: int
    outcome: Outcome


Event = Advanced | Restarted | Finished


def prepare(trainer: str, *, gpu: bool = False) -> Any:
    """Return the multiprocessing context; where it can fork from a server, start that now, and return at once."""
    if gpu or "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([trainer.partition(":")[0]])
    with _starting():
        multiprocessing.forkserver.ensure_running()
    return context


class Pool:
    """Up to `count` workers that train packs; a context manager, which leaves none behind."""

    def __init__(self, count: int, *, trainer: str, context: Any) -> None:
        self.count, self.trainer, self.context = count, trainer, context
        self.workers: list[_Worker] = []
        self._lost_starts = 0

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            for item in self.workers:
                item.dismiss()
        for item in self.workers:
            item.stop()
        self.workers = []

    def train(self, configs: Sequence[Config], packs: Sequence[Sequence[int]]) -> Iterator[Event]:
        """Train the packs in the given order, yielding what happens; every run ends in exactly one Finished.

        A pack of several runs that raises, or whose worker dies, is tried again run by run; a run that does so alone
        is failed. Raises WorkerError when no worker can be started.
        """
        queue = deque(tuple(pack) for pack in packs)
        while queue or any(item.job for item in self.workers):
            self._fill(len(queue))
            for item in self.workers:
                if item.ready and not item.job and queue:
                    item.give(queue[0], configs)
                    queue.popleft()
            yield from self._news(configs, queue)

    def _fill(self, waiting: int) -> None:
        """Start workers while there is work for them."""
        busy = sum(bool(item.job) for item in self.workers)
        while len(self.workers) < min(self.count, busy + waiting):
            self.workers.append(_Worker(self.context, self.trainer))

    def _news(self, configs: Sequence[Config], queue: deque[tuple[int, ...]]) -> Iterator[Event]:
        sources = [source for item in self.workers for source in (item.connection, item.process.sentinel)]
        ready = wait(sources, timeout=_TICK)
        if not ready:
            yield Advanced()
        for item in list(self.workers):
            if item.connection in ready or item.process.sentinel in ready:
                yield from self._read(item, configs, queue)

    def _read(self, item: _Worker, configs: Sequence[Config], queue: deque[tuple[int, ...]]) -> Iterator[Event]:
        """Handle every message a worker has sent, and its death."""
        for kind, *content in item.messages():
            if kind == "ready":
                item.ready, self._lost_starts = True, 0
            elif kind == "broken":
                raise WorkerError(f"{self.trainer} cannot be imported: {content[0]}")
            elif kind == "advance":
                yield Advanced(item.job, content[0])
            elif kind == "done":
                yield from (Finished(run, outcome) for run, outcome in zip(item.job, content[0], strict=True))
                item.job = ()
            else:
                yield from _failed(item, content[0], configs, queue)
        if item.dead:
            self.workers.remove(item)
            yield from self._bury(item, configs, queue)

    def _bury(self, item: _Worker, configs: Sequence[Config], queue: deque[tuple[int, ...]]) -> Iterator[Event]:
        reason = f"worker died: {item.stop()}"
        if item.job:
            yield from _failed(item, reason, configs, queue)
        elif not item.ready:
            self._lost_starts += 1
            if self._lost_starts >= _PATIENCE:
                raise WorkerError(f"{reason}, {_PATIENCE} times while starting")


class _Worker:
    """One process, the pipe to it, and the runs it is training."""

    def __init__(self, context: Any, trainer: str) -> None:
        self.connection, child = context.Pipe()
        self.process = context.Process(target=worker.main, args=(child, trainer), name="goldfish-worker", daemon=True)
        # The server's children inherit its blocked SIGINT, and the first waits for its imports: Ctrl-C stays possible.
        with _starting(block=context.get_start_method() == "spawn"):
            self.process.start()
        child.close()
        self.ready = False
        self.dead = False
        self.job: tuple[int, ...] = ()
        self.since = 0.0

    def give(self, job: tuple[int, ...], configs: Sequence[Config]) -> None:
        """Send a pack."""
        self.job, self.since = job, time.time()
        try:
            self.connection.send([configs[run] for run in job])
        except OSError:  # it died since its last message
            self.dead = True

    def messages(self) -> Iterator[tuple[Any, ...]]:
        """What it has sent so far; sets `dead` where the pipe has ended or the process has."""
        ended = not self.process.is_alive()  # asked first: what it sent before its end is still read
        try:
            while self.connection.poll():
                yield pickle.loads(self.connection.recv_bytes())
        except (EOFError, OSError):  # the other end is closed, perhaps in the middle of a message
            ended = True
        self.dead = self.dead or ended

    def dismiss(self) -> None:
        """Ask it to end."""
        self.dead = True  # whatever it answers
        with suppress(OSError):  # it has ended already
            self.connection.send(None)

    def stop(self) -> str:
        """End the process, at once unless it is ending anyway: it owns nothing. Return how it ended."""
        self.process.join(_FAREWELL if self.dead else 0)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        code = self.process.exitcode or 0
        self.process.close()
        self.connection.close()
        return f"exit code {code}" + (f" ({signal.strsignal(-code)})" if code < 0 else "")


def _failed(item: _Worker, reason: str, configs: Sequence[Config], queue: deque[tuple[int, ...]]) -> Iterator[Event]:
    """A pack of several goes back to the front of the queue, run by run; a single run is failed."""
    job, item.job = item.job, ()
    if len(job) > 1:
        queue.extendleft((run,) for run in reversed(job))
        yield Restarted(job)
    else:
        seconds = time.time() - item.since
        outcome = Outcome(configs[job[0]], "failed", reason=reason, seconds=seconds, started=item.since)
        yield Finished(job[0], outcome)


@contextmanager
def _starting(*, block: bool = True) -> Iterator[None]:
    """While a process starts: it inherits the environment of workers and, with `block`, a blocked SIGINT.

    Ctrl-C is the parent's business. No `__main__` is known meanwhile, or the caller's script would run in each worker.
    """
    before = {name: os.environ.get(name) for name in worker.ENVIRONMENT}
    main = sys.modules["__main__"]
    multiprocessing.resource_tracker.ensure_running()  # it unblocks SIGINT when it starts: not while we block it
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT} if block else set())
    os.environ.update(worker.ENVIRONMENT)
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        os.environ.update({name: value for name, value in before.items() if value is not None})
        for name in [name for name, value in before.items() if value is None]:
            del os.environ[name]
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
