"""The CPU cores and GPUs that a sweep may use, determined without importing torch in this process."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from goldfish.errors import ConfigError

if TYPE_CHECKING:
    from goldfish.config.config import Config

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_FOLDER = Path("/dev")
_DEVICES = ("nvidia[0-9]*", "nvmap", "dxg", "kfd")  # NVIDIA; on Jetson; under Windows' Linux; AMD
_FREE = "import torch; print(*(torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count())))"
_PATIENCE = 120  # seconds


def check_system() -> None:
    """Raise ConfigError on Windows, which lacks the locks, signals and process groups that a sweep relies on."""
    if sys.platform == "win32":
        raise ConfigError("on Windows, sweeps and their records need WSL: wsl --install, and goldfish inside it")


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


def check(configs: Iterable[Config]) -> None:
    """Raise ConfigError when a run asks for a GPU and there is none."""
    if any(config.trainer.accelerator == "gpu" for config in configs) and not has_gpu():
        apple = "; MPS is not supported: PyTorch's LSTM gradients are wrong there" if sys.platform == "darwin" else ""
        raise ConfigError(f"trainer.accelerator=gpu: no GPU that torch can use here; expected cpu or auto{apple}")


def uses_gpu(configs: Iterable[Config]) -> bool:
    """True when any run would be trained on a GPU."""
    return any(config.trainer.accelerator != "cpu" for config in configs) and has_gpu()


def has_gpu() -> bool:
    """True when there is a GPU, it is not hidden, and torch is a build that can use it."""
    hidden = os.environ.get(_VISIBLE, "0").split(",")[0].strip() in ("", "-1")
    present = any(any(_FOLDER.glob(pattern)) for pattern in _DEVICES)
    return present and not hidden and _torch_has_gpu()


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them: those listed there, or else all."""
    if not has_gpu():
        return []
    named = os.environ.get(_VISIBLE)
    if named is None:
        return [str(index) for index in range(sum(1 for _ in _FOLDER.glob(_DEVICES[0])))] or ["0"]
    devices = []
    for name in (part.strip() for part in named.split(",")):
        if name in ("", "-1") or name in devices:  # CUDA, too, takes those before it alone
            break
        devices.append(name)
    return devices


@cache
def gpu_memory() -> tuple[int, ...]:
    """Free bytes of each GPU that this process may use, as torch sees them in a process of its own; () where unknown.

    A context on a GPU takes half a gigabyte of it: that process ends, where this one would keep it for the whole sweep.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", _FREE], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(map(int, done.stdout.split())) if done.returncode == 0 else ()


def _torch_has_gpu() -> bool:
    """True unless torch is a build for the CPU alone, as its version file says."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    version = Path(spec.origin).with_name("version.py").read_text()
    return not all(re.search(rf"^{kind}\b.*= None$", version, re.MULTILINE) for kind in ("cuda", "hip"))
