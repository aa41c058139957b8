"""What NVRTC makes of the CUDA engine's kernels, and Triton of the RNN's written for it. No GPU is needed."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from unittest.mock import patch

from benchmarks.bench import Bench, Job
from benchmarks.interleave import reason
from benchmarks.peers import triton_kernels
from benchmarks.problem import CELLS
from benchmarks.rows import Row, not_run, row
from goldfish.config import registry
from goldfish.engines.cuda import launch, plan, source

NAME = "compiled"
TITLE = "Kernels compiled for sm_90: what a block keeps where, and how long the compiler takes"
NEEDS = ()
ARCHITECTURE, HOPPER = "sm_90", plan.Multiprocessor((9, 0), 132, 227 * 1024)
BATCH = 32
HIDDEN = (32, 64, 128)
PASSES = ("forward", "backward")
_USED = r"Compiling entry function '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers"


@dataclass(frozen=True)
class Used:
    """What one pass takes: registers of a thread and bytes it spills, bytes of shared memory of a block, its rows."""

    registers: int
    spilled: int
    shared_memory: int
    rows: int  # sequences of a block


Compile = Callable[[], tuple[float, dict[str, Used]]]  # seconds, and what each pass takes


def jobs(bench: Bench) -> list[Job]:
    """A job for each cell and size."""
    sizes = HIDDEN[:1] if bench.quick else HIDDEN
    return [_job(cell, hidden) for cell in CELLS for hidden in sizes]


def _job(cell: str, hidden: int) -> Job:
    compilers: dict[str, Compile] = {"NVRTC": partial(_nvrtc, cell, hidden)}
    if cell == "rnn":
        compilers |= {f"Triton {precision}": partial(_triton, hidden, precision) for precision in triton_kernels.EXACT}
    case = f"{cell} H={hidden} B={BATCH}"
    return Job(case, lambda: [item for peer, compile_ in compilers.items() for item in _rows(case, peer, compile_)])


def _rows(case: str, peer: str, compile_: Compile) -> list[Row]:
    try:
        seconds, found = compile_()
    except Exception as error:
        return [not_run(NAME, case, peer, reason(error))]
    rows = [row(NAME, f"{case}: compiling both passes", peer, seconds)]
    for name, used in found.items():
        for what, value, unit in (
            ("registers of a thread", used.registers, ""),
            ("spilled by a thread", used.spilled, "bytes"),
            ("shared memory of a block", used.shared_memory / 1024, "KiB"),
            ("sequences of a block", used.rows, ""),
        ):
            rows.append(row(NAME, f"{case} {name}: {what}", peer, value, unit=unit))
    return rows


def _nvrtc(cell: str, hidden: int) -> tuple[float, dict[str, Used]]:
    """The CUDA engine's kernels, laid out as for one network on an H100."""
    core = importlib.import_module("cuda.core")
    built = registry.load("cell", cell)(hidden_size=hidden, num_layers=1)
    laid_out = plan.choose(built, 4, 1, BATCH, HOPPER)
    log = StringIO()
    options = core.ProgramOptions(**launch.options(laid_out.macros(), ARCHITECTURE), ptxas_options=["-v"])
    start = time.perf_counter()
    core.Program(source.text(cell), "c++", options).compile("cubin", logs=log)
    seconds = time.perf_counter() - start
    layouts = {"forward": laid_out.forward, "backward": laid_out.backward}
    return seconds, {
        name: Used(registers, spilled, layouts[name].shared_memory, laid_out.rows)
        for name, (registers, spilled) in _told(log.getvalue()).items()
        if name in layouts
    }


def _triton(hidden: int, precision: str) -> tuple[float, dict[str, Used]]:
    """The same recurrence in Triton (peers/triton_rnn.py), compiled afresh."""
    compiler = importlib.import_module("triton.compiler")
    target = importlib.import_module("triton.backends.compiler").GPUTarget("cuda", 90, 32)
    assembler = importlib.import_module("triton.backends.nvidia.compiler").get_ptxas(90)
    kernels = importlib.import_module("benchmarks.peers.triton_rnn")
    constants = {"H": hidden, "N": kernels.ROWS, "PRECISION": precision}
    options = {"num_warps": kernels.WARPS, "enable_fp_fusion": True}  # Triton's default until 3.9, which warns of it
    seconds, found = 0.0, {}
    for name in PASSES:
        kernel = getattr(kernels, name)
        pointers = kernel.arg_names.index("T")
        types = ["*fp32"] * pointers + ["i32", "i32"] + ["constexpr"] * len(constants)
        ast = compiler.ASTSource(
            fn=kernel,
            signature=dict(zip(kernel.arg_names, types, strict=True)),
            constexprs={(kernel.arg_names.index(key),): value for key, value in constants.items()},
            attrs={(index,): [["tt.divisibility", 16]] for index in range(pointers)},  # as torch's tensors lie
        )
        with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, TRITON_CACHE_DIR=folder):
            start = time.perf_counter()
            compiled = compiler.compile(ast, target=target, options=options)
            seconds += time.perf_counter() - start
            (Path(folder) / "kernel.ptx").write_text(compiled.asm["ptx"])
            done = subprocess.run(
                [assembler.path, "-v", "-arch=sm_90a", "kernel.ptx", "-o", "kernel.cubin"],
                cwd=folder, capture_output=True, text=True, check=True,
            )  # fmt: skip
        registers, spilled = _told(done.stderr)[name]
        found[name] = Used(registers, spilled, compiled.metadata.shared, kernels.ROWS)
    return seconds, found


def _told(log: str) -> dict[str, tuple[int, int]]:
    """Kernel → registers of a thread and bytes that it spills, from the assembler's words."""
    found = re.findall(_USED, log, re.DOTALL)
    return {name: (int(registers), int(stores) + int(loads)) for name, stores, loads, registers in found}


def summary(bench: Bench, rows: Sequence[Row]) -> list[Row]:
    """Nothing beyond the cases."""
    return []
