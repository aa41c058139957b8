"""The kernels' source: one text for each cell and one for the products, from the files under source/."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

FOLDER = "source"
GEMM = "gemm"


@cache
def text(name: str) -> str:
    """The source of a cell's two kernels, or of the products over whole sequences; some constants are macros."""
    files = ("numbers", GEMM) if name == GEMM else ("numbers", "product", name, "forward", "backward")
    folder = resources.files(__package__) / FOLDER
    return "\n".join((folder / f"{file}.cuh").read_text(encoding="utf-8") for file in files)


@cache
def fingerprint() -> str:
    """A hash of the whole engine: its kernels and the Python around them."""
    digest = hashlib.sha256()
    package = resources.files(__package__)
    for folder in (package, package / FOLDER):
        for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
            if file.name.endswith((".py", ".cuh")):
                digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
