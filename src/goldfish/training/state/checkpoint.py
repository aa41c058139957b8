"""Checkpoint files of packs: written whole or not at all, checked before anything in them is loaded.

A file is three parts: a line with the magic words and the sha256 of the next line; that line, the header, as JSON; and
the state as torch.save writes it, whose length and sha256 stand in the header. A pack keeps its last two.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from goldfish import files
from goldfish.config.config import Config

KEPT = 2
_MAGIC = b"goldfish checkpoint 1"
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


class Found(NamedTuple):
    """A checkpoint that can be loaded: its file, the names of its runs, the training steps done."""

    path: Path
    names: tuple[str, ...]
    step: int


@dataclass(frozen=True)
class _Header:
    names: list[str]
    digests: list[str]  # of each run's configuration
    made: str  # the source, torch and device that it was made with
    step: int
    length: int
    sha256: str


def find(folder: Path) -> list[Found]:
    """The newest checkpoint of every pack that can be loaded; damaged ones are left out."""
    found: dict[str, Found] = {}
    for path in _newest_first(folder):
        pack = path.name[:16]
        if pack not in found and (header := _read_header(path)) and _read_state(path, header) is not None:
            found[pack] = Found(path, tuple(header.names), header.step)
    return list(found.values())


def discard(folder: Path, recorded: Collection[str]) -> None:
    """Remove the checkpoints of the packs all of whose runs are recorded, and what their writing has left behind."""
    done = set(recorded)
    packs = {
        path.name[:16] for path in _newest_first(folder) if (header := _read_header(path)) and done >= set(header.names)
    }
    for path in folder.iterdir() if packs else ():
        if path.name[:16] in packs and path.suffix in (".ckpt", ".tmp"):
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
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getbuffer()
    digests = [_digest(config) for config in configs]
    header = _Header(list(settings.names), digests, made, step, len(data), hashlib.sha256(data).hexdigest())
    line = json.dumps(asdict(header)).encode()
    top = b"%s %s\n%s\n" % (_MAGIC, hashlib.sha256(line).hexdigest().encode(), line)
    pack = hashlib.sha256("\n".join(settings.names).encode()).hexdigest()[:16]
    path = settings.folder / f"{pack}-{step:010d}.ckpt"
    try:
        files.write(path, top, data)
        _tidy(path)
    except OSError as error:
        reason = error.strerror or str(error)
        needed, free = len(top) + len(data), _free(settings.folder)
        message = f"cannot write checkpoint {path}: {reason} ({needed} bytes needed, {free} bytes free)"
        raise CheckpointError(message) from error
    return path


def newest(settings: Checkpointing, configs: Sequence[Config], made: str) -> tuple[State, list[int]] | None:
    """The state to go on from: of the last checkpoint that has all runs, and can be loaded; and the runs' rows in it.

    The pack that wrote it may have been larger, or in another order. What cannot be loaded is named in a warning.
    """
    wanted = list(zip(settings.names, [_digest(config) for config in configs], strict=True))
    candidates = []
    for path in _newest_first(settings.folder):
        header = _read_header(path)
        if header is None:
            _warn(path, "it is damaged")
        elif header.made == made and {*wanted} <= (rows := {*zip(header.names, header.digests, strict=True)}):
            candidates.append((header.step, -len(rows), path, header))
    for _, _, path, header in sorted(candidates, key=lambda item: item[:2], reverse=True):
        data = _read_state(path, header)
        state = None if data is None else _loaded(path, data)
        if data is None:
            _warn(path, "it is damaged")
        if state is not None:
            return state, [header.names.index(name) for name in settings.names]
    return None


def _loaded(path: Path, data: bytes) -> State | None:
    import torch

    if not data.startswith(b"PK"):  # torch would go on to an older format
        _warn(path, "it is no archive of torch's")
        return None
    try:
        state: State = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a forged file makes of it
        _warn(path, f"torch refuses it: {(str(error) or type(error).__name__).splitlines()[0]}")
        return None
    return state


def _warn(path: Path, reason: str) -> None:
    logging.getLogger(__name__).warning("checkpoint %s is not used: %s", path, reason)


def _digest(config: Config) -> str:
    shared = {key: value for key, value in config.items() if key != "tracking"}
    return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()


def _newest_first(folder: Path) -> Iterator[Path]:
    """The checkpoint files of a folder, which need not exist, by step."""
    files = [(int(match["step"]), path) for path in _listed(folder) if (match := _NAME.fullmatch(path.name))]
    for _, path in sorted(files, reverse=True):
        yield path


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read(path: Path, part: Callable[[io.BufferedReader], bytes]) -> bytes:
    """A part of a file; nothing where it has been removed meanwhile."""
    try:
        with path.open("rb") as file:
            return part(file)
    except FileNotFoundError:
        return b""


def _read_header(path: Path) -> _Header | None:
    """The header, None unless every bit of it is right."""
    first, _, line = _read(path, lambda file: file.readline(256) + file.readline()).partition(b"\n")
    if first != b"%s %s" % (_MAGIC, hashlib.sha256(line[:-1]).hexdigest().encode()) or line[-1:] != b"\n":
        return None
    content = json.loads(line)
    return _Header(**content) if _well_formed(content) else None


def _well_formed(content: Any) -> bool:
    """True for what `save` writes; the checksum says nothing about who made a file."""
    if not isinstance(content, dict) or set(content) != {item.name for item in fields(_Header)}:
        return False
    lists, texts, numbers = (
        [content[name] for name in names] for names in (("names", "digests"), ("made", "sha256"), ("step", "length"))
    )
    words = all(isinstance(values, list) and all(isinstance(value, str) for value in values) for values in lists)
    plain = all(isinstance(text, str) for text in texts) and all(type(number) is int for number in numbers)
    return words and plain and len(lists[0]) == len(lists[1])


def _read_state(path: Path, header: _Header) -> bytes | None:
    """What follows the header, None unless every bit of it is right."""
    data = _read(path, _after_header)
    right = len(data) == header.length and hashlib.sha256(data).hexdigest() == header.sha256
    return data if right else None


def _after_header(file: io.BufferedReader) -> bytes:
    file.readline(256)
    file.readline()
    return file.read()


def _tidy(path: Path) -> None:
    """Remove what the checkpoint just written makes useless: all of its pack but this one and the one before."""
    own = [other for other in _newest_first(path.parent) if other.name[:16] == path.name[:16]]
    place = own.index(path)
    # a later one is damaged, or of other source: training would have gone on from it
    for other in [*own[:place], *own[place + KEPT :]]:
        other.unlink(missing_ok=True)
    for other in path.parent.glob(f"{path.name[:16]}-*.tmp"):
        other.unlink(missing_ok=True)


def _free(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
