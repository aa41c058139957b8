"""Whether goldfish can be installed elsewhere: uv resolves for other machines, and downloads no package for it."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "constraints.txt"
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin")
MACHINES = [(*machine, True) for machine in itertools.product(PYTHONS, PLATFORMS)]  # by constraints.txt, every extra
PLAIN = [(*machine, False) for machine in zip(PYTHONS, PLATFORMS, strict=True)]  # `pip install .`, without it
SOURCE_ONLY = ("antlr4-python3-runtime", "seqeval")  # pure Python; of all others a wheel is wanted, for each machine
# torch's wheels are for macOS 14 and later; an interpreter for what is built is there already
SETTINGS = {"MACOSX_DEPLOYMENT_TARGET": "14.0", "UV_PYTHON_DOWNLOADS": "never", "UV_NO_CONFIG": "1"}
Key = tuple[str, str, bool]
Done = subprocess.CompletedProcess[str]


def resolve(*arguments: str, given: str | None = None) -> Done:
    """Let uv resolve; what it finds is printed."""
    uv = pytest.importorskip("uv", reason="uv is not installed").find_uv_bin()
    command = [uv, "pip", "compile", "--python", sys.executable, "--no-header", "--no-annotate", *arguments]
    return subprocess.run(command, input=given, text=True, capture_output=True, env=os.environ | SETTINGS, timeout=300)


@pytest.fixture(scope="module")
def resolutions() -> Iterator[dict[Key, Future[Done]]]:
    """One for each machine, several at a time."""
    answer = resolve("-", given="filelock")
    if answer.returncode:
        pytest.skip(f"no package index can be reached: {(answer.stderr.splitlines() or [''])[-1].strip()}")
    with ThreadPoolExecutor(4) as pool:
        yield {key: pool.submit(resolve, *_arguments(*key)) for key in MACHINES + PLAIN}


def _arguments(python: str, platform: str, constrained: bool) -> list[str]:
    wheels = ["--only-binary", ":all:", *(f"--no-binary={name}" for name in SOURCE_ONLY)]
    machine = ["--python-version", python, "--python-platform", platform, *wheels, str(ROOT / "pyproject.toml")]
    return [*machine, "--all-extras", "--constraints", str(LOCK)] if constrained else machine


@pytest.mark.slow
@pytest.mark.parametrize(
    "key", MACHINES + PLAIN, ids=lambda key: f"{key[0]}-{key[1]}-{'locked' if key[2] else 'plain'}"
)
def test_it_resolves(key: Key, resolutions: dict[Key, Future[Done]]) -> None:
    """By constraints.txt, every package that is found stands in it, in that version."""
    done = resolutions[key].result()
    assert done.returncode == 0, done.stderr
    found = set(done.stdout.splitlines())
    assert {"torch", "mlflow", "numba"} <= {line.partition("==")[0] for line in found}
    if key in MACHINES:
        assert found <= {line.partition(" ;")[0] for line in LOCK.read_text(encoding="utf-8").splitlines()}


@pytest.mark.slow
def test_constraints_have_every_dependency() -> None:
    """What pyproject.toml names is pinned within what it allows; `make lock` writes constraints.txt anew."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = itertools.chain(project["dependencies"], *project["optional-dependencies"].values())
    lines = [line for line in LOCK.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    pinned: dict[str, list[str]] = {}
    for item in map(Requirement, lines):
        pinned.setdefault(canonicalize_name(item.name), []).extend(pin.version for pin in item.specifier)
    for item in map(Requirement, wanted):
        versions = pinned.get(canonicalize_name(item.name), [])
        assert versions, f"{item} is not pinned"
        assert [version for version in versions if not item.specifier.contains(version)] == [], str(item)
