"""The other Pythons that goldfish is for, where one is on this machine: what needs no torch is tested on them.

A whole environment is a download of gigabytes, for the default wheels of torch bring CUDA.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHONS = [version for version in ("3.11", "3.12", "3.13") if version != f"{sys.version_info[0]}.{sys.version_info[1]}"]
PACKAGES = (
    *("hydra-core", "numpy", "scipy", "pandas", "pyarrow", "matplotlib", "filelock", "packaging", "click"),
    *("rich", "annotated-types"),
    *("pytest", "pytest-timeout", "hypothesis"),
)
TESTS = (
    *("test_architecture.py", "config/test_config.py", "papers/test_rules.py"),
    *("sweep/test_claims.py", "composing/test_grids.py", "composing/test_overrides.py", "sweep/test_packs.py"),
    *("papers/test_published.py", "papers/test_selection.py", "figures/test_statistics.py"),
)
COMPILED = """
import pathlib, sys
for file in sorted(path for folder in sys.argv[1:] for path in pathlib.Path(folder).rglob("*.py")):
    compile(file.read_bytes(), file, "exec")
"""


@pytest.fixture(scope="module", params=PYTHONS)
def python(request: pytest.FixtureRequest) -> Path:
    """One on the PATH, or one of pyenv's."""
    version = request.param
    found = [shutil.which(f"python{version}"), *sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))]
    for place in [Path(place) for place in found if place]:
        told = subprocess.run([place, "--version"], capture_output=True, text=True, check=False)
        if told.returncode == 0 and told.stdout.startswith(f"Python {version}."):
            return place
    pytest.skip(f"there is no Python {version} here")


def test_it_can_read_the_source(python: Path) -> None:
    folders = [ROOT / name for name in ("src", "tests", "experiments")]
    done = subprocess.run([python, "-W", "error", "-c", COMPILED, *folders], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_what_needs_no_torch_runs(python: Path, tmp_path: Path) -> None:
    uv = [pytest.importorskip("uv", reason="uv is not installed").find_uv_bin(), "--quiet", "--no-config"]
    here = tmp_path / "venv" / "bin" / "python"
    subprocess.run([*uv, "venv", "--python", python, tmp_path / "venv"], check=True)
    install = [*uv, "pip", "install", "--python", here]
    done = subprocess.run(
        [*install, "--constraints", ROOT / "constraints.txt", *PACKAGES], capture_output=True, text=True
    )
    if "error sending request" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    subprocess.run([*install, "--no-deps", "--editable", ROOT], check=True)
    command = [str(here), "-m", "pytest", "-q", "-p", "no:cacheprovider", *(f"tests/{name}" for name in TESTS)]
    elsewhere = {name: value for name, value in os.environ.items() if name != "CI"}  # a test that needs torch may skip
    done = subprocess.run(command, cwd=ROOT, env=elsewhere, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
