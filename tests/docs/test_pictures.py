"""The command that makes the picture of MLflow's UI says in one line what it lacks, and leaves the picture alone."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """docs/pictures.py, in an empty working directory."""
    spec = importlib.util.spec_from_file_location("pictures", ROOT / "docs" / "pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return module


@pytest.mark.parametrize(("chromium", "said"), [(None, "chromium: not installed"), ("/bin/true", "forgetting")])
def test_what_is_lacking_is_said_in_one_line(
    pictures: ModuleType,
    chromium: str | None,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if chromium:
        pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    monkeypatch.setattr(shutil, "which", lambda name: chromium)
    before = pictures.PICTURE.stat().st_mtime_ns
    assert pictures.main() == 2
    told = capsys.readouterr().err
    assert told.startswith("pictures: ")
    assert said in told
    assert told.count("\n") == 1
    assert pictures.PICTURE.stat().st_mtime_ns == before


def test_the_command_stands_under_the_picture() -> None:
    after = (ROOT / "README.md").read_text(encoding="utf-8").split("(docs/mlflow_view.png)")[1]
    assert "python docs/pictures.py" in after.strip().partition("\n\n")[0]
