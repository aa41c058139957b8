"""What the machine has: versions, devices, tools."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
import subprocess

from benchmarks.parts.part import Part, told

NEEDED = ("torch", "pytorch-lightning", "torchmetrics", "numpy", "PyYAML", "tqdm", "pytest")
NEEDED_ON_GPU = ("cuda-core", "cuda-bindings")
WANTED = ("triton", "nvidia-cuda-nvrtc", "numba", "pandas", "scikit-learn")
NOT_NEEDED = ("hydra-core", "mlflow", "datasets")
TOOLS = ("compute-sanitizer", "ncu", "g++")


def main(part: Part) -> None:
    """Tell them; what is needed and not there is wrong."""
    from goldfish.tracking import provenance

    needed = [*NEEDED, *(NEEDED_ON_GPU if part.device == "cuda" else ())]
    part.row("Python", platform.python_version())
    for name in (*needed, *WANTED, *NOT_NEEDED):
        found = _version(name)
        part.row(name, found or "not installed", bool(found) if name in needed else None)
    _torch(part)
    for tool in TOOLS:
        part.row(tool, _first_line(tool))
    known = provenance.collect()
    part.row("machine", known["machine"])
    part.row("commit", known.get("commit", "unknown"), note="with changes" if known.get("dirty") == "true" else "")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _torch(part: Part) -> None:
    import torch

    from goldfish.engines import cuda
    from goldfish.engines.cuda import launch, verdict

    part.row("torch's CUDA", torch.version.cuda or "none")
    part.row("GPUs", torch.cuda.device_count(), torch.cuda.is_available() if part.device == "cuda" else None)
    if part.device == "cuda" and torch.cuda.is_available():
        device = torch.device("cuda", 0)
        missing = cuda._missing()
        part.row("engine=cuda", missing or "can be loaded", not missing)
        for name, value in verdict.machine(device).items() if not missing else ():
            part.row(name, value)
        part.row("multiprocessor", launch.multiprocessor(device))


def _first_line(tool: str) -> str:
    """The last line of what a tool says of its version; the others are its makers' names."""
    if shutil.which(tool) is None:
        return "not on the PATH"
    done = subprocess.run([tool, "--version"], capture_output=True, text=True, timeout=10)
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    return next((line for line in lines if "ersion" in line), lines[0] if lines else "")


if __name__ == "__main__":
    main(told())
