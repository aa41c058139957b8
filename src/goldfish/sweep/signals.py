"""Signals to stop: the first one asks the process to stop in good order, the second one ends it at once."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

# SLURM sends these ahead of preemption or the time limit, as `sbatch --signal` and submitit ask for.
PREEMPTION = tuple(getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name))


class Terminated(SystemExit):
    """SIGTERM or SLURM's preemption ended the program, which left everything in order; the exit code is 143."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


@contextmanager
def terminated() -> Iterator[None]:
    """Inside the block, SIGTERM raises Terminated in the main thread, unless it has a handler already."""
    mine = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if mine:
        signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        if mine:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(*_: object) -> NoReturn:
    raise Terminated


class Signals:
    """Takes SIGINT, SIGTERM and, in a job of SLURM, SIGUSR1 and SIGUSR2; a context manager, which puts handlers back.

    Outside the main thread, where Python allows no handlers, nothing is taken. `waker` turns readable with a signal.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.at_once: Callable[[], None] = lambda: None  # what a second signal does before the process ends
        self.waker, self._write = socket.socketpair()
        self._before: dict[int, Any] = {}
        self._raised = False

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            slurm = PREEMPTION if "SLURM_JOB_ID" in os.environ else ()
            for number in (signal.SIGINT, signal.SIGTERM, *slurm):
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            if handler is not None:  # one that was not made by Python cannot be put back
                signal.signal(number, handler)
        self.waker.close()
        self._write.close()

    @property
    def interrupted(self) -> bool:
        """True for Ctrl-C."""
        return self.received == signal.SIGINT

    @contextmanager
    def raised(self, immediately: bool) -> Iterator[None]:
        """Inside the block, a signal raises wherever it arrives, even in a wait; nothing may be lost there."""
        self._raised = immediately
        try:
            yield
        finally:
            self._raised = False

    def wait(self, seconds: float) -> None:
        """Sleep, until a signal comes."""
        select.select([self.waker], [], [], seconds)

    def leave(self) -> NoReturn:
        """Raise what the signal means: KeyboardInterrupt or Terminated."""
        raise KeyboardInterrupt if self.interrupted else Terminated

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            self.at_once()
            os._exit(128 + (signal.SIGINT if number == signal.SIGINT else signal.SIGTERM))
        self.received = number
        self._write.send(b"\0")
        if self._raised:
            self.leave()
