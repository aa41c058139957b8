"""Checkpoints that are damaged, half written, cut off by a kill, or meet a full disk."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import logging
import os
import pickle
import random
import re
import resource
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.exactness import essence, interrupt

from goldfish.config.config import Config, resolve
from goldfish.training.state import checkpoint
from goldfish.training.state.checkpoint import CheckpointError, Checkpointing, Interrupted, find
from goldfish.training.train import train_pack

MADE = f"torch {torch.__version__}, cpu, {checkpoint.LAYOUT}"
STEPS = 8


@pytest.fixture(scope="module")
def configs() -> list[Config]:
    trainer = {"max_steps": STEPS, "batch_size": 5, "validate_every": 3, "evaluation_size": 9}
    shared = {"cell": {"name": "gru", "hidden_size": 8}, "task": {"name": "recall", "length": 6}, "trainer": trainer}
    return [resolve(shared | {"seed": seed}) for seed in range(2)]


@pytest.fixture(scope="module")
def expected(configs: list[Config]) -> list[dict[str, Any]]:
    return [essence(outcome) for outcome in train_pack(configs)]


def settings(folder: Path) -> Checkpointing:
    return Checkpointing(folder, ("a", "b"))


def saved(state: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def damages(data: bytes) -> Iterator[bytes]:
    """200 flipped bits, 20 truncations, and nothing."""
    chance = random.Random(4)
    top = data.index(b"\n", data.index(b"\n") + 1)
    for count, size in ((50, top), (150, len(data))):  # the first lines are short: fifty of the flips are there
        for place in chance.sample(range(8 * size), count):
            flipped = bytearray(data)
            flipped[place // 8] ^= 1 << place % 8
            yield bytes(flipped)
    for length in chance.sample(range(1, len(data)), 20):
        yield data[:length]
    yield b""


def test_every_damage_is_caught_and_the_one_before_is_loaded(
    configs: list[Config], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    interrupt(configs, settings(tmp_path), 3)
    before, _ = checkpoint.newest(settings(tmp_path), configs, MADE) or ({}, [])
    interrupt(configs, settings(tmp_path), 6)
    (last,) = find(tmp_path)
    good = last.path.read_bytes()
    right = saved(before)
    caught = 0
    for damaged in damages(good):
        last.path.write_bytes(damaged)
        caplog.clear()
        assert [found.step for found in find(tmp_path)] == [3]
        state, rows = checkpoint.newest(settings(tmp_path), configs, MADE) or ({}, [])
        assert rows == [0, 1]
        assert saved(state) == right
        assert caplog.messages == [f"checkpoint {last.path} is not used: it is damaged"]
        caught += 1
    assert caught == 221
    last.path.write_bytes(good)
    assert find(tmp_path) == [last]


@pytest.mark.parametrize("which", [0, 60, 199, 210, 220])
def test_training_goes_on_from_the_one_before(
    configs: list[Config], expected: list[dict[str, Any]], tmp_path: Path, which: int
) -> None:
    interrupt(configs, settings(tmp_path), 3)
    interrupt(configs, settings(tmp_path), 6)
    (last,) = find(tmp_path)
    last.path.write_bytes(list(damages(last.path.read_bytes()))[which])
    seen: list[int] = []
    outcomes = train_pack(configs, seen.append, checkpointing=settings(tmp_path))
    assert seen[0] == 2 * 3
    assert [essence(outcome) for outcome in outcomes] == expected


def test_where_all_are_damaged_training_starts_anew(
    configs: list[Config], expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    for step in (3, 6):
        interrupt(configs, settings(tmp_path), step)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    assert find(tmp_path) == []
    seen: list[int] = []
    outcomes = train_pack(configs, seen.append, checkpointing=settings(tmp_path))
    assert seen == [2] * STEPS
    assert [essence(outcome) for outcome in outcomes] == expected


class Evil:
    """Runs a command where it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("saving", ["torch.save", "pickle"])
