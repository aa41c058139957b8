"""Claims say which process is training which run, so that the same sweep started twice trains each run once.

A claim is a small file that names its owner, and an owner is a file that a process keeps locked as long as it trains.
The kernel unlocks it when the process ends, however it ends: a claim whose owner is not locked is a dead process's.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from filelock import BaseFileLock

from goldfish import files

Key = tuple[str, str]  # experiment name, fingerprint
_POLL = 0.005  # seconds between two attempts at a lock


class Claim(NamedTuple):
    """One process's statement that it is training a run.

    owner: the name of the file that the process keeps locked.
    pid, host: the process, as a person knows it.
    claimed: unix time in seconds.
    label: the run as a person knows it, such as "cell=lstm seed=3".
    sweep: the name of the sweep.
    """

    experiment: str
    fingerprint: str
    owner: str
    pid: int
    host: str
    claimed: float
    label: str
    sweep: str

    @property
    def key(self) -> Key:
        """The run that is claimed."""
        return self.experiment, self.fingerprint


class Taken(NamedTuple):
    """The result of taking claims: those that are now this process's, those of others, and the dead ones replaced."""

    mine: list[Claim]
    elsewhere: list[Claim]
    dead: list[Claim]


class Claims:
    """The claims in a folder, which is made when the first one is taken; those taken here last until `close`.

    >>> claims = Claims(folder)
    >>> mine, elsewhere, dead = claims.take([claims.of(("study", "ab…"), "seed=0", "study/cpu")])
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.owner = f"{uuid.uuid4().hex}.owner"
        self._life: BaseFileLock | None = None

    def of(self, key: Key, label: str, sweep: str) -> Claim:
        """A claim on a run, not made yet."""
        return Claim(*key, self.owner, os.getpid(), platform.node(), time.time(), label, sweep)

    def take(self, wanted: Sequence[Claim]) -> Taken:
        """Claim every run that is free, is this process's already, or was claimed by a dead process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with _lock(self.folder / "lock").acquire(poll_interval=_POLL):
            if self._life is None:
                self._begin()
            taken = Taken([], [], [])
            for item in wanted:
                path = self._path(item.key)
                before = _read(path)
                if before is not None and before.owner != self.owner and self.alive(before):
                    taken.elsewhere.append(before)
                    continue
                content = json.dumps(item._asdict()).encode()
                files.write(path, content, durable=False)  # a machine that loses its power trains nothing
                taken.mine.append(item)
                if before is not None and before.owner != self.owner:
                    taken.dead.append(before)
        return taken

    def release(self, keys: Iterable[Key]) -> None:
        """Give up claims of this process; it needs no space on the disk."""
        claims = (_read(self._path(key)) for key in keys)
        self.drop([item for item in claims if item and item.owner == self.owner])

    def close(self) -> None:
        """Give up all claims of this process."""
        if self._life is not None:
            self.drop([item for item in self.all() if item.owner == self.owner])
            (self.folder / self.owner).unlink()
            self._life.release()

    def drop(self, claims: Iterable[Claim]) -> None:
        """Remove claims, whoever made them; one that somebody has taken over meanwhile stays."""
        unwanted = list(claims)
        if not unwanted:
            return
        with _lock(self.folder / "lock").acquire(poll_interval=_POLL):
            for item in unwanted:
                path = self._path(item.key)
                if _read(path) == item:
                    path.unlink()

    def claimed(self, key: Key) -> Claim | None:
        """The claim of a process that trains a run now, if there is one."""
        claim = _read(self._path(key))
        return claim if claim is not None and self.alive(claim) else None

    def all(self) -> list[Claim]:
        """Every claim, the oldest first."""
        claims = [_read(path) for path in self.folder.glob("*.claim")]
        return sorted((item for item in claims if item is not None), key=lambda item: item.claimed)

    def alive(self, item: Claim) -> bool:
        """True while the process that claimed a run may still train it, and always for a process of another host."""
        return item.host != platform.node() or _held(self.folder / item.owner)

    def _begin(self) -> None:
        """Lock a file for as long as this process lives; what dead owners have left is removed."""
        for path in self.folder.glob("*.owner"):
            if not _held(path):
                path.unlink()
        self._life = _lock(self.folder / self.owner)
        self._life.acquire()

    def _path(self, key: Key) -> Path:
        return self.folder / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.claim"


def _lock(path: Path) -> BaseFileLock:
    """A lock of the kernel's on a file; any thread may release it."""
    from filelock import FileLock

    return FileLock(path, thread_local=False)


def _held(path: Path) -> bool:
    """Whether a process keeps a file locked; a file that another account owns is taken to be locked."""
    from filelock import Timeout

    if not path.exists():
        return False
    try:
        with _lock(path).acquire(blocking=False):
            return False
    except (Timeout, PermissionError):
        return True


def _read(path: Path) -> Claim | None:
    """A claim; None where there is none, or where a machine that lost its power left no more than a name."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    known = isinstance(content, dict) and set(content) == set(Claim._fields)
    return Claim(**content) if known else None
