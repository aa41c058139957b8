"""The main loop of a worker process, which trains the packs it is sent, one by one on one thread, and sends outcomes.

The parent decides what has become of a run.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Protocol

from goldfish.config.config import Config
from goldfish.errors import ConfigError
from goldfish.training.outcome import Outcome, dumps
from goldfish.training.state.checkpoint import Checkpointing, Interrupted

TRAINER = "goldfish.sweep.work:train_pack"
# One thread per pack; MKL's result must not depend on memory alignment: read when torch is loaded. The last two keep
# freed memory in the process: a training step's large tensors would page-fault anew each time.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MKL_CBWR": "AVX2,STRICT",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
}
INTERVAL = 0.2  # seconds between two messages about progress
_DIE_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG


class Train(Protocol):
    """A function that trains a pack, as goldfish.training.train.train_pack does."""

    def __call__(
        self,
        configs: Sequence[Config],
        progress: Callable[[int], None],
        *,
        checkpointing: Checkpointing | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> list[Outcome]:
        """Return an outcome for each run; raise Interrupted once `stop` is true."""


def main(connection: Connection, trainer: str) -> None:
    """Train packs until the parent says stop, or is gone.

    Sends ("ready", None) or ("broken", reason) once; then for each pack ("advance", k) as training goes on, k =
    training steps × runs newly done, and at last ("outcome", bytes of goldfish.training.outcome) for each run, or
    ("failed", reason), or ("refused", reason) for bad input, or, after SIGTERM, ("interrupted", step).
    ("ending", reason) is a failure, and its last message.
    """
    told: list[int] = []  # signals to stop
    os.environ.update(ENVIRONMENT)
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):  # the whole group gets them: the parent's business
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    _die_with_parent()
    try:
        train = _load(trainer)
    except Exception as error:
        _send(connection, "broken", describe(error))
        return
    gc.freeze()  # a full collection over Lightning's objects takes 0.3 s
    _send(connection, "ready", None)
    with suppress(EOFError, ConnectionResetError):  # the parent is gone
        while (pack := connection.recv()) is not None:
            configs, checkpointing = pack
            if not _answer(connection, train, configs, checkpointing, lambda: bool(told)):
                return


def describe(error: BaseException) -> str:
    """One line: the exception, its message's first line, and the innermost place it came from."""
    message = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{': ' if message else ''}{message}{place}"


def _die_with_parent() -> None:
    """End with the parent: an orphan must not write checkpoints beside the process that took over its runs."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    else:
        threading.Thread(target=_outlive_nobody, daemon=True).start()


def _outlive_nobody() -> None:
    """End this process when its parent has ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _load(trainer: str) -> Train:
    module, _, name = trainer.partition(":")
    function: Train = getattr(importlib.import_module(module), name)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    return function


def _answer(
    connection: Connection,
    train: Train,
    configs: Sequence[Config],
    checkpointing: Checkpointing | None,
    stop: Callable[[], bool],
) -> bool:
    """Train one pack; False where this process is of no more use.

    SystemExit is a failure like any other: Lightning turns some exceptions into it.
    """
    try:
        outcomes = train(configs, _reporter(connection), checkpointing=checkpointing, stop=stop)
        if len(outcomes) != len(configs):
            raise RuntimeError(f"{len(configs)} runs came back as {len(outcomes)} outcomes")
        frames = [dumps(outcome) for outcome in outcomes]
    except Interrupted as error:
        _send(connection, "interrupted", error.step)
    except ConfigError as error:
        _send(connection, "refused", str(error))
    except (Exception, SystemExit) as error:
        ending = _has_used_gpu()
        _send(connection, "ending" if ending else "failed", describe(error))
        return not ending
    else:
        for frame in frames:
            _send(connection, "outcome", frame)
    return True


def _has_used_gpu() -> bool:
    """Whether a failure may have ruined this process's context of the GPU: then another process goes on."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())


def _reporter(connection: Connection) -> Callable[[int], None]:
    """A progress callback that sends a few messages a second."""
    pending = 0
    last = time.monotonic()

    def advance(k: int) -> None:
        nonlocal pending, last
        pending += int(k)
        if pending and time.monotonic() - last >= INTERVAL:
            _send(connection, "advance", pending)
            pending, last = 0, time.monotonic()

    return advance


def _send(connection: Connection, kind: str, content: Any) -> None:
    try:
        connection.send((kind, content))
    except BrokenPipeError:  # the parent is gone: nobody waits for the rest
        os._exit(1)
