"""Memory that this program has in use, as Linux counts it.

getrusage's peak goes back to the process that started this one, which may be the larger.
"""

from __future__ import annotations

from pathlib import Path


def peak() -> int:
    """The most since the program started or `forget`, in bytes."""
    return _status("VmHWM")


def now() -> int:
    """Bytes."""
    return _status("VmRSS")


def forget() -> None:
    """The peak begins anew."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{key}:")).split()[1])
