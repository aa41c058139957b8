"""Outcomes kept on disk while the store cannot be reached: one file each, recorded and removed by the next command.

A file is a container whose header says what is recorded with the outcome; the outcome takes the place of tensors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from goldfish.tracking.names import slug
from goldfish.training import outcome as outcomes
from goldfish.training.outcome import Outcome
from goldfish.training.state import container

_KIND, _FIRST = "waiting 2", "waiting 1"
_SUFFIX, DAMAGED = ".outcome", ".damaged"


@dataclass(frozen=True)
class About:
    """The data that are recorded with an outcome."""

    experiment_name: str
    fingerprint: str
    sweep: str
    source_hash: str
    provenance: dict[str, str]
    since: float = 0.0

    @property
    def key(self) -> tuple[str, str]:
        """The experiment and fingerprint that identify the run in the store."""
        return self.experiment_name, self.fingerprint


def put(state: Path, about: About, outcome: Outcome) -> Path:
    """Write an outcome, whole or not at all; return its file. Raises OSError."""
    digest = hashlib.sha256("\n".join(about.key).encode()).hexdigest()[:16]  # names may share a slug
    path = _folder(state) / f"{slug(about.experiment_name)}-{digest}{_SUFFIX}"
    container.write(path, _KIND, asdict(about), outcomes.dumps(outcome))
    return path


def waiting(state: Path) -> list[Path]:
    """The files, in a fixed order."""
    return sorted(_folder(state).glob(f"*{_SUFFIX}"))


def keys(state: Path) -> Iterator[tuple[str, str]]:
    """Experiment and fingerprint of every run that waits; damaged files, and those removed meanwhile, are left out."""
    for path in waiting(state):
        try:
            yield About(**container.read_header(path, _KIND, _FIRST)).key
        except (FileNotFoundError, ValueError):
            continue


def read(path: Path) -> tuple[About, Outcome]:
    """A file's content. Raises ValueError, which names the file, where it is damaged."""
    data = path.read_bytes()
    try:
        if data.startswith(f"goldfish {_FIRST} ".encode()):
            return About(**container.read_header(path, _FIRST)), _first_version(data.split(b"\n", 2)[2])
        header, outcome = container.loads(_KIND, data)
        return About(**header), outcomes.loads(outcome)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _first_version(data: bytes) -> Outcome:
    """An outcome as the first version wrote it: one sha256 for all that follows it."""
    first, _, rest = data.partition(b"\n")
    if first != b"goldfish outcome 1 %s" % hashlib.sha256(rest).hexdigest().encode():
        raise ValueError("no outcome, or a damaged one")
    line, _, weights = rest.partition(b"\n")
    return outcomes.of(json.loads(line), weights)


def set_aside(path: Path) -> Path:
    """Put a damaged file out of the way, so that its run is trained again; return its new name."""
    return path.rename(path.with_suffix(DAMAGED))


def damaged(state: Path) -> list[Path]:
    """The files that were set aside."""
    return sorted(_folder(state).glob(f"*{DAMAGED}"))


def _folder(state: Path) -> Path:
    return state / "spool"
