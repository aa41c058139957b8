"""How worker processes start: what they inherit, and from which kind of server they are forked, if from any."""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import sys
import tempfile
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from goldfish.sweep import worker

_NAME = 107  # bytes that a socket's name may have
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}


def prepare(trainer: str, *, gpu: bool = False) -> Any:
    """Return the multiprocessing context; on Linux it forks from a server: start that now, and return at once.

    On macOS a process that has loaded torch must not be forked: Apple's libraries may crash in the child. Workers are
    spawned as well where a GPU is used, and where the server's socket could not have its long name.
    """
    if gpu or sys.platform != "linux" or not _named_socket():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([trainer.partition(":")[0]])
    with starting():
        multiprocessing.forkserver.ensure_running()
    return context


def _named_socket() -> bool:
    """Whether the server's socket can have a name in the folder of temporary files."""
    return len(os.fsencode(tempfile.gettempdir())) <= _NAME - len("/pymp-xxxxxxxx/listener-xxxxxxxx")


@contextmanager
def starting(own: Mapping[str, str] | None = None, *, block: bool = True) -> Iterator[None]:
    """While a process starts: it inherits the environment of workers, its `own`, and, with `block`, blocked signals.

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
