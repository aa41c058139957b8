"""Starting the UI: its links, its port, and what is said when it cannot start."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pandas as pd
import pytest
from tests.tracking.outcomes import make_outcome, record

from goldfish.errors import ConfigError
from goldfish.tracking import ui, views
from goldfish.tracking.store import Store


def test_the_links_into_a_server_elsewhere(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """They are printed, and nothing is started."""
    remote = Store("http://tracking.example:5000/")
    monkeypatch.setattr(Store, "exists", lambda self: True)
    monkeypatch.setattr(Store, "experiments", lambda self: {"study": "7"})
    monkeypatch.setattr(views, "prepare_views", lambda store, name: None)
    assert ui.serve("study", store=remote) == 0
    query = "workflowType=machine_learning&viewStateShareKey=goldfish-averages&compareRunsMode=CHART"
    assert f"http://tracking.example:5000/#/experiments/7/runs?{query}" in capsys.readouterr().out.split()


def test_a_taken_port_is_passed_over():
    with closing(socket.socket()) as taken:
        taken.bind((ui.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = ui.free_port(port)
        assert port < found <= port + 100


@pytest.mark.parametrize("port", [0, -1, 65536, 99999])
def test_a_port_that_is_none_is_refused(port: int):
    with pytest.raises(ConfigError, match=f"--port={port}: no free port from there on; expected one from 1 to 65535"):
        ui.free_port(port)


def test_without_a_store_or_experiment_nothing_starts(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    nothing = Store(f"sqlite:///{tmp_path}/none.db")
    with pytest.raises(ConfigError, match=r"there is no store at .*none\.db; goldfish train makes one"):
        ui.serve(store=nothing)
    with pytest.raises(ConfigError, match=r"study: there is no store at"):
        ui.serve("study", store=nothing)
    record(store, make_outcome())
    with pytest.raises(ConfigError, match=r"stud: no such experiment in this store; did you mean 'study'"):
        ui.serve("stud", store=store)
    assert not (tmp_path / "none.db").exists()


def test_a_server_that_does_not_start_is_told_by_its_last_line(store: Store, monkeypatch: pytest.MonkeyPatch):
    started = subprocess.Popen
    code = "import sys; print('first', flush=True); sys.exit('the schema is wrong')"
    monkeypatch.setattr(subprocess, "Popen", lambda command, **named: started([sys.executable, "-c", code], **named))
    with pytest.raises(ConfigError, match=r"MLflow's UI did not start: the schema is wrong"), ui.running(store, 5300):
        pass


def test_sigterm_stops_it_like_ctrl_c():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), ui._stoppable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


@contextmanager
def killed(process: subprocess.Popen[str]) -> Iterator[None]:
    """A test that fails inside does not wait for it for ever."""
    try:
        yield
    finally:
        process.kill()


@pytest.mark.slow
def test_it_serves_the_right_store_and_stops_with_all_its_processes(store: Store, tmp_path: Path):
    record(store, make_outcome())
    listens = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # a background job ignores it
    code = f"{listens}; import sys; from goldfish.tracking.ui import serve; sys.exit(serve('study', port=5310))"
    command = [sys.executable, "-c", code]
    misleading = {"MLFLOW_BACKEND_STORE_URI": "sqlite:////nowhere/else.db"}
    with (
        subprocess.Popen(
            command, cwd=tmp_path, env=os.environ | misleading, stdout=subprocess.PIPE, text=True
        ) as process,
        killed(process),
    ):
        text = _until(process, "Ctrl-C")
        port = int(text.split("http://127.0.0.1:")[1].split("/")[0])
        assert "viewStateShareKey=goldfish-averages&compareRunsMode=CHART" in text
        assert "viewStateShareKey=goldfish-runs&compareRunsMode=TABLE" in text
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request("GET", "/api/2.0/mlflow/experiments/get-by-name?experiment_name=study")
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
        remote = Store(f"http://127.0.0.1:{port}")
        record(remote, make_outcome(seed=1), dataset={"name": "recall", "digest": "d", "source": "synthetic"})
        pd.testing.assert_frame_equal(remote.runs(), store.runs())
        pd.testing.assert_frame_equal(remote.curves(), store.curves())
        assert len(remote.finished("study")) == 2
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    with closing(socket.socket()) as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0, "the server is still there"
    assert not (tmp_path / "mlartifacts").exists()


def _until(process: subprocess.Popen[str], word: str) -> str:
    """What a process prints until the word."""
    assert process.stdout is not None
    text = ""
    while word not in text:
        line = process.stdout.readline()
        assert line, f"ended with {process.wait()} after: {text}"
        text += line
    return text
