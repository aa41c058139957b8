"""The provenance of a run: commit, uncommitted changes, versions and machine, but never environment variables."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import goldfish

PACKAGE = Path(goldfish.__file__).parent
PACKAGES = (
    *("torch", "pytorch-lightning", "torchmetrics", "hydra-core", "mlflow", "datasets"),
    *("numpy", "scipy", "scikit-learn", "pandas", "matplotlib", "numba", "triton", "cuda-core"),
)
_PROCESSORS = Path("/proc/cpuinfo")
_SYSCTL = "/usr/sbin/sysctl"
_CHIPS = Path("/proc/driver/nvidia/gpus")


def collect() -> dict[str, str]:
    """The provenance of a run: commit, dirty, diff, versions, python, machine; no host, user or environment variable.

    `commit`, `dirty` and `diff` (the hash of what was changed since the commit) are there when the package's own source
    lies in a git checkout; torch is not imported.
    """
    described = {"versions": versions(), "python": platform.python_version(), "machine": machine()}
    return git(PACKAGE) | described


def tags(provenance: Mapping[str, str]) -> dict[str, str]:
    """Provenance as MLflow tags; MLflow's own name for the commit fills the column Version of its UI."""
    entries = {f"goldfish.{key}": value for key, value in provenance.items()}
    return entries | ({"mlflow.source.git.commit": provenance["commit"]} if "commit" in provenance else {})


def git(folder: Path) -> dict[str, str]:
    """The commit that `folder` is at; {} where git does not track it (an installed package)."""
    tracked = _git(folder, "ls-files", "--error-unmatch", "__init__.py")
    commit = _git(folder, "rev-parse", "HEAD")
    if tracked is None or commit is None:
        return {}
    status = _git(folder, "status", "--porcelain", "--untracked-files=all", "--", ".")
    if not status:
        return {"commit": commit.decode().strip(), "dirty": "false"}
    return {"commit": commit.decode().strip(), "dirty": "true", "diff": _diff(folder)}


def _diff(folder: Path) -> str:
    """The hash of everything in which `folder` differs from its commit, new files included."""
    digest = hashlib.sha256(_git(folder, "diff", "HEAD", "--binary", "--", ".") or b"")
    new = _git(folder, "ls-files", "--others", "--exclude-standard", "-z", "--", ".") or b""
    for name in sorted(filter(None, new.split(b"\0"))):
        content = hashlib.sha256((folder / os.fsdecode(name)).read_bytes()).digest()
        digest.update(name + b"\0" + content)
    return digest.hexdigest()


def _git(folder: Path, *arguments: str) -> bytes | None:
    """The output of git; None when git is missing or refuses."""
    try:
        return subprocess.run(["git", "-C", folder, *arguments], capture_output=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def versions() -> str:
    """The installed versions, such as "goldfish 0.1.0, torch 2.13.0, …"."""
    packages = [f"goldfish {goldfish.__version__}"]
    for name in PACKAGES:
        try:
            packages.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(packages)


def machine() -> str:
    """The machine, such as "Intel(R) Xeon(R) CPU @ 2.80GHz, 2 cores, NVIDIA H100 80GB HBM3"."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ", ".join([_processor(), f"{cores} core{'' if cores == 1 else 's'}", *_chips()])


def _processor() -> str:
    lines = _PROCESSORS.read_text(encoding="utf-8", errors="replace").splitlines() if _PROCESSORS.is_file() else []
    for key, _, value in (line.partition(":") for line in lines):
        if key.strip() == "model name":
            return value.strip()
    return _apple() or platform.processor() or platform.machine()


def _apple() -> str:
    """Such as "Apple M3": macOS has no /proc; "" elsewhere."""
    if sys.platform != "darwin":
        return ""
    command = [_SYSCTL, "-n", "machdep.cpu.brand_string"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _chips() -> list[str]:
    """GPU names: torch's where it is imported already, else the driver's."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    lines = (line for file in sorted(_CHIPS.glob("*/information")) for line in file.read_text().splitlines())
    return [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
