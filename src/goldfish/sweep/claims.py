"""Claims: which process trains which run now, so that the same sweep started twice trains each run once.

A claim is a small file, written and removed under a kernel lock. It is worth as much as its owner is alive: no clock
and no heartbeat says so, but the kernel, which knows a process by its number, the moment it started and the boot.
Without /proc, as on macOS, psutil asks it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from goldfish import files

Key = tuple[str, str]  # experiment name, fingerprint
_PROC = Path("/proc")


class Claim(NamedTuple):
    """One process's word that it trains a run.

    pid, process_start, boot_id, host: the process; `process_start` counts clock ticks since the boot. Without /proc it
        is a unix time, and `boot_id` is empty.
    claimed: unix time in seconds.
    label: the run as a person knows it, such as "cell=lstm seed=3".
    sweep: the name of the sweep.
    """

    experiment: str
    fingerprint: str
    pid: int
    process_start: str
    boot_id: str
    host: str
    claimed: float
    label: str
    sweep: str

    @property
    def key(self) -> Key:
        """What is claimed."""
        return self.experiment, self.fingerprint


class Taken(NamedTuple):
    """What became of claims: those that were free or a dead process's, those of others, and the dead ones' own."""

    mine: list[Claim]
    elsewhere: list[Claim]
    dead: list[Claim]


def claim(key: Key, label: str, sweep: str) -> Claim:
    """A claim of this process on a run, not made yet."""
    pid = os.getpid()
    return Claim(*key, pid, _started(pid) or "", _boot_id(), platform.node(), time.time(), label, sweep)


class Claims:
    """The claims in a folder, which is made when the first one is taken.

    >>> claims = Claims(folder)
    >>> mine, elsewhere, dead = claims.take([claim(("study", "ab…"), "seed=0", "study/cpu")])
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(self, wanted: Sequence[Claim]) -> Taken:
        """Claim what is free or was a dead process's."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            taken = Taken([], [], [])
            for item in wanted:
                path = self._path(item.key)
                owner = _read(path)
                if owner is not None and self.alive(owner):
                    taken.elsewhere.append(owner)
                    continue
                content = json.dumps(item._asdict()).encode()
                files.write(path, content, durable=False)  # a machine that loses its power trains nothing
                taken.mine.append(item)
                if owner is not None:
                    taken.dead.append(owner)
        return taken

    def release(self, keys: Iterable[Key]) -> None:
        """Give up claims of this process; it needs no space on the disk."""
        me = (os.getpid(), _started(os.getpid()) or "", _boot_id(), platform.node())
        found = (_read(self._path(key)) for key in keys)
        own = [item for item in found if item and (item.pid, item.process_start, item.boot_id, item.host) == me]
        self.drop(own)

    def drop(self, claims: Iterable[Claim]) -> None:
        """Remove claims, whoever made them; one that somebody has taken over meanwhile stays."""
        unwanted = list(claims)
        if not unwanted:
            return
        with self._locked():
            for item in unwanted:
                path = self._path(item.key)
                if _read(path) == item:
                    path.unlink()

    def owner(self, key: Key) -> Claim | None:
        """The process that trains a run now, if there is one."""
        found = _read(self._path(key))
        return found if found is not None and self.alive(found) else None

    def all(self) -> list[Claim]:
        """Every claim, the oldest first."""
        found = [_read(path) for path in self.folder.glob("*.claim")]
        return sorted((item for item in found if item is not None), key=lambda item: item.claimed)

    def alive(self, item: Claim) -> bool:
        """True while the process that claimed a run may still train it; of another host's nothing is known."""
        if item.host != platform.node():
            return True
        return item.boot_id == _boot_id() and _started(item.pid) == item.process_start

    def _path(self, key: Key) -> Path:
        return self.folder / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.claim"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time, and the kernel unlocks for one that dies."""
        with (self.folder / "lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _read(path: Path) -> Claim | None:
    """A claim; None where there is none, or where a machine that lost its power left no more than a name."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    known = isinstance(content, dict) and set(content) == set(Claim._fields)
    return Claim(**content) if known else None


def _started(pid: int) -> str | None:
    """When a process started, in clock ticks since the boot; None for one that is no more."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None if (_PROC / "self" / "stat").exists() else _asked(pid)
    state, *rest = text.rpartition(")")[2].split()  # what stands before is the name, which may hold anything
    return None if state in "ZX" else rest[18]


def _asked(pid: int) -> str | None:
    """Without /proc: when a process started, in unix time; None for one that is no more."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return None


@cache
def _boot_id() -> str:
    path = _PROC / "sys" / "kernel" / "random" / "boot_id"
    return path.read_text().strip() if path.exists() else ""
