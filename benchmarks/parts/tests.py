"""The tests that need a GPU, by pytest alone: no plugin of ours has to be there."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.parts.part import Part, told

ROOT = Path(__file__).resolve().parents[2]
GPU = ("tests/gpu/test_cuda_gpu.py", "tests/gpu/test_engines_gpu.py", "tests/gpu/test_repeats_gpu.py")
STAND_IN = ("tests/engines/test_cuda_plan.py",)  # where there is no GPU, these run and those are skipped
SETTINGS = """\
[pytest]
markers =
    gpu: needs a CUDA device
    slow: takes more than ten seconds
    science: trains networks
    faults: takes minutes
    sample: a smaller test
    browser: drives a browser
"""
_KINDS = "PASSED|FAILED|SKIPPED|ERROR|XFAIL|XPASS"
_ENDED = re.compile(rf"^(?P<test>tests/\S+?\.py::.+?) (?P<kind>{_KINDS})\b")
_ENDED_ELSEWHERE = re.compile(rf"^\[gw\d+\] \[ *\d+%\] (?P<kind>{_KINDS}) (?P<test>tests/.+?) *$")
WORKERS = 6  # side by side, where pytest-xdist is there: most of the time compilers work


def ended(text: str) -> list[tuple[str, str]]:
    """Each test that pytest's output tells the end of, and how it ended; alone, or by several workers."""
    found = [_ENDED.match(line) or _ENDED_ELSEWHERE.match(line) for line in text.splitlines()]
    return [(one["test"], one["kind"]) for one in found if one]


def main(part: Part) -> None:
    """A row for each test that failed, and how many there were of each kind."""
    settings, output = part.folder / "pytest.ini", part.folder / "pytest.txt"
    settings.write_text(SETTINGS, encoding="utf-8")
    files = GPU if part.device == "cuda" else (*STAND_IN, GPU[0])
    command = [
        *(sys.executable, "-m", "pytest", "-c", str(settings), "--rootdir", str(ROOT), "-v", "--tb=short", "-ra"),
        *("--import-mode=importlib", "-p", "no:cacheprovider", *files),
    ]
    if part.device == "cuda" and importlib.util.find_spec("xdist"):
        command += ["-p", "xdist.plugin", "-n", str(min(WORKERS, os.cpu_count() or 1))]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # whatever else is installed there
    cut = ""
    with output.open("w", encoding="utf-8") as file:
        try:
            code = subprocess.run(
                command, cwd=ROOT, env=environment, stdout=file, stderr=file, timeout=max(1, part.time_left)
            ).returncode
        except subprocess.TimeoutExpired:
            code, cut = 0, "there was no time for all"
    text = output.read_text(encoding="utf-8", errors="replace")
    print(text)
    counts: dict[str, int] = {}
    for test, outcome in ended(text):
        counts[outcome] = counts.get(outcome, 0) + 1
        if outcome in ("FAILED", "ERROR", "XPASS"):
            part.row(test.removeprefix("tests/"), outcome.lower(), False)
    said = ", ".join(f"{count} {outcome.lower()}" for outcome, count in counts.items())
    part.row("pytest", said or "no test ran", code == 0 and bool(counts), cut)


if __name__ == "__main__":
    main(told())