def test_a_pickle_with_the_right_checksums_is_not_executed(
    configs: list[Config], tmp_path: Path, caplog: pytest.LogCaptureFixture, saving: str
) -> None:
    interrupt(configs, settings(tmp_path), 3)
    (last,) = find(tmp_path)
    evil = Evil(f"touch {tmp_path}/executed")
    data = saved({"pack": evil}) if saving == "torch.save" else pickle.dumps(evil, protocol=2)
    first, line, _ = last.path.read_bytes().split(b"\n", 2)
    header = json.loads(line) | {"step": 6, "length": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    line = json.dumps(header).encode()
    first = b"%s %s" % (first.rpartition(b" ")[0], hashlib.sha256(line).hexdigest().encode())
    forged = last.path.with_name(last.path.name.replace("03.ckpt", "06.ckpt"))
    forged.write_bytes(b"\n".join([first, line, data]))
    seen: list[int] = []
    train_pack(configs, seen.append, checkpointing=settings(tmp_path))
    assert seen[0] == 2 * 3
    assert not (tmp_path / "executed").exists()
    (warning,) = caplog.messages
    assert warning.startswith(f"checkpoint {forged} is not used: torch refuses it: Weights only load failed")
    assert "\n" not in warning


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no mount here")
    if done.returncode:
        pytest.skip(f"tmpfs cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def refused(configs: list[Config], folder: Path, step: int) -> str:
    """The error's line, where the checkpoint of a step cannot be written."""
    done: list[int] = []
    with pytest.raises(CheckpointError) as caught:
        train_pack(configs, done.append, checkpointing=settings(folder), stop=lambda: sum(done) >= step * len(configs))
    return str(caught.value)


def check_refusal(message: str, folder: Path, reason: int) -> int:
    """The free bytes that the line names."""
    text = rf"cannot write checkpoint ({folder}/\S+\.ckpt): (.+) \((\d+) bytes needed, (\d+) bytes free\)"
    match = re.fullmatch(text, message)
    assert match, message
    assert not Path(match[1]).exists()
    assert match[2] == os.strerror(reason)
    assert int(match[3]) > 10_000
    return int(match[4])


def test_a_full_disk(
    configs: list[Config], expected: list[dict[str, Any]], tmpfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint before still loads, the line names the path and the free bytes; with space, training completes."""
    monkeypatch.setenv("TMPDIR", str(tmpfs.parent / "elsewhere"))  # which is not there
    monkeypatch.setattr(tempfile, "tempdir", None)
    folder = tmpfs / "checkpoints"
    interrupt(configs, settings(folder), 3)
    before = find(folder)
    filler = tmpfs / "filler"
    found = os.statvfs(tmpfs)
    filler.write_bytes(bytes(found.f_bavail * found.f_frsize - 8192))
    for step in (5, 6):
        assert check_refusal(refused(configs, folder, step), folder, errno.ENOSPC) == 8192
        assert find(folder) == before
        assert list(folder.iterdir()) == [before[0].path]  # nothing half written is left
    filler.unlink()
    interrupt(configs, settings(folder), 6)
    seen: list[int] = []
    outcomes = train_pack(configs, seen.append, checkpointing=settings(folder))
    assert seen == [2 * 6, 2, 2]
    assert [essence(outcome) for outcome in outcomes] == expected


def test_a_file_that_may_not_grow(configs: list[Config], expected: list[dict[str, Any]], tmp_path: Path) -> None:
    """The same with a limit on the size of files, which needs no rights: writing ends halfway."""
    interrupt(configs, settings(tmp_path), 3)
    before = find(tmp_path)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limit[1]))
    try:
        message = refused(configs, tmp_path, 5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert check_refusal(message, tmp_path, errno.EFBIG) > 0
    assert list(tmp_path.iterdir()) == [before[0].path]
    assert find(tmp_path) == before
    outcomes = train_pack(configs, checkpointing=settings(tmp_path))
    assert [essence(outcome) for outcome in outcomes] == expected


def test_a_folder_that_cannot_be_made(configs: list[Config], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert check_refusal(refused(configs, tmp_path / "file", 1), tmp_path / "file", errno.EEXIST) > 0


def in_child(work: Callable[[], None]) -> int:
    """Fork a child that does nothing else; its pid."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns where there are threads
        pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(1)
    return pid


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


def state_of(step: int) -> dict[str, Any]:
    """Some 400 kB that belong to a step; NumPy makes them, for torch's threads are not there in a child."""
    return {"step": step, "values": torch.from_numpy(np.full(100_000, step, dtype=np.float32))}


class Halfway:
    """A file, of whose large parts half is written, and then no more happens."""

    def __init__(self, file: Any, stay: Callable[[], None]) -> None:
        self.file, self.stay = file, stay

    def __enter__(self) -> Halfway:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, data: bytes | memoryview) -> None:
        self.file.write(data[: len(data) // 2])
        if len(data) > 100_000:
            self.file.flush()
            self.stay()


@pytest.mark.parametrize(("moment", "survives"), [("half", 3), ("written", 3), ("renamed", 4)])
def test_killed_while_writing(
    configs: list[Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, survives: int
) -> None:
    """With half a file, before it is put in place, and before that has reached the disk."""
    checkpoint.save(settings(tmp_path), configs, MADE, 3, state_of(3))
    reached, ready = os.pipe()
    calls: list[int] = []
    whole = Path.open

    def stay() -> None:
        os.write(ready, b"!")
        time.sleep(60)

    def sync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == {"written": 1, "renamed": 2}.get(moment):
            stay()

    def work() -> None:
        monkeypatch.setattr(os, "fsync", sync)
        if moment == "half":
            monkeypatch.setattr(Path, "open", lambda *arguments: Halfway(whole(*arguments), stay))
        checkpoint.save(settings(tmp_path), configs, MADE, 4, state_of(4))

    pid = in_child(work)
    assert os.read(reached, 1) == b"!"
    kill(pid)
    assert [found.step for found in find(tmp_path)] == [survives]
    state, _ = checkpoint.newest(settings(tmp_path), configs, MADE) or ({}, [])
    assert saved(state) == saved(state_of(survives))
    assert len(list(tmp_path.glob("*.tmp"))) == (moment != "renamed")
    checkpoint.save(settings(tmp_path), configs, MADE, 5, state_of(5))
    assert not list(tmp_path.glob("*.tmp"))
    assert [found.step for found in find(tmp_path)] == [5]


def test_killed_at_random_moments(configs: list[Config], tmp_path: Path) -> None:
    """Thirty kills of a child that does nothing but write: there is always one that loads, never older than it said."""
    chance = random.Random(11)
    step = 0
    checkpoint.save(settings(tmp_path), configs, MADE, step, state_of(step))
    for _ in range(30):
        told, tell = os.pipe()

        def work(first: int = step + 1, tell: int = tell) -> None:
            for following in range(first, first + 10_000):
                checkpoint.save(settings(tmp_path), configs, MADE, following, state_of(following))
                os.write(tell, b"!")

        pid = in_child(work)
        os.close(tell)
        os.read(told, 1)
        time.sleep(chance.uniform(0, 0.02))
        kill(pid)
        with os.fdopen(told, "rb") as rest:
            written = step + 1 + len(rest.read())
        state, _ = checkpoint.newest(settings(tmp_path), configs, MADE) or ({"step": -1}, [])
        step = state["step"]
        assert step >= written
        assert saved(state) == saved(state_of(step))
        assert len(list(tmp_path.iterdir())) <= 4  # two, one more that is not yet removed, one half written


def test_sigterm_while_training_is_the_callers(configs: list[Config], tmp_path: Path, expected: list[Any]) -> None:
    """Lightning leaves the caller's handler alone: training goes on until `stop` is asked, and stops there."""
    asked: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    done: list[int] = []

    def progress(steps: int) -> None:
        done.append(steps)
        if sum(done) == 2 * 4:
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        with pytest.raises(Interrupted) as caught:
            train_pack(configs, progress, checkpointing=settings(tmp_path), stop=lambda: bool(asked))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.step == 4
    assert asked == [signal.SIGTERM]
    assert [essence(outcome) for outcome in train_pack(configs, checkpointing=settings(tmp_path))] == expected


def test_what_is_not_resumed_is_said_once(
    configs: list[Config], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A checkpoint of other runs, or of other source, is no reason for a warning."""
    caplog.set_level(logging.WARNING)
    checkpoint.save(Checkpointing(tmp_path, ("c", "d")), configs, MADE, 3, state_of(3))
    checkpoint.save(settings(tmp_path), configs, "elsewhere", 4, state_of(4))
    assert checkpoint.newest(settings(tmp_path), configs, MADE) is None
    assert caplog.messages == []
