"""macOS and Windows, as far as Linux can play them: no /proc; no forks, locks and signals of POSIX."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import llvmlite.binding as llvm
import psutil
import pytest
import torch
from tests.sweep.stand_ins import config

from benchmarks import resident
from goldfish.cells.lstm import LSTM
from goldfish.engines import select
from goldfish.engines.cpu import passes
from goldfish.errors import ConfigError
from goldfish.recurrent import Recurrent
from goldfish.sweep import machine, pool
from goldfish.tracking import provenance

# ARM


@pytest.mark.slow
@pytest.mark.parametrize("triple", ["arm64-apple-macosx14.0.0", "aarch64-unknown-linux-gnu"])
def test_kernels_become_instructions_of_arm(triple: str, forward: str) -> None:
    """As LLVM sees it: each vector of 64 bytes becomes four, with multiply and add fused, and no library is called."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = llvm.parse_assembly(re.sub(r"^target (triple|datalayout) = .*$", "", forward, flags=re.MULTILINE))
    assembly = llvm.Target.from_triple(triple).create_target_machine(opt=2).emit_assembly(module)
    assert assembly.count("fmla") >= 4 * forward.count("call <16 x float> @llvm.fma") > 0
    assert re.findall(r"\b_?(?:fmaf?|expf?|tanhf?)$", assembly, re.MULTILINE) == []


@pytest.fixture(scope="module")
def forward() -> str:
    """LLVM's code of a kernel; what was compiled before and kept has none."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(passes.kernel_cache, "kept", lambda: nullcontext(False))
        return str(passes.forward.__wrapped__("rnn", "float32").inspect_llvm())


# macOS


@pytest.fixture
def no_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((provenance, "_PROCESSORS"), (resident, "_STATUS")):
        monkeypatch.setattr(module, name, tmp_path / "nowhere")


def test_workers_are_not_forked_on_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert pool._context("goldfish.sweep.work:train_pack", spawn=False).get_start_method() == "spawn"


ORPHAN = """
import multiprocessing, time
from goldfish.sweep import worker
if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=worker._outlive_nobody)
    process.start()
    print(process.pid, flush=True)
    time.sleep(60)
"""


def test_a_worker_ends_with_its_parent_where_the_kernel_does_not_see_to_it() -> None:
    with subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.is_running()
        parent.kill()
    psutil.wait_procs([child], timeout=30)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


@pytest.mark.usefixtures("no_proc")
def test_without_proc_the_processor_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sysctl = tmp_path / "sysctl"
    sysctl.write_text('#!/bin/sh\necho "Apple $2"\n')
    sysctl.chmod(0o700)
    monkeypatch.setattr(provenance, "_SYSCTL", str(sysctl))
    assert not provenance.machine().startswith("Apple")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert provenance.machine().startswith("Apple machdep.cpu.brand_string, ")


def test_without_proc_memory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = torch.ones(10_000_000)
    by_linux = resident.now()
    monkeypatch.setattr(resident, "_STATUS", tmp_path / "nowhere")
    assert resident.now() == pytest.approx(by_linux, rel=0.1)
    assert resident.peak() >= 0.9 * by_linux > block.nbytes


def test_apples_gpu_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    cell, mps = LSTM(hidden_size=4), torch.device("mps")
    for engine in ("auto", "eager", "stepwise", "cpu"):
        with pytest.raises(ConfigError, match=r"^device=mps: not supported, for PyTorch's LSTM gradients are wrong"):
            select.choose(engine, cell, mps, torch.float32)
    with pytest.raises(ConfigError, match=r"^device=mps: not supported"):
        Recurrent("lstm", input_size=3, device="mps")
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(machine, "has_gpu", lambda: False)
    with pytest.raises(ConfigError, match=r"trainer.accelerator=gpu: .* MPS is not supported"):
        machine.check([config(trainer={"accelerator": "gpu"})])


# Windows

WINDOWS = """
import os, signal, sys
import click, filelock, matplotlib.pyplot, numba, pandas, psutil, rich.console, scipy.stats, torch  # as they are here
import threadpoolctl

for name in ("register_at_fork", "fork", "forkpty", "getuid", "killpg", "sched_getaffinity", "sysconf"):
    delattr(os, name)
for name in ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "pthread_sigmask"):
    delattr(signal, name)
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None  # whoever imports it is told that there is none
threadpoolctl.threadpool_info = lambda: []  # no library there has GOMP_parallel
sys.platform = "win32"

import goldfish
from goldfish.cli import main

torch.set_num_threads(2)
recurrent = goldfish.Recurrent("lstm", input_size=3, hidden_size=8, replicas=2, engine="cpu")
outputs, _ = recurrent(torch.randn(2, 16, 20, 3))
with goldfish.gradient_flow(recurrent) as flow:
    outputs[:, :, -1].square().sum().backward()
print(tuple(flow.log2_norm["state"].shape), bool(flow.log2_norm["state"].isfinite().all()))
print([main(line.split()) for line in ("--version", "figures forgetting")])
print([main([command]) for command in ("train", "reproduce", "export", "status", "explain", "doctor", "ui", "bench")])
"""


@pytest.mark.slow
def test_windows_measures_and_draws_and_says_where_sweeps_run(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", WINDOWS]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    measured, *_, drawn, refused = done.stdout.splitlines()
    assert (measured, drawn, refused) == ("(2, 1, 16, 20) True", str([0] * 2), str([2] * 8))
    line = "goldfish: on Windows, sweeps and their records need WSL: wsl --install, and goldfish inside it"
    assert done.stderr.splitlines() == [line] * 8
    assert len(list(tmp_path.glob("outputs/**/*.png"))) == 3
