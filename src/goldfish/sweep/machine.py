"""What the machine offers a sweep, asked without importing torch."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterable
from pathlib import Path

from goldfish.config import Config


def cores() -> int:
    """The number of CPU cores this process may use: its affinity, and its control group's share where that is less."""
    if hasattr(os, "process_cpu_count"):
        count = os.process_cpu_count() or 1
    elif hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return max(1, min(count, _quota(Path("/sys/fs/cgroup/cpu.max"), count)))


def _quota(file: Path, unlimited: int) -> int:
    """Cores granted by a control group's "quota period" file; `unlimited` where there is no limit."""
    if not file.is_file():
        return unlimited
    quota, _, period = file.read_text().partition(" ")
    return unlimited if quota == "max" else max(1, int(quota) // int(period or 100_000))


def uses_gpu(configs: Iterable[Config]) -> bool:
    """True when any run would be trained on an NVIDIA GPU."""
    wanted = {config["trainer"]["accelerator"] for config in configs}
    return "gpu" in wanted or ("auto" in wanted and _nvidia() and _torch_has_cuda())


def _nvidia() -> bool:
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1")
    return not hidden and any(Path("/dev").glob("nvidia[0-9]*"))


def _torch_has_cuda() -> bool:
    """True unless torch is a build without CUDA, as its version file says."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    version = Path(spec.origin).with_name("version.py")
    return not (version.is_file() and re.search(r"^cuda\b.*= None$", version.read_text(), re.MULTILINE))
