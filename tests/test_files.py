"""The one writer of files, and the one rule of where the user's cache is."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from goldfish import files


@pytest.fixture(autouse=True)
def _nothing_said() -> None:
    files._warn.cache_clear()


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    for content in (b"1", b"22"):
        files.write(tmp_path / "deep" / "a.bin", content[:1], content[1:])
        assert (tmp_path / "deep" / "a.bin").read_bytes() == content
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["a.bin"]


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write(tmp_path / "a.bin", b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write(tmp_path / "a.bin", b"new")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a.bin", b"old")]


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$GOLDFISH_CACHE_DIR, else $XDG_CACHE_HOME, else the user's home; readable by nobody else."""
    monkeypatch.delenv("GOLDFISH_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.cache("text") == tmp_path / ".cache" / "goldfish" / "text"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert files.cache("text") == tmp_path / "xdg" / "goldfish" / "text"
    monkeypatch.setenv("GOLDFISH_CACHE_DIR", str(tmp_path / "own"))
    place = files.cache("text")
    assert place == tmp_path / "own" / "text"
    assert place.stat().st_mode & 0o077 == 0
    assert files.read_cache("text", "a") is None
    files.write_cache("text", "a", b"content")
    assert files.read_cache("text", "a") == b"content"


@pytest.mark.parametrize("place", ["a file", "/proc/goldfish", None], ids=["file", "proc", "no home"])
def test_a_cache_that_cannot_be_written(
    place: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning, and nothing is kept."""

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    (tmp_path / "a file").write_text("")
    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("GOLDFISH_CACHE_DIR", raising=False)
    if place:
        monkeypatch.setenv("GOLDFISH_CACHE_DIR", str(tmp_path / place))  # an absolute place stands for itself
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            files.write_cache("text", "a", b"1")
            assert files.read_cache("text", "a") is None
    (record,) = caplog.records
    assert "set GOLDFISH_CACHE_DIR to a folder that can be written" in record.getMessage()
