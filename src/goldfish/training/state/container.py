"""The container that a run's data are written in: a header and tensors, written whole or not at all, and checked.

A container is three parts: a line with the magic words, which end with its kind, and the sha256 of the next line; that
line, the header, as JSON, NaN and infinity as Python writes them; and the tensors as torch.save writes them, whose
length and sha256 stand in the header. Nothing in it can run when it is read, and torch is needed for tensors alone.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from goldfish import files

Header = dict[str, Any]


def dumps(kind: str, header: Mapping[str, Any], tensors: bytes) -> bytes:
    """A container as bytes; `kind` is a word and a version, such as "checkpoint 1"."""
    line = json.dumps({**header, "length": len(tensors), "sha256": _sha256(tensors)}).encode()
    return b"%s %s\n%s\n%s" % (_magic(kind), _sha256(line).encode(), line, tensors)


def loads(kind: str, data: bytes) -> tuple[Header, bytes]:
    """Header and tensors. Raises ValueError unless every bit is right."""
    file = io.BytesIO(data)
    header, tensors = _checked([kind], file.readline(256), file.readline()), file.read()
    if (header.pop("length"), header.pop("sha256")) != (len(tensors), _sha256(tensors)):
        raise ValueError(f"a damaged {kind.partition(' ')[0]} ({len(data)} bytes)")
    return header, tensors


def write(path: Path, kind: str, header: Mapping[str, Any], tensors: bytes) -> None:
    """Write a file, whole or not at all. Raises OSError."""
    files.write(path, dumps(kind, header, tensors))


def read(path: Path, kind: str) -> tuple[Header, bytes]:
    """Header and tensors of a file. Raises ValueError unless every bit is right."""
    return loads(kind, path.read_bytes())


def read_header(path: Path, *kinds: str) -> Header:
    """The header of a file of one of these kinds; its tensors are not looked at. Raises ValueError likewise."""
    with path.open("rb") as file:
        first, line = file.readline(256), file.readline()
    header = _checked(kinds, first, line)
    return {key: value for key, value in header.items() if key not in ("length", "sha256")}


def save(tensors: Mapping[str, Any]) -> bytes:
    """Tensors, numbers, strings, and lists and dictionaries of these as bytes."""
    import torch

    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return buffer.getvalue()


def load(data: bytes) -> dict[str, Any]:
    """Return what `save` was given, on the CPU. Raises torch's exceptions for a file that somebody has forged."""
    import torch

    tensors: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return tensors


def _checked(kinds: Sequence[str], first: bytes, line: bytes) -> Header:
    """The header, given the first two lines."""
    if first not in [b"%s %s\n" % (_magic(kind), _sha256(line[:-1]).encode()) for kind in kinds] or line[-1:] != b"\n":
        raise ValueError(f"no {kinds[0].partition(' ')[0]}, or a damaged one")
    header: Header = json.loads(line)
    return header


def _magic(kind: str) -> bytes:
    return f"goldfish {kind}".encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
