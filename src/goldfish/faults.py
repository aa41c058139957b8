"""Failures of the disk, system, network or store in one line: a traceback would tell a user no more."""

from __future__ import annotations

import os
import sys

_LOADED = {  # exceptions of packages that are imported only where they are used
    "sqlite3": "Error",
    "mlflow.exceptions": "MlflowException",
    "sqlalchemy.exc": "SQLAlchemyError",
    "filelock": "Timeout",
    "goldfish.sweep.pool": "WorkerError",
    "goldfish.training.state.checkpoint": "CheckpointError",
}


def line(error: BaseException) -> str | None:
    """Return the line; None for an exception that points to an error in the program."""
    if isinstance(error, FileNotFoundError) and error.filename is None and not _here():
        return "the working directory is gone"
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(
            [*(str(name) for name in (error.filename, error.filename2) if name is not None), error.strerror]
        )
    if isinstance(error, (OSError, *_kinds())):
        told = [part.strip() for part in str(error).splitlines() if part.strip()]
        return told[0] if told else type(error).__name__
    return None


def _here() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _kinds() -> list[type[BaseException]]:
    loaded = ((sys.modules.get(module), name) for module, name in _LOADED.items())
    return [getattr(module, name) for module, name in loaded if module is not None]
