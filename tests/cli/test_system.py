"""What the system refuses: closed pipes and streams, a full disk, folders that are read-only or gone.

One process has imported the command line; it forks for each case, which ends like the program does.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DRIVER = """
import json, os, shutil, sys, tempfile
from collections import namedtuple
from goldfish.cli import main
import goldfish.cli.commands, goldfish.composing.command_line, goldfish.sweep.run, goldfish.tracking.client
Usage = namedtuple("Usage", "total used free")
answers, top = [], os.getcwd()

def nobody_reads():
    there, here = os.pipe()
    os.close(there)
    return here

def begin(how):
    if how == "read-only":
        os.chmod(".", 0o555)
    if how == "gone":
        os.rmdir(os.getcwd())
    if how == "full disk":
        goldfish.tracking.client.shutil.disk_usage = lambda place: Usage(900_000, 0, 900_000)
    number = 2 if how.startswith("stderr") else 1
    sys.stdout = sys.stderr = None
    if how.endswith("closed"):
        os.close(number)
    elif how.endswith("left"):
        os.dup2(nobody_reads(), number)
    elif how.endswith("/dev/full"):
        os.dup2(os.open("/dev/full", os.O_WRONLY), number)
    for stream, name in ((1, "stdout"), (2, "stderr")):
        if not (how.endswith("closed") and stream == number):
            setattr(sys, name, os.fdopen(stream, "w"))

for number, (how, case) in enumerate(json.load(sys.stdin)):
    os.mkdir(f"{top}/{number}")
    said = os.open(f"{top}/{number}.said", os.O_CREAT | os.O_WRONLY)
    pid = os.fork()
    if not pid:
        os.chdir(f"{top}/{number}")
        os.dup2(said, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        begin(how)
        sys.exit(main(case.split()))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    left = os.listdir(f"{top}/{number}") if os.path.isdir(f"{top}/{number}") else []
    answers.append([code, open(f"{top}/{number}.said").read(), left])
json.dump(answers, sys.stdout)
"""
TOLD = ["doctor", "status", "explain seed=3", "--help", "--version", "train --cfg job", "train --help", "export --help"]
TOLD += ["train -sc install=bash"]
TRAIN = ["train seed=1", "train -m seed=0,1", "reproduce forgetting --scale smoke"]
LOOK = ["status", "explain seed=3", "doctor", "export --to runs.csv"]
Case = tuple[str, str, tuple[int, ...], str]  # how, command, exit codes, what the one line holds; "" for none
CASES: list[Case] = [
    *(("stdout left", case, (0, 141), "") for case in TOLD),
    *(("stdout closed", case, (0,), "") for case in TOLD),
    *(("stdout /dev/full", case, (1,), "No space left on device") for case in TOLD),
    *(("stderr closed", case, (2,), "") for case in ("train cel=rnn", "trian")),
    *(("stderr left", case, (2,), "") for case in ("train cel=rnn", "trian")),
    *(("stderr /dev/full", case, (2,), "") for case in ("train cel=rnn", "trian")),
    *(("read-only", case, (1,), "Permission denied") for case in TRAIN),
    *(("full disk", case, (1,), "a new store takes 4096 kB, and 878 are free") for case in TRAIN),
    *(("gone", case, (1,), "the working directory is gone") for case in (*TRAIN, *LOOK)),
    *(("gone", case, (0,), "") for case in ("--help", "--version")),
]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Exit code, standard error and the files left of every case."""
    environment = {key: value for key, value in os.environ.items() if key not in ("MLFLOW_TRACKING_URI", "COLUMNS")}
    unprivileged = []
    if os.getuid() == 0 and shutil.which("setpriv"):
        unprivileged = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
    done = subprocess.run(
        [*unprivileged, sys.executable, "-c", DRIVER],
        cwd=tmp_path_factory.mktemp("system"),
        input=json.dumps([(how, case) for how, case, _, _ in CASES]),
        env=environment,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: list[Any] = json.loads(done.stdout)
    return answers


@pytest.mark.parametrize("index", range(len(CASES)), ids=[f"{how}: {case}" for how, case, _, _ in CASES])
def test_one_line_or_none(told: list[Any], index: int) -> None:
    how, _, codes, holds = CASES[index]
    code, said, left = told[index]
    if how == "read-only" and os.getuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("root may write anywhere, and there is no setpriv to give that up")
    assert code in codes, said
    assert left == []
    if not holds:
        assert said == ""
    else:
        assert said.startswith("goldfish: ")
        assert (said.count("\n"), said.endswith("\n")) == (1, True)
        assert holds in said


ODD = "run%201 #?'"
QUICK = ["cell=rnn", "cell.hidden_size=4", "task=recall", "task.length=4", "trainer.max_steps=4"]
QUICK += ["trainer.validate_every=4", "trainer.batch_size=4", "trainer.evaluation_size=8", "trainer.accelerator=cpu"]


@pytest.mark.slow
def test_a_run_is_trained_and_recorded_wherever_and_whoever_listens(tmp_path: Path) -> None:
    """Nobody reads standard output, standard error is closed, and paths are long and odd."""
    here, temporary = tmp_path / ODD, tmp_path / ("t" * 100)
    here.mkdir()
    temporary.mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    command = " ".join([sys.executable, "-m", "goldfish", "train", *QUICK])
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} 2>&- | head -c 0"],
        cwd=here,
        env=environment | {"TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) in ((0, ""), (141, "")), done
    from goldfish.tracking.store import Store

    assert len(Store(root=here).runs()) == 1
    assert {path.name for path in here.iterdir()} == {"mlflow.db", "mlflow.db.lock", "mlruns"}
    assert {path.name for path in tmp_path.iterdir()} == {ODD, temporary.name}
