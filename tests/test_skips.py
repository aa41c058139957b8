"""The table of what was skipped, and continuous integration, which takes no new reason."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SKIPPED = """
import pytest

pytest.importorskip("no_such_module", reason={!r})
"""


@pytest.mark.parametrize(
    ("reason", "ci", "code", "row"),
    [
        ("no mount here", "true", 0, "    1  test_it.py                                no mount here"),
        (
            "bad luck",
            "true",
            1,
            "    1  test_it.py                                NEW, not in tests/skips.txt: bad luck",
        ),
        ("bad luck", "", 0, "    1  test_it.py                                NEW, not in tests/skips.txt: bad luck"),
    ],
)
def test_what_is_skipped_is_told(reason: str, ci: str, code: int, row: str, tmp_path: Path) -> None:
    for name in ("conftest.py", "skips.txt"):
        shutil.copy(HERE / name, tmp_path)
    (tmp_path / "test_it.py").write_text(SKIPPED.format(reason) + "\ndef test_it(): pass\n")
    (tmp_path / "test_other.py").write_text("def test_other(): pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, str(tmp_path)]
    environment = os.environ | {"CI": ci, "PYTEST_ADDOPTS": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout
    assert row in done.stdout.splitlines()
