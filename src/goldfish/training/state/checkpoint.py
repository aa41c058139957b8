"""Checkpoint files of packs: how they are written, which one training resumes from, and which are kept.

A pack keeps its last two. The header of its container names its runs and says how far they have come.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from goldfish.config.config import Config
from goldfish.training.state import container

KEPT = 2
LAYOUT = "layout 2"  # of the state
_KIND = "checkpoint 1"
_NAME = re.compile(r"(?P<pack>[0-9a-f]{16})-(?P<step>\d+)\.ckpt")

State = dict[str, Any]


@dataclass(frozen=True)
class Checkpointing:
    """Where and how often the checkpoints of a pack are written.

    Attributes:
        folder: made when first written to.
        names: one for each run of the pack, in order; a run is found again by its name.
        every_steps: a checkpoint after each multiple of so many training steps.
        minutes: a checkpoint once so much time has passed since the last one, or since the start.
        source: says which source code trains; a checkpoint of another one is not resumed.
    """

    folder: Path
    names: tuple[str, ...]
    every_steps: int | None = None
    minutes: float | None = None
    source: str = ""


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """Training was asked to stop, and did, after `step` steps."""

    def __init__(self, step: int) -> None:
        super().__init__(f"interrupted after step {step}")
        self.step = step


class CheckpointError(OSError):
    """A checkpoint cannot be written; the one before it is still there."""


class Checkpoint(NamedTuple):
    """A checkpoint that can be loaded: its file, the names of its runs, the training steps done."""

    path: Path
    names: tuple[str, ...]
    step: int


def find(folder: Path) -> list[Checkpoint]:
    """The newest checkpoint of every pack that can be loaded; damaged ones are left out."""
    newest: dict[str, Checkpoint] = {}
    for path in _newest_first(folder):
        if _pack(path) not in newest and (content := _read(path)):
            header, _ = content
            newest[_pack(path)] = Checkpoint(path, tuple(header["names"]), header["step"])
    return list(newest.values())


def discard(folder: Path, recorded: Collection[str]) -> None:
    """Remove the checkpoints of the packs all of whose runs are recorded, and what their writing has left behind."""
    done = set(recorded)
    headers = {path: _header(path) for path in _newest_first(folder)}
    packs = {_pack(path) for path, header in headers.items() if header and done >= set(header["names"])}
    for path in folder.iterdir() if packs else ():
        if _pack(path) in packs and path.suffix in (".ckpt", ".tmp"):
            path.unlink(missing_ok=True)


def save(settings: Checkpointing, configs: Sequence[Config], made: str, step: int, state: State) -> Path:
    """Write a checkpoint beside the earlier ones; of these, all but the last are removed afterwards.

    Args:
        settings: the folder, and the names of the runs.
        configs: the runs' configurations, in the same order.
        made: what else must be equal for the state to be of use, such as torch's version.
        step: training steps done.
        state: tensors, numbers, strings, and lists and dictionaries of these; runs are rows.

    Raises:
        CheckpointError: one line with the path and the free bytes; earlier checkpoints are as they were.
    """
    digests = [_digest(config) for config in configs]
    header = {"names": settings.names, "digests": digests, "made": made, "step": step}
    pack = hashlib.sha256("\n".join(settings.names).encode()).hexdigest()[:16]
    path = settings.folder / f"{pack}-{step:010d}.ckpt"
    tensors = container.save(state)
    try:
        container.write(path, _KIND, header, tensors)
        _tidy(path)
    except OSError as error:
        reason, free = error.strerror or str(error), _free(settings.folder)
        message = f"cannot write checkpoint {path}: {reason} ({len(tensors)} bytes needed, {free} bytes free)"
        raise CheckpointError(message) from error
    return path


def newest(settings: Checkpointing, configs: Sequence[Config], made: str) -> tuple[State, list[int]] | None:
    """The state to go on from: of the last checkpoint that has all runs, and can be loaded; and the runs' rows in it.

    The pack that wrote it may have been larger, or in another order. What cannot be loaded is named in a warning.
    """
    wanted = set(zip(settings.names, [_digest(config) for config in configs], strict=True))
    candidates = []
    for path in _newest_first(settings.folder):
        header = _header(path)
        if header is None:
            _warn(path, "it is damaged")
        elif header["made"] == made and wanted <= set(zip(header["names"], header["digests"], strict=True)):
            candidates.append((path, header))
    for path, header in sorted(candidates, key=lambda item: (-item[1]["step"], len(item[1]["names"]))):
        content = _read(path)
        if content is None:
            _warn(path, "it is damaged")
            continue
        try:
            state = container.load(content[1])
        except Exception as error:  # whatever a forged file makes of it
            _warn(path, f"torch refuses it: {(str(error) or type(error).__name__).splitlines()[0]}")
            continue
        return state, [header["names"].index(name) for name in settings.names]
    return None


def _warn(path: Path, reason: str) -> None:
    logging.getLogger(__name__).warning("checkpoint %s is not used: %s", path, reason)


def _digest(config: Config) -> str:
    shared = {key: value for key, value in config.plain().items() if key != "tracking"}
    return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()


def _newest_first(folder: Path) -> Iterator[Path]:
    """The checkpoint files of a folder, which need not exist, by step."""
    there = folder.iterdir() if folder.is_dir() else ()
    files = [(int(match["step"]), path) for path in there if (match := _NAME.fullmatch(path.name))]
    for _, path in sorted(files, reverse=True):
        yield path


def _pack(path: Path) -> str:
    return path.name[:16]


def _header(path: Path) -> container.Header | None:
    """The header; None of a file that is damaged, or has been removed meanwhile."""
    try:
        return container.read_header(path, _KIND)
    except (FileNotFoundError, ValueError):
        return None


def _read(path: Path) -> tuple[container.Header, bytes] | None:
    """Header and tensors; None likewise."""
    try:
        return container.read(path, _KIND)
    except (FileNotFoundError, ValueError):
        return None


def _tidy(path: Path) -> None:
    """Remove what the checkpoint just written makes useless: all of its pack but this one and the one before."""
    own = [other for other in _newest_first(path.parent) if _pack(other) == _pack(path)]
    place = own.index(path)
    # a later one is damaged, or of other source: training would have gone on from it
    for other in [*own[:place], *own[place + KEPT :]]:
        other.unlink(missing_ok=True)
    for other in path.parent.glob(f"{_pack(path)}-*.tmp"):
        other.unlink(missing_ok=True)


def _free(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    system = os.statvfs(folder)
    return system.f_bavail * system.f_frsize
