"""The kernels' source: one text for each cell, one for products and one for sums, from the files under source/."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from pathlib import Path

from goldfish.engines import compiled

FOLDER = "source"
GEMM = "gemm"
SUMS = "sums"
HARDWARE = "hardware"


@cache
def text(name: str) -> str:
    """The source of a cell's two kernels, of the products over whole sequences, or of sums; constants are macros."""
    files = (name,) if name in (GEMM, SUMS) else ("product", name, "forward", "backward")
    return "\n".join(map(part, (HARDWARE, "numbers", *files)))


@cache
def part(name: str) -> str:
    """One of the files under source/."""
    return (resources.files(__package__) / FOLDER / f"{name}.cuh").read_text(encoding="utf-8")


@cache
def fingerprint() -> str:
    """A hash of the whole engine: its kernels and the Python around them."""
    digest = hashlib.sha256(Path(compiled.__file__).read_bytes())
    package = resources.files(__package__)
    for folder in (package, package / FOLDER):
        for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
            if file.name.endswith((".py", ".cuh")):
                digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
