"""The verdicts on the kernels, compared here and now, so that a sanitizer around this process sees every launch."""

from __future__ import annotations

import torch

from benchmarks.parts.part import Part, told


def main(part: Part) -> None:
    """A row for each cell and hidden size; under a sanitizer in float32 alone."""
    from goldfish.engines.cuda import verdict

    dtypes = ("float32",) if part.quick or part.name.startswith("sanitizer") else ("float32", "float64")
    cells = (("rnn", "tanh"),) if part.quick else (("rnn", "tanh"), ("rnn", "relu"), ("lstm", "tanh"), ("gru", "tanh"))
    with part.kernels() as device:
        for H in part.more[:1] if part.quick else part.more:
            for dtype in dtypes:
                for cell, nonlinearity in cells:
                    kernels = verdict.Asked(cell, nonlinearity, int(H), dtype)
                    if part.time_left < 0:
                        part.row(f"{kernels.label} H={H} {dtype}", "", None, "no time was left")
                        continue
                    found = verdict.compare(kernels, torch.device(device))
                    value = f"gradients within {found.worst:.1e}, norms within {found.worst_norm:.1e}"
                    part.row(f"{kernels.label} H={H} {dtype}", value, not found.reason, found.reason)


if __name__ == "__main__":
    main(told())
