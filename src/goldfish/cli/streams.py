"""The program's standard streams: closed ones are replaced, and a reader that leaves early is not an error."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable

BROKEN_PIPE = 141  # what a shell tells of a program that SIGPIPE ended


def prepare() -> None:
    """Make the three streams usable, before anything is opened.

    A file must not get the number of a closed stream: whoever writes to standard error would write into it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            _to_nowhere(number)
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.dup(1), "w")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.dup(2), "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks "≥" still gets its answer


def guarded(command: Callable[[], int]) -> int:
    """Run a command and bring to its reader what it printed; the exit code is 141, quietly, where the reader has left.

    Raises OSError for output that cannot be written for another reason.
    """
    try:
        try:
            return command()
        finally:
            sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError) and not _unwritten():
            raise
        _to_nowhere(1)  # what is left in the buffer cannot be written when Python ends, either
        if isinstance(error, BrokenPipeError):
            return BROKEN_PIPE
        raise


def say(line: str) -> None:
    """Print a line on standard error, where anybody can still read it."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        _to_nowhere(2)


def _unwritten() -> bool:
    """Whether standard output has taken what it was given."""
    try:
        sys.stdout.flush()
    except OSError:
        return True
    return False


def _to_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)
