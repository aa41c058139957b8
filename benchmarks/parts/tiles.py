"""A training step by rows of a tile, H and R: the time, and whether a replica's bits are the same in all of them."""

from __future__ import annotations

import itertools
import time
from typing import Any

import torch
from torch import Tensor

from benchmarks.parts.part import Part, told

B, D = 32, 3


def main(part: Part) -> None:
    """A row for each combination."""
    cells = ("rnn",) if part.quick else ("rnn", "gru", "lstm")
    hidden = (8,) if part.quick else (32, 128)
    replicas = (1, 2) if part.quick else (1, 16, 64)
    with part.kernels() as device:
        for cell, H in itertools.product(cells, hidden):
            expected: list[Tensor] | None = None
            for R in replicas:
                if part.time_left < 0:
                    part.row(f"{cell} H={H} R={R}", "", None, "no time was left")
                    continue
                expected = _measure(part, device, cell, H, R, expected)


def _measure(part: Part, device: str, name: str, H: int, R: int, expected: list[Tensor] | None) -> list[Tensor] | None:
    """Time every tile; the first replica's outputs and gradients are to be `expected`."""
    from goldfish.config import registry
    from goldfish.engines.cuda import function, launch, plan
    from goldfish.engines.layers import LayerWeights, Recorder

    cell = registry.load("cell", name)(hidden_size=H, num_layers=1)
    T, batch = (3, 9) if part.quick else (200, B)
    G = len(cell.gates)

    def draw(shape: tuple[int, ...], seed: int) -> Tensor:
        """Replica r's numbers depend on r alone."""
        drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(seed * 1000 + r)) for r in range(R)]
        return (torch.stack(drawn) * H**-0.5).to(device).requires_grad_()

    weights = LayerWeights(*(draw(shape, i) for i, shape in enumerate([(G * H, D), (G * H, H), (G * H,), (G * H,)])))
    inputs, initial = draw((T, batch, D), 5), tuple(draw((batch, H), 6 + k) for k in range(len(cell.states)))
    leaves = [inputs, *initial, *weights]
    pool: dict[Any, list[Tensor]] = {}

    def step(rows: int | None) -> list[Tensor]:
        for leaf in leaves:
            leaf.grad = None
        outputs, _ = function.run(cell, inputs, [weights], [initial], Recorder(active=True), pool, rows=rows)
        outputs.sum().backward()
        return [outputs.detach()[:1], *(leaf.grad[:1] for leaf in leaves if leaf.grad is not None)]

    gpu = launch.multiprocessor(torch.device(device))
    for rows in (*plan.tiles(cell, 4, batch, gpu), None):
        found = [value.clone() for value in step(rows)]
        same = expected is None or all(map(torch.equal, found, expected))
        expected = expected or found
        seconds = _seconds(lambda rows=rows: step(rows), device, 1 if part.quick else 5)
        chosen = "chosen by timing" if rows is None else f"rows={rows}"
        part.row(f"{name} H={H} R={R} {chosen}", f"{seconds * 1e3:.3g} ms", same, "" if same else "the bits differ")
    return expected


def _seconds(step: Any, device: str, times: int) -> float:
    """Seconds of a step, the fastest of some."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    found = []
    for _ in range(times):
        wait()
        before = time.perf_counter()
        step()
        wait()
        found.append(time.perf_counter() - before)
    return min(found)


if __name__ == "__main__":
    main(told())
