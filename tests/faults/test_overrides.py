"""A hundred malformed overrides: one line each, exit code 2, and nothing is trained, recorded or left behind."""

from __future__ import annotations

import os
import string
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from goldfish.cli import main
from goldfish.sweep.progress import Report

LONG = "x" * 5000
CORPUS = (
    # keys that nobody knows
    *("sed=1", "Seed=1", "seed =1", "seeds=1", "cells=lstm", "CELL=lstm", "lr=0.1", "length=10", "hidden=3"),
    *("model=lstm", "dataset=mnist", "epochs=3", "cell.hidden=3", "cell.size=8", "task.len=10", "task.lag=3"),
    *("optimizer.learning_rate=1", "optimiser.lr=0.1", "trainer.steps=10", "trainer.epochs=1", "tracking.uri=x"),
    *("cell.hidden_size.x=3", "seed.x=1", "engine.name=cpu", "task.length.length=3", "a.b.c=1", "_target_=x"),
    # choices that are none
    *("cell=", "cell=LSTM", "cell=lstm2", "cell='lstm '", "cell=lstm.py", "cell=cells/lstm", "cell=null", "cell=3"),
    *("init=he", "init=xavier_", "task=copy", "optimizer=adamw", "trainer=cuda", "engine=gpu", "engine=null"),
    *("cell.name=lstm", "task.name=recall", "trainer.precision=16", "trainer.gradient_clip_algorithm=max"),
    # values of a wrong type or out of range
    *("seed=", "seed=null", "seed=-1", "seed=1e3", "seed='1'", "seed=true", "seed=[1]", "seed={a:1}", "seed=0x10"),
    *("task.length=-5", "task.length=1.0", "task.length=ten", "task.length='10'", "task.length=1_0.5"),
    *("cell.hidden_size=-1", "cell.hidden_size=1e2", "cell.num_layers=0", "cell.num_layers=inf"),
    *("optimizer.lr=0", "optimizer.lr=-inf", "optimizer.lr=NaN", "optimizer.lr=1,5", "optimizer.lr='0.1'"),
    *("trainer.max_steps=0", "trainer.batch_size=0.5", "trainer.validate_every=0", "trainer.evaluation_size=-1"),
    *("trainer.gradient_clip_val=0", "trainer.gradient_clip_val=no", "tracking.experiment_name=null"),
    # what does not fit together
    *("init=chrono cell=rnn", "init=critical cell=lstm", "task=digits task.length=63"),
    *("cell=gru cell.nonlinearity=relu", "cell=rnn cell.forget_bias=1"),
    # grammar
    *("=", "==", "cell", "cell==lstm", "cell:lstm", "=lstm", "seed=1 2", "seed=(1", "seed=1)", "seed=[1,2", "seed={"),
    *("seed='1", 'seed="1', "seed=\\", "seed=${", "seed=${}", "seed=$(id)", "seed=`id`"),
    *("seed=${nope:1}", "seed=${a.b}"),
    *("~seed", "~seed=1", "+seed=1", "+new=1", "++new.key=1", "++", "~", "cell@x=lstm", "@=1", "/cell=lstm",),
    *("..=1", ".=1"),
    *("seed=1,2", "cell=rnn,lstm", "seed=range(2)", "seed=choice(1,2)", "cell=glob(*)",),
    *("seed=interval(0,1)", "seed=sort(2,1)"),
    # letters that are no letters
    *("seed=１２ａ", "ѕeed=1", "seed=\u200b1", "seed=\x001", "seed=\x1b[31m1", "seed=1\n2",),
    *("cell=lstm\u202e", "\ufeffseed=1"),
    *(f"seed={LONG}", f"{LONG}=1", f"task.length={'9' * 4000}x", f"seed={'[' * 300}", "seed=" + "${seed}" * 50),
    # Hydra's own
    *("hydra=x", "hydra.nope=1", "hydra/launcher=none", "hydra/sweeper=optuna", "hydra.launcher.workers=0"),
    *("hydra.launcher.workers=two", "hydra.launcher.pack_size=-1", "hydra.launcher.rerun=yes", "hydra.mode=walk"),
)  # fmt: skip


def test_the_corpus_is_large() -> None:
    assert len(set(CORPUS)) == len(CORPUS) >= 100


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory; what is trained would be told here instead."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("goldfish.sweep.run.run_sweep", _trains)
    return tmp_path


def _trains(configs: list[dict[str, Any]], **options: Any) -> Report:
    return Report(total=len(configs))


def refused(arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(arguments)
    said = capsys.readouterr()
    assert (code, said.out) == (2, ""), arguments
    assert said.err.startswith("goldfish: ")
    assert said.err.endswith("\n")
    assert len(said.err.splitlines()) == 1
    assert said.err[:-1].isprintable()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("line", CORPUS, ids=range(len(CORPUS)))
def test_one_line(line: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = line.split() if line.startswith("init=") or " cell." in line or " task." in line else [line]
    refused(["train", *overrides], here, capsys)


SWEPT = (
    "seed=1,",
    "seed=,1",
    "seed=1,x",
    "seed=range(0)",
    "seed=range(1,2,0)",
    "cell=glob(q*)",
    "cell=rnn,nope",
    "seed=choice()",
)


@pytest.mark.parametrize("line", SWEPT)
def test_one_line_in_a_sweep(line: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(["train", "-m", "task=recall", line], here, capsys)


KEYS = (
    "seed",
    "cell",
    "init",
    "task",
    "optimizer.lr",
    "task.length",
    "trainer",
    "cell.hidden_size",
    "engine",
    "hydra.mode",
)
VALID = ("seed=3", "cell=lstm", "init=chrono", "task.length=20", "optimizer.lr=0.01", "trainer.max_steps=5")


@st.composite
def spoilt(draw: st.DrawFn) -> str:
    """A valid override into which one character was put, or from which one was taken."""
    line = draw(st.sampled_from(VALID))
    place = draw(st.integers(0, len(line) - 1))
    return line[:place] + draw(st.sampled_from([*string.punctuation, "", " ", "é", "\t"])) + line[place + 1 :]


ANYTHING = st.one_of(
    spoilt(),
    st.builds("{}={}".format, st.sampled_from(KEYS), st.text(max_size=30)),
    st.builds("{}={}".format, st.text(max_size=10), st.text(max_size=10)),
    st.text(min_size=1, max_size=40).filter(lambda text: not text.startswith("-")),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(line=ANYTHING.filter(lambda text: not text.startswith("-")))
def test_whatever_is_typed(line: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused in one line, or it means something."""
    capsys.readouterr()
    code = main(["train", line])
    said = capsys.readouterr()
    assert code == 0 or (code == 2 and len(said.err.splitlines()) == 1 and said.err[:-1].isprintable()), line
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("line", ["sed=1", "cell=LSTM", "seed=${", "hydra.launcher.workers=0", "init=chrono"])
def test_the_program(line: str, tmp_path: Path) -> None:
    """The same in a process of its own; how long it takes is printed."""
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    started = time.monotonic()
    command = [sys.executable, "-m", "goldfish", "train", line]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    print(f"{line}: {time.monotonic() - started:.2f} s")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert list(tmp_path.iterdir()) == []
