"""Runs the CUDA kernels under the address and the undefined-behaviour sanitizers; a program of its own.

    python -m tests.engines.cuda_sanitized FOLDER CELL:DTYPE:H …

runs a layer in every tile, forward and back, and compares the bits of all tiles. With --shifted the sums of the
backward pass start 8 bytes before they should. The sanitizers' runtime has to be there before Python: `start` sees
to that.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

FLAGS = (
    "-fsanitize=address,undefined,alignment,bounds",
    "-fno-sanitize-recover=all",
    "--param=asan-stack=0",  # fibres jump between stacks
    "-O0",
    "-g1",
)
R, T, B, D = 2, 3, 9, 3


def runtime() -> str | None:
    """The library to be loaded before Python, or None where the compiler has none."""
    from tests.engines.cuda_emulator import COMPILER

    if COMPILER is None:
        return None
    found = [
        subprocess.run(
            [COMPILER, f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    return " ".join(found) if all(Path(path).is_absolute() for path in found) else None


def start(folder: Path, *asked: str) -> subprocess.CompletedProcess[str]:
    """This program with the sanitizers' runtime, and what it said."""
    environment = os.environ | {
        "LD_PRELOAD": str(runtime()),
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
        "UBSAN_OPTIONS": "print_stacktrace=0",
    }
    command = [sys.executable, "-m", "tests.engines.cuda_sanitized", str(folder), *asked]
    root = Path(__file__).parents[2]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


def main(folder: Path, asked: list[str]) -> None:
    """Run what is asked for."""
    import torch
    from tests.engines.cuda_emulator import emulated

    from goldfish.engines.cuda import source

    torch.set_num_threads(1)
    if "--shifted" in asked:
        asked.remove("--shifted")
        part = source.part
        whole = "sums = sources + SOURCES * Backward::SOURCE;"
        shifted = whole.replace(";", " - 8 / sizeof(real);")
        assert whole in part("backward")
        source.part = lambda name: part(name).replace(whole, shifted)  # type: ignore[assignment]
    for problem in asked:
        name, dtype, H = problem.split(":")
        with emulated(folder, seed=1, flags=FLAGS) as emulator:
            outcomes = [_outcome(name, getattr(torch, dtype), int(H), rows) for rows in plan_tiles(name, dtype, int(H))]
            tiles = {dict(kernel.macros).get("ROWS", 0) for kernel in emulator.launched} - {0}
        for outcome in outcomes[1:]:
            assert all(map(torch.equal, outcome, outcomes[0])), f"{problem}: the bits depend on the tile"
        print(f"{problem}: " + (f"tiles {sorted(tiles)}" if outcomes else "beyond what an SM holds"), flush=True)


def plan_tiles(name: str, dtype: str, H: int) -> list[int]:
    """The tiles that a layer can take on an H100; none where its weights are too large."""
    from tests.engines.cuda_emulator import H100

    from goldfish.config import registry
    from goldfish.engines.cuda import plan

    cell, size = registry.load("cell", name)(hidden_size=H, num_layers=1), 8 if dtype == "float64" else 4
    return [] if plan.too_large(cell, size) else [rows for rows in plan.TILES if plan.lay_out(cell, size, rows, H100)]


def _outcome(name: str, dtype: Any, H: int, rows: int) -> list[Any]:
    """Outputs, gradients and norms of a layer of two replicas."""
    import torch

    from goldfish.config import registry
    from goldfish.engines.cuda import function
    from goldfish.engines.layers import LayerWeights, Recorder

    cell = registry.load("cell", name)(hidden_size=H, num_layers=1)
    torch.manual_seed(H)

    def draw(*shape: int) -> torch.Tensor:
        return (torch.randn(R, *shape, dtype=dtype) / 4).requires_grad_()

    G = len(cell.gates)
    weights = LayerWeights(draw(G * H, D), draw(G * H, H), draw(G * H), draw(G * H))
    inputs, initial = draw(T, B, D), tuple(draw(B, H) for _ in cell.states)
    recorder = Recorder(active=True)
    outputs, finals = function.run(cell, inputs, [weights], [initial], recorder, {}, rows=rows)
    (outputs.sum() + torch.stack([state.sum() for state in finals[0]]).sum()).backward()
    leaves = [leaf.grad for leaf in (inputs, *initial, *weights)]
    assert all(leaf is not None for leaf in leaves)
    return [outputs.detach(), *leaves, *recorder.log2_norm.values()]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
