"""The emulated kernels under the compiler's sanitizers, where compute-sanitizer has no GPU to look at."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.parts.part import Part, told


def main(part: Part) -> None:
    """A row for each hidden size; without g++ and its sanitizers one that says so."""
    from tests.engines import cuda_sanitized

    if cuda_sanitized.runtime() is None:
        part.row("the compiler's sanitizers", "", None, "not run: there is no g++, or it has none")
        return
    with tempfile.TemporaryDirectory() as folder:
        for H in part.more[:1] if part.quick else part.more:
            done = cuda_sanitized.start(Path(folder), f"rnn:float32:{H}")
            words = (done.stderr.strip().splitlines() or [""])[0]
            part.row(f"rnn H={H} float32", done.stdout.strip(), done.returncode == 0, words if done.returncode else "")


if __name__ == "__main__":
    main(told())
