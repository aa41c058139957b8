"""Outcomes that wait on the disk because the store is away: a file each, which the next command records and removes.

A file is three parts: a line with the magic words and the sha256 of the next line; that line, what is recorded with the
outcome, as JSON; and the outcome as goldfish.training.state.container writes it, which has a checksum of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from goldfish import files
from goldfish.tracking.recording import slug
from goldfish.training.outcome import Outcome
from goldfish.training.state import container

_MAGIC = b"goldfish waiting 1"
_SUFFIX, DAMAGED = ".outcome", ".damaged"


@dataclass(frozen=True)
class About:
    """What is recorded with an outcome."""

    experiment_name: str
    fingerprint: str
    sweep: str
    source_hash: str
    provenance: dict[str, str]
    since: float = 0.0

    @property
    def key(self) -> tuple[str, str]:
        """What identifies the run in the store."""
        return self.experiment_name, self.fingerprint


def put(state: Path, about: About, outcome: Outcome) -> Path:
    """Write an outcome, whole or not at all; return its file. Raises OSError."""
    line = json.dumps(asdict(about)).encode()
    head = b"%s %s\n%s\n" % (_MAGIC, hashlib.sha256(line).hexdigest().encode(), line)
    digest = hashlib.sha256("\n".join(about.key).encode()).hexdigest()[:16]  # names may share a slug
    path = _folder(state) / f"{slug(about.experiment_name)}-{digest}{_SUFFIX}"
    files.write(path, head, container.dumps(outcome))
    return path


def waiting(state: Path) -> list[Path]:
    """The files, in a fixed order."""
    return sorted(_folder(state).glob(f"*{_SUFFIX}"))


def keys(state: Path) -> Iterator[tuple[str, str]]:
    """Experiment and fingerprint of every run that waits; damaged files, and those removed meanwhile, are left out."""
    for path in waiting(state):
        try:
            with path.open("rb") as file:
                about = _about(path, file.readline(256), file.readline())
        except (FileNotFoundError, ValueError):
            continue
        yield about.key


def read(path: Path) -> tuple[About, Outcome]:
    """A file's content. Raises ValueError, which names the file, where it is damaged."""
    with path.open("rb") as file:
        about = _about(path, file.readline(256), file.readline())
        try:
            return about, container.loads(file.read())
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def set_aside(path: Path) -> Path:
    """Put a damaged file out of the way, so that its run is trained again; return its new name."""
    return path.rename(path.with_suffix(DAMAGED))


def damaged(state: Path) -> list[Path]:
    """The files that were set aside."""
    return sorted(_folder(state).glob(f"*{DAMAGED}"))


def _about(path: Path, first: bytes, line: bytes) -> About:
    if first != b"%s %s\n" % (_MAGIC, hashlib.sha256(line[:-1]).hexdigest().encode()):
        raise ValueError(f"{path}: this is no outcome that waits, or a damaged one")
    return About(**json.loads(line))


def _folder(state: Path) -> Path:
    return state / "spool"
