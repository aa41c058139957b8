"""Memory that this program has in use, as Linux counts it, or else psutil and getrusage.

getrusage's peak goes back to the process that started this one, which may be the larger.
"""

from __future__ import annotations

import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak() -> int:
    """The most since the program started or `forget`, in bytes."""
    if _STATUS.exists():
        return _status("VmHWM")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def now() -> int:
    """Bytes."""
    if _STATUS.exists():
        return _status("VmRSS")
    import psutil

    return int(psutil.Process().memory_info().rss)


def forget() -> None:
    """The peak begins anew. Raises OSError where the system cannot do it."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def _status(key: str) -> int:
    lines = _STATUS.read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{key}:")).split()[1])
