"""Inside a worker process: it trains the packs it is sent, one after another, on one thread, and sends back outcomes.

What it sends unpickles without torch, for the parent never imports it: tensors travel as the bytes of a saved file.
"""

from __future__ import annotations

import importlib
import io
import os
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from goldfish.config import Config
from goldfish.training.outcome import Outcome, Point

TRAINER = "goldfish.sweep.described:train_pack"
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

Train = Callable[[Sequence[Config], Callable[[int], None]], list[Outcome]]


def main(connection: Connection, trainer: str) -> None:
    """Train packs until the parent says stop, or is gone.

    Sends ("ready",) or ("broken", reason) once; then for each pack ("advance", k) as training goes on, k = training
    steps × runs newly done, and at last ("done", outcomes) or ("failed", reason).
    """
    os.environ.update(ENVIRONMENT)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    try:
        train = _load(trainer)
    except Exception as error:
        _send(connection, ("broken", describe(error)))
        return
    _send(connection, ("ready",))
    while (configs := _receive(connection)) is not None:
        _send(connection, _answer(train, configs, _reporter(connection)))


def describe(error: BaseException) -> str:
    """One line: the exception, its message's first line, and the innermost place it came from."""
    message = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{': ' if message else ''}{message}{place}"


def _load(trainer: str) -> Train:
    module, _, name = trainer.partition(":")
    function: Train = getattr(importlib.import_module(module), name)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    return function


def _answer(train: Train, configs: Sequence[Config], progress: Callable[[int], None]) -> tuple[Any, ...]:
    """Train one pack. SystemExit is a failure like any other: Lightning turns some exceptions into it."""
    try:
        outcomes = train(configs, progress)
        if len(outcomes) != len(configs):
            raise RuntimeError(f"{len(configs)} runs came back as {len(outcomes)} outcomes")
        return ("done", [_portable(outcome) for outcome in outcomes])
    except (Exception, SystemExit) as error:
        return ("failed", describe(error))


def _portable(outcome: Outcome) -> Outcome:
    """The outcome as plain Python values; its tensors become {"weights.pt": the bytes of torch.save}."""
    return replace(
        outcome,
        metrics={name: float(value) for name, value in outcome.metrics.items()},
        curves=[Point(quantity, phase, float(x), float(value)) for quantity, phase, x, value in outcome.curves],
        state_dict=_saved(outcome.state_dict) if outcome.state_dict else {},
    )


def _saved(state_dict: dict[str, Any]) -> dict[str, bytes]:
    import torch

    buffer = io.BytesIO()
    # A view would be saved with the whole pack's storage behind it.
    torch.save({name: value.detach().cpu().clone() for name, value in state_dict.items()}, buffer)
    return {"weights.pt": buffer.getvalue()}


def _reporter(connection: Connection) -> Callable[[int], None]:
    """A progress callback that sends a few messages a second."""
    pending = 0
    last = time.monotonic()

    def advance(k: int) -> None:
        nonlocal pending, last
        pending += int(k)
        if pending and time.monotonic() - last >= INTERVAL:
            _send(connection, ("advance", pending))
            pending, last = 0, time.monotonic()

    return advance


def _receive(connection: Connection) -> Sequence[Config] | None:
    try:
        configs: Sequence[Config] | None = connection.recv()
    except (EOFError, ConnectionResetError):  # the parent is gone
        return None
    return configs


def _send(connection: Connection, message: tuple[Any, ...]) -> None:
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    try:
        connection.send_bytes(data)
    except BrokenPipeError:  # the parent is gone: nobody waits for the rest
        os._exit(1)
