"""What a part is told, and how it tells its rows: one JSON line each, as soon as it is known."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Part:
    """A part in its own process.

    Attributes:
        name: of the part, in its rows.
        device: "cuda", or "cpu", where the CPU engine and the emulator of the kernels stand in.
        quick: a look, at small sizes.
        seconds: that it may take; it ends by itself before, see `time_left`.
        rows: the file of its rows.
        folder: where it leaves more than rows.
        resume: a folder of earlier outcomes, or "".
        more: what this part is told beside.
    """

    name: str
    device: str
    quick: bool
    seconds: float
    rows: Path
    folder: Path
    resume: str = ""
    more: tuple[str, ...] = ()
    started: float = field(default_factory=time.monotonic)

    def row(self, case: str, value: object = "", ok: bool | None = None, note: str = "") -> None:
        """Tell a row; numbers with three digits."""
        text = f"{value:.3g}" if isinstance(value, float) else str(value)
        told = {"part": self.name, "case": case, "value": text, "ok": ok, "note": note}
        with self.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(told) + "\n")

    @property
    def time_left(self) -> float:
        """Seconds until it should end by itself: nine tenths of what it may take."""
        return 0.9 * self.seconds - (time.monotonic() - self.started)

    @contextmanager
    def kernels(self) -> Iterator[str]:
        """The device on which engine=cuda runs meanwhile: the GPU, or the CPU with the emulator of the kernels."""
        if self.device == "cuda":
            yield "cuda"
            return
        from tests.engines.cuda_emulator import emulated

        from goldfish.engines.cuda import verdict

        machine = verdict.machine
        verdict.machine = lambda device: {"GPU": "emulated"}  # type: ignore[assignment]
        with tempfile.TemporaryDirectory() as folder, emulated(Path(folder)):
            try:
                yield "cpu"
            finally:
                verdict.machine = machine


def told() -> Part:
    """What this process was told by gpu_session.py."""
    given = json.loads(sys.argv[1])
    paths = {name: Path(given[name]) for name in ("rows", "folder")}
    return Part(**given | paths | {"more": tuple(given["more"])})
